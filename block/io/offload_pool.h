// A few threads for work that would hold up an executor: compression, ciphers, system calls without
// asynchronous form.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace calf {

class OffloadPool {
 public:
  // Threads are started as work comes, up to `max_threads` (0: one per processor, at least 2 and at
  // most 16).
  explicit OffloadPool(unsigned max_threads = 0);
  // Finishes what was given, then joins.
  ~OffloadPool();
  OffloadPool(const OffloadPool&) = delete;
  OffloadPool& operator=(const OffloadPool&) = delete;

  // Any thread. Work runs in order of arrival, on any of the threads.
  void run(std::function<void()> work);
  unsigned max_threads() const { return max_threads_; }

 private:
  void worker();

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> queue_;
  std::vector<std::thread> threads_;
  unsigned max_threads_;
  unsigned idle_ = 0;
  bool stopping_ = false;
};

}  // namespace calf
