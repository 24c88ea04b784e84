#include "vmm/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace calf::vmm {

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  std::unique_ptr<EventLoop> loop(new EventLoop);
  loop->epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  if (!loop->epoll_.valid()) return Error::from_errno(errno, "Could not create an epoll instance");
  loop->wake_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!loop->wake_.valid()) return Error::from_errno(errno, "Could not create an eventfd");
  int wake = loop->wake_.get();
  TRY_VOID(loop->add(wake, EPOLLIN, [wake](uint32_t) {
    uint64_t count;
    // The counter only wakes the loop; an empty one is as good.
    [[maybe_unused]] ssize_t n = ::read(wake, &count, sizeof count);
  }));
  return loop;
}

Result<void> EventLoop::add(int fd, uint32_t events, Callback callback) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0) {
    return Error::from_errno(errno, "Could not watch a file descriptor");
  }
  watched_[fd] = std::make_shared<Callback>(std::move(callback));
  return {};
}

Result<void> EventLoop::modify(int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) < 0) {
    return Error::from_errno(errno, "Could not change what is watched of a file descriptor");
  }
  return {};
}

void EventLoop::remove(int fd) {
  if (watched_.erase(fd) != 0) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void EventLoop::post(std::function<void()> work) {
  {
    std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(work));
  }
  uint64_t one = 1;
  // Fails only if the counter is full, and then the loop wakes anyway.
  [[maybe_unused]] ssize_t n = ::write(wake_.get(), &one, sizeof one);
}

void EventLoop::run_posted() {
  std::deque<std::function<void()>> work;
  {
    std::lock_guard lock(posted_mutex_);
    work.swap(posted_);
  }
  for (auto& item : work)
    item();
}

void EventLoop::run() {
  stopped_ = false;
  while (true) {
    run_posted();
    if (stopped_) return;
    std::array<epoll_event, 16> events;
    int count = epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    for (int i = 0; i < count; ++i) {
      // Looked up one by one: an earlier callback of this round may have removed it.
      auto it = watched_.find(events[i].data.fd);
      if (it == watched_.end()) continue;
      std::shared_ptr<Callback> callback = it->second;
      (*callback)(events[i].events);
    }
  }
}

void EventLoop::stop() {
  post([this] { stopped_ = true; });
}

}  // namespace calf::vmm
