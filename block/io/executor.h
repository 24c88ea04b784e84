// Executor: one thread, one ring, and the coroutines that run there.
//
//     run(task) or a thread in run_until_stopped()
//        |   resume what is ready  ->  submit what they queued  ->  wait for completions or a
//        post()
//
// All members but post(), run_blocking() and stop() belong to the executor's own thread. I/O
// awaitables return what the system call would: a count, or -errno. Nothing above block/ uses them
// directly; nodes turn them into Result.
//
// The engine below is io_uring, or, where the host refuses it (sysctl kernel.io_uring_disabled, a
// seccomp filter), a few threads that make the system calls, behind the same IoEngine interface.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <semaphore>
#include <type_traits>
#include <vector>

#include "block/base/fd.h"
#include "block/base/result.h"
#include "block/base/task.h"
#include "block/io/idle_poller.h"
#include "block/io/io_engine.h"
#include "block/io/lone_transfers.h"
#include "block/io/offload_pool.h"

namespace calf {

namespace detail {
template <class Fn>
struct OffloadAwaiter;
}

class Executor {
 public:
  enum class Engine : uint8_t {
    kAuto,   // io_uring if the host allows it, else threads
    kUring,  // an error that says what forbids it, if it is not to be had
    kThreads,
  };
  struct Options {
    Engine engine = Engine::kAuto;
    // Where offload() work runs; not owned, may be shared by executors. Null: a small pool of its
    // own, made at first use.
    OffloadPool* pool = nullptr;
    // Nobody waits for this thread but for the whole of its work, as in a tool: what changes a
    // file's blocks, what copies to the page cache while there is nothing else to do, and
    // transfers that come one by one (lone_transfers.h) are done here and now. io_uring would hand
    // most of it to a thread of the kernel, which costs more than it takes unless this one goes on
    // meanwhile.
    bool alone = false;
  };

  static Result<std::unique_ptr<Executor>> create(Options options);
  static Result<std::unique_ptr<Executor>> create() { return create(Options{}); }
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // From now on others wait for this thread (Options::alone).
  void serve_others() { alone_ = false; }

  // "io_uring" or "threads".
  const char* engine_name() const { return engine_->name(); }
  // How often its thread entered the kernel for I/O (IoEngine::entries()). Any thread.
  uint64_t entries() const { return engine_->entries(); }

  // Drives the loop on the calling thread until `task` has ended. Other spawned tasks make progress
  // too.
  template <class T>
  T run(Task<T> task);

  // Drives the loop on the calling thread until stop() was called and every spawned task has ended.
  void run_until_stopped();
  // Any thread.
  void stop();

  // Starts `task`; nobody waits for it. Own thread.
  void spawn(Task<void> task);

  // Any thread: `work` runs on the executor's thread soon.
  void post(std::function<void()> work);

  // Another thread than the executor's, while that one is in run_until_stopped(): runs `task` there
  // and waits for its end.
  template <class T>
  T run_blocking(Task<T> task);

  // ---- Awaitables, own thread ----
  // The IoOp lives in the awaiter, hence in the awaiting coroutine's frame; iovec arrays outlive
  // the await.
  struct IoAwaiter;
  // What a transfer is for a processor: with the page cache it is a copy, by whichever thread makes
  // it.
  enum class Copy : uint8_t {
    kNone,   // the device moves the bytes
    kSmall,  // over before another thread had heard of it
    kLarge,
  };
  IoAwaiter readv(IoFile file, const iovec* iov, unsigned count, uint64_t offset,
                  Copy copy = Copy::kNone);
  IoAwaiter writev(IoFile file, const iovec* iov, unsigned count, uint64_t offset, int rw_flags = 0,
                   Copy copy = Copy::kNone);
  IoAwaiter fdatasync(IoFile file);
  IoAwaiter fallocate(int fd, int mode, uint64_t offset, uint64_t length);
  // The new descriptor or -errno. `path` outlives the await.
  IoAwaiter open(const char* path, int flags, mode_t permissions = 0);
  // Ready when `fd` is readable (eventfd, socket). Returns poll's events or -errno.
  IoAwaiter poll_in(int fd);
  // Returns 0 when the time has come.
  IoAwaiter sleep_until(std::chrono::steady_clock::time_point when);

  // See IoEngine; KeptFile does it for those that are worth it.
  int keep_file(int fd) { return engine_->keep_file(fd); }
  void drop_file(int slot) { engine_->drop_file(slot); }

  // Ends a poll_in() or sleep_until() of this executor early: it returns -ECANCELED. Harmless if it
  // has ended already.
  void cancel(IoOp& op) { engine_->cancel(op); }

  // Runs `fn` on a worker thread and returns its result here: for compression, ciphers and system
  // calls without an asynchronous form. `fn` takes no arguments and may not touch anything of the
  // executor.
  template <class Fn>
  auto offload(Fn fn);
  // The same for work that comes in numbers and takes no longer than packing a cluster: while there
  // is enough of it for all workers, a few answers are taken at once, so that they do not have to
  // give a processor to this thread for each.
  template <class Fn>
  auto offload_batched(Fn fn);
  // The same for what is over at once, unless the disk has to be asked: who is alone
  // (Options::alone) does it here and now.
  template <class Fn>
  auto offload_brief(Fn fn);

  // Lets other ready coroutines run first.
  auto yield();

  // `poller` is looked at while there is nothing to do (idle_poller.h). Own thread.
  void add_poller(IdlePoller& poller) { pollers_.push_back(&poller); }
  void remove_poller(IdlePoller& poller) { std::erase(pollers_, &poller); }

  // Puts a suspended coroutine in the queue of those that run next. For synchronisation primitives.
  // Own thread.
  void make_ready(std::coroutine_handle<> handle) { ready_.push_back(handle); }

 private:
  template <class Fn>
  friend struct detail::OffloadAwaiter;
  Executor(std::unique_ptr<IoEngine> engine, const Options& options);
  static detail::Detached drive(Executor* self, Task<void> task);
  // Rounds of the loop until `ended()`, which is asked before anybody sleeps.
  template <class Ended>
  void run_until(Ended ended);
  void run_ready();
  void run_posted();
  bool has_posted();
  // Any thread: as post(), for one of batched_ that has ended.
  void post_batched(std::function<void()> work, unsigned workers);
  // A round of the loop: work(), then rest().
  bool work();             // true if there is more to do at once
  void rest(bool onward);  // submits; waits if nothing is ready, unless it goes on in any case
  void idle();             // until something is ready, or wake()
  bool look_around();      // true if a poller found work, or the engine has some
  OffloadPool& pool();
  // Is there a read or write under way, or anything that may begin one?
  bool has_others() const { return transfers_ != 0 || !ready_.empty(); }
  // A read or write begins. Whether it may be waited for in a system call.
  bool begins_alone();

  // Reads and writes that the engine has.
  unsigned transfers_ = 0;
  // Those of them that another thread copies.
  unsigned aside_ = 0;
  LoneTransfers lone_;

  std::unique_ptr<IoEngine> engine_;
  std::atomic<unsigned> batched_ = 0;  // offload_batched() under way
  OffloadPool* pool_;
  bool alone_;
  std::unique_ptr<OffloadPool> own_pool_;
  std::deque<std::coroutine_handle<>> ready_;
  std::vector<IdlePoller*> pollers_;
  IdleWindow window_;
  uint64_t spawned_ = 0;
  bool stopping_ = false;

  std::mutex posted_mutex_;
  std::deque<std::function<void()>> posted_;
};

struct Executor::IoAwaiter {
  Executor* executor;
  IoOp op;
  bool now = false;    // not by the engine
  bool aside = false;  // by another thread, as far as one can tell

  bool await_ready() noexcept {
    if (now) op.result = perform(op);
    return now;
  }
  void await_suspend(std::coroutine_handle<> handle) {
    op.waiter = handle;
    executor->transfers_ += is_transfer() ? 1 : 0;
    executor->aside_ += aside ? 1 : 0;
    executor->engine_->submit(op);
  }
  int64_t await_resume() const noexcept {
    if (!now) {
      executor->transfers_ -= is_transfer() ? 1 : 0;
      executor->aside_ -= aside ? 1 : 0;
    }
    return op.result;
  }

 private:
  bool is_transfer() const {
    return op.code == IoOp::Code::kReadv || op.code == IoOp::Code::kWritev;
  }
};

namespace detail {

template <class T>
Task<void> store_result(Task<T> task, std::optional<T>* out, bool* done) {
  if constexpr (std::is_void_v<T>) {
    co_await task;
  } else {
    out->emplace(co_await task);
  }
  *done = true;
}
inline Task<void> store_result(Task<void> task, bool* done) {
  co_await task;
  *done = true;
}

template <class T>
Task<void> release_when_done(Task<T> task, std::optional<T>* out, std::binary_semaphore* done) {
  out->emplace(co_await task);
  done->release();
}
inline Task<void> release_when_done(Task<void> task, std::binary_semaphore* done) {
  co_await task;
  done->release();
}

template <class Fn>
struct OffloadAwaiter {
  using T = std::invoke_result_t<Fn>;
  using Slot = std::conditional_t<std::is_void_v<T>, bool, std::optional<T>>;
  Executor* executor;
  OffloadPool* pool;
  Fn fn;
  bool now = false;
  bool batched = false;
  Slot result{};

  bool await_ready() {
    if (now) work();
    return now;
  }
  void await_suspend(std::coroutine_handle<> handle) {
    if (batched) ++executor->batched_;
    pool->run([this, handle] {
      work();
      auto go_on = [handle] { handle.resume(); };
      if (batched) return executor->post_batched(go_on, pool->max_threads());
      executor->post(go_on);
    });
  }
  T await_resume() {
    if constexpr (!std::is_void_v<T>) return std::move(*result);
  }

 private:
  void work() {
    if constexpr (std::is_void_v<T>) {
      fn();
    } else {
      result.emplace(fn());
    }
  }
};

struct YieldAwaiter {
  Executor* executor;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) { executor->make_ready(handle); }
  void await_resume() const noexcept {}
};

}  // namespace detail

template <class Ended>
void Executor::run_until(Ended ended) {
  while (!ended()) {
    const bool more = work();
    rest(more || ended());
  }
}

template <class T>
T Executor::run(Task<T> task) {
  bool done = false;
  if constexpr (std::is_void_v<T>) {
    spawn(detail::store_result(std::move(task), &done));
    run_until([&done] { return done; });
  } else {
    std::optional<T> result;
    spawn(detail::store_result(std::move(task), &result, &done));
    run_until([&done] { return done; });
    return std::move(*result);
  }
}

template <class T>
T Executor::run_blocking(Task<T> task) {
  std::binary_semaphore done(0);
  // std::function wants copyable content, so the task waits here, where it outlives the work.
  if constexpr (std::is_void_v<T>) {
    Task<void> wrapped = detail::release_when_done(std::move(task), &done);
    post([this, &wrapped] { spawn(std::move(wrapped)); });
    done.acquire();
  } else {
    std::optional<T> result;
    Task<void> wrapped = detail::release_when_done(std::move(task), &result, &done);
    post([this, &wrapped] { spawn(std::move(wrapped)); });
    done.acquire();
    return std::move(*result);
  }
}

template <class Fn>
auto Executor::offload(Fn fn) {
  return detail::OffloadAwaiter<Fn>{this, &pool(), std::move(fn)};
}

template <class Fn>
auto Executor::offload_batched(Fn fn) {
  return detail::OffloadAwaiter<Fn>{this, &pool(), std::move(fn), false, true};
}

template <class Fn>
auto Executor::offload_brief(Fn fn) {
  return detail::OffloadAwaiter<Fn>{this, alone_ ? nullptr : &pool(), std::move(fn), alone_};
}

inline auto Executor::yield() {
  return detail::YieldAwaiter{this};
}

}  // namespace calf
