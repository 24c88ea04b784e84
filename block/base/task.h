// Task<T>: the one coroutine type.
//
// A task is lazy: it starts when it is awaited (or handed to an executor). If it ends without
// having been suspended, its awaiter simply goes on, so a loop over tasks that need not wait uses
// no stack, optimised or not; else it resumes its awaiter when it ends. It runs on the thread of
// the executor that drives it and never moves. A task owns its frame; destroying a task that is
// suspended in the middle is allowed only when nothing will resume it.
//
// Async<T> is Task<Result<T>>, the return type of everything that does I/O.
//
// Parameters live in the frame only if passed by value: a coroutine takes references only to what
// outlives the await (the usual case: members, and locals of the awaiting coroutine). Mind the
// compiler defects listed in docs/development.md.
#pragma once

#include <cassert>
#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "block/base/frame_pool.h"
#include "block/base/result.h"

namespace calf {

template <class T>
class Task;

namespace detail {

struct PromiseBase : PooledFrame {
  std::coroutine_handle<> continuation = std::noop_coroutine();
  // The awaiter is still inside await_suspend(): it finds out itself if the task ends now.
  bool starting = false;

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> self) noexcept {
      if (self.promise().starting) return std::noop_coroutine();
      return self.promise().continuation;
    }
    void await_resume() noexcept {}
  };

  std::suspend_always initial_suspend() noexcept { return {}; }
  FinalAwaiter final_suspend() noexcept { return {}; }
  // Errors are values here; an exception that reaches a coroutine's edge is a bug (or bad_alloc),
  // and state is unknown.
  void unhandled_exception() noexcept { std::terminate(); }
};

template <class T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object();
  template <class U>
  void return_value(U&& v) {
    value.emplace(std::forward<U>(v));
  }
  T take() { return std::move(*value); }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object();
  void return_void() {}
  void take() {}
};

}  // namespace detail

template <class T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool valid() const { return static_cast<bool>(handle_); }

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> awaiter) noexcept {
    assert(handle_);
    handle_.promise().continuation = awaiter;
    handle_.promise().starting = true;
    handle_.resume();
    handle_.promise().starting = false;
    return !handle_.done();
  }
  T await_resume() { return handle_.promise().take(); }

 private:
  Handle handle_;
};

template <class T = void>
using Async = Task<Result<T>>;

namespace detail {
template <class T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

// A coroutine that nobody awaits: it starts at once and frees itself when it ends.
struct Detached {
  struct promise_type : PooledFrame {
    Detached get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};
}  // namespace detail

}  // namespace calf
