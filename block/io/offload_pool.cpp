#include "block/io/offload_pool.h"

#include <sched.h>

#include <algorithm>
#include <utility>

namespace calf {
namespace {

// That this process may use. Asked of the kernel directly: the library reads a file for it.
unsigned processors() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return std::thread::hardware_concurrency();
  return static_cast<unsigned>(CPU_COUNT(&set));
}

}  // namespace

OffloadPool::OffloadPool(unsigned max_threads)
    : max_threads_(max_threads != 0 ? max_threads : std::clamp(processors(), 2u, 16u)) {}

OffloadPool::~OffloadPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_.notify_all();
  for (std::thread& thread : threads_)
    thread.join();
}

void OffloadPool::run(std::function<void()> work) {
  std::lock_guard lock(mutex_);
  queue_.push_back(std::move(work));
  if (idle_ < queue_.size() && threads_.size() < max_threads_) {
    threads_.emplace_back([this] { worker(); });
  }
  ready_.notify_one();
}

void OffloadPool::worker() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    ready_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    --idle_;
    if (queue_.empty()) return;
    std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    work();
    work = nullptr;
    lock.lock();
  }
}

}  // namespace calf
