// Synchronisation between coroutines of one executor. Nothing here is for threads: all callers run
// on the executor's thread.
//
// Waiters are resumed in order of arrival, through the executor's ready queue (never inside
// unlock(), so a holder's code is not re-entered).
#pragma once

#include <cassert>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "block/base/task.h"
#include "block/io/executor.h"

namespace calf {

// A queue of suspended coroutines.
class WaitQueue {
 public:
  explicit WaitQueue(Executor& executor) : executor_(&executor) {}
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;
  ~WaitQueue() { assert(waiters_.empty()); }

  // co_await queue.wait(): suspends until a wake reaches it.
  auto wait() {
    struct Awaiter {
      WaitQueue* queue;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> handle) { queue->add(handle); }
      void await_resume() const noexcept {}
    };
    return Awaiter{this};
  }
  // The same for an awaiter of another kind, which is suspended.
  void add(std::coroutine_handle<> waiter) { waiters_.push_back(waiter); }
  // False if nobody waits.
  bool wake_one() {
    if (waiters_.empty()) return false;
    executor_->make_ready(waiters_.front());
    waiters_.pop_front();
    return true;
  }
  void wake_all() {
    while (wake_one()) {
    }
  }
  bool empty() const { return waiters_.empty(); }

 private:
  Executor* executor_;
  std::deque<std::coroutine_handle<>> waiters_;
};

// Mutual exclusion, first come first served.
//
//   AsyncMutex::Guard guard = co_await mutex.lock();
class AsyncMutex {
 public:
  explicit AsyncMutex(Executor& executor) : queue_(executor) {}

  class [[nodiscard]] Guard {
   public:
    Guard() = default;
    explicit Guard(AsyncMutex* mutex) : mutex_(mutex) {}
    Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&& other) noexcept {
      unlock();
      mutex_ = std::exchange(other.mutex_, nullptr);
      return *this;
    }
    ~Guard() { unlock(); }
    void unlock() {
      if (mutex_ != nullptr) std::exchange(mutex_, nullptr)->release();
    }

   private:
    AsyncMutex* mutex_ = nullptr;
  };

  // co_await mutex.lock(): a Guard. Taking a free lock costs no coroutine.
  auto lock() {
    struct Awaiter {
      AsyncMutex* mutex;
      bool await_ready() const noexcept { return !std::exchange(mutex->locked_, true); }
      void await_suspend(std::coroutine_handle<> handle) { mutex->queue_.add(handle); }
      // A woken waiter is handed the lock: locked_ stays true, so nobody overtakes it.
      Guard await_resume() const noexcept { return Guard(mutex); }
    };
    return Awaiter{this};
  }
  bool locked() const { return locked_; }

 private:
  void release() {
    if (!queue_.wake_one()) locked_ = false;
  }
  bool locked_ = false;
  WaitQueue queue_;
};

// A counted bound, e.g. on requests in flight.
class AsyncSemaphore {
 public:
  AsyncSemaphore(Executor& executor, uint64_t count) : count_(count), queue_(executor) {}
  // co_await semaphore.acquire().
  auto acquire() {
    struct Awaiter {
      AsyncSemaphore* semaphore;
      bool await_ready() const noexcept {
        if (semaphore->count_ == 0 || !semaphore->queue_.empty()) return false;
        --semaphore->count_;
        return true;
      }
      void await_suspend(std::coroutine_handle<> handle) { semaphore->queue_.add(handle); }
      void await_resume() const noexcept {}  // release() hands its unit over
    };
    return Awaiter{this};
  }
  void release() {
    if (!queue_.wake_one()) ++count_;
  }

 private:
  uint64_t count_;
  WaitQueue queue_;
};

// Many readers or one writer, in order of arrival: a waiting writer holds back later readers.
class AsyncSharedMutex {
 public:
  explicit AsyncSharedMutex(Executor& executor) : queue_(executor) {}

  Task<void> lock_shared() {
    while (writer_ || writers_waiting_ != 0)
      co_await queue_.wait();
    ++readers_;
  }
  void unlock_shared() {
    assert(readers_ > 0);
    if (--readers_ == 0) queue_.wake_all();
  }
  Task<void> lock() {
    ++writers_waiting_;
    while (writer_ || readers_ != 0)
      co_await queue_.wait();
    --writers_waiting_;
    writer_ = true;
  }
  void unlock() {
    assert(writer_);
    writer_ = false;
    queue_.wake_all();
  }

 private:
  bool writer_ = false;
  uint64_t readers_ = 0;
  uint64_t writers_waiting_ = 0;
  WaitQueue queue_;
};

namespace detail {
template <class T>
Task<void> run_one(Task<T> task, std::optional<T>* out, size_t* left, WaitQueue* done) {
  out->emplace(co_await task);
  if (--*left == 0) done->wake_all();
}
}  // namespace detail

// Runs all tasks side by side and returns their results in order.
template <class T>
Task<std::vector<T>> when_all(Executor& executor, std::vector<Task<T>> tasks) {
  std::vector<std::optional<T>> results(tasks.size());
  size_t left = tasks.size();
  WaitQueue done(executor);
  for (size_t i = 0; i < tasks.size(); ++i) {
    executor.spawn(detail::run_one(std::move(tasks[i]), &results[i], &left, &done));
  }
  // Single-threaded: nothing can finish between the test and the wait.
  if (left != 0) co_await done.wait();
  std::vector<T> out;
  out.reserve(results.size());
  for (auto& result : results)
    out.push_back(std::move(*result));
  co_return out;
}

// Runs all tasks side by side, waits for every one of them, and returns the first error in order if
// there was any.
inline Async<> all_succeed(Executor& executor, std::vector<Async<>> tasks) {
  std::vector<Result<void>> results = co_await when_all(executor, std::move(tasks));
  for (Result<void>& result : results) {
    if (!result.ok()) co_return std::move(result.error());
  }
  co_return Result<void>();
}

}  // namespace calf
