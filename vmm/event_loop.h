// EventLoop: the control thread's epoll loop. Signals, consoles, sockets and timers hang here.
//
// All members but post() and stop() belong to the thread that runs the loop (before run(): to
// whoever builds). A callback may add and remove descriptors, its own too.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "block/base/fd.h"
#include "block/base/result.h"

namespace calf::vmm {

class EventLoop {
 public:
  // Called with the epoll events that are there (EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR).
  using Callback = std::function<void(uint32_t events)>;

  static Result<std::unique_ptr<EventLoop>> create();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Watches `fd`, which is not owned, level-triggered. Events 0 still report hang-up and error.
  // Fails with kPermission for what cannot be polled (a regular file, which is always ready).
  Result<void> add(int fd, uint32_t events, Callback callback);
  // Changes what is waited for.
  Result<void> modify(int fd, uint32_t events);
  // Before the descriptor is closed. No callback for it follows.
  void remove(int fd);

  // Any thread: runs `work` on the loop's thread soon.
  void post(std::function<void()> work);

  // Returns after stop(). May be called again.
  void run();
  // Any thread.
  void stop();

 private:
  EventLoop() = default;
  void run_posted();

  Fd epoll_;
  Fd wake_;
  bool stopped_ = false;  // own thread
  // Shared ownership: a callback that removes itself stays alive until it returns.
  std::unordered_map<int, std::shared_ptr<Callback>> watched_;
  std::mutex posted_mutex_;
  std::deque<std::function<void()>> posted_;
};

}  // namespace calf::vmm
