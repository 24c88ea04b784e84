// Window: at most so many tasks at once, the first error kept. The engine under every job that
// walks an image: the walker hands out ranges, the window keeps enough of them in flight.
//
//   Window window(executor, 8);
//   while (…) CO_TRY_VOID(co_await window.start(copy_range(…)));   // waits for a free place
//   co_return co_await window.finish();                            // waits for all
//
// finish() must have ended before the object goes, on every path.
#pragma once

#include <algorithm>
#include <cassert>
#include <optional>
#include <utility>

#include "block/base/result.h"
#include "block/io/sync.h"

namespace calf::ops {

class Window {
 public:
  Window(Executor& executor, unsigned width)
      : executor_(executor), width_(std::max(width, 1U)), changed_(executor) {}
  ~Window() { assert(running_ == 0); }
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

  // Starts `task` once there is a place for it. Gives the first error of any task so far; `task` is
  // dropped then.
  Async<> start(Async<> task) {
    while (running_ >= width_ && !error_)
      co_await changed_.wait();
    if (error_) co_return *error_;
    ++running_;
    executor_.spawn(run(this, std::move(task)));
    co_return Result<void>();
  }

  // Waits until nothing runs. The first error, if there was one.
  Async<> finish() {
    while (running_ != 0)
      co_await changed_.wait();
    if (error_) co_return *error_;
    co_return Result<void>();
  }

 private:
  static Task<void> run(Window* self, Async<> task) {
    Result<void> result = co_await task;
    if (!result.ok() && !self->error_) self->error_ = std::move(result.error());
    --self->running_;
    self->changed_.wake_all();
  }

  Executor& executor_;
  unsigned width_;
  unsigned running_ = 0;
  std::optional<Error> error_;
  WaitQueue changed_;
};

}  // namespace calf::ops
