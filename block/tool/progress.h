// Progress of a long job, and the signals that concern it.
//
//   -p        "    (12.34/100%)" on stdout, carriage return after each, a newline when the monitor
//             goes
//   SIGUSR1   the same once, on stderr (without -p)
//   neither   on a terminal, a bar on stderr once the job has run for a second; it goes with the
//   job SIGINT, SIGTERM   the job stops, its target consistent
#pragma once

#include <chrono>
#include <csignal>

#include "block/base/fd.h"
#include "block/io/executor.h"
#include "block/ops/job.h"
#include "block/tool/context.h"

namespace calf::img {

enum class ProgressStyle : uint8_t { kNone, kLines, kBar };

// What the options -p and -q ask for; a bar if neither is given, stderr is a terminal, and we are
// not called qemu-img.
ProgressStyle progress_style(const Context& context, bool asked, bool quiet);

class JobMonitor {
 public:
  // Prints when the percentage has moved by more than `step`. Blocks the signals for this thread
  // and those it makes from now on.
  JobMonitor(Executor& executor, ProgressStyle style, double step);
  JobMonitor(Executor& executor, bool show, double step)
      : JobMonitor(executor, show ? ProgressStyle::kLines : ProgressStyle::kNone, step) {}
  ~JobMonitor();
  JobMonitor(const JobMonitor&) = delete;
  JobMonitor& operator=(const JobMonitor&) = delete;

  ops::JobControl& control() { return control_; }

  // Runs `task` with an eye on the signals.
  template <class T>
  T run(Task<T> task) {
    return executor_.run(with_signals(this, std::move(task)));
  }
  // The job is done: shows 100 %, once more if that was reached.
  void show_complete();
  // The signal that stopped the job, 0 if none did.
  int stopped_by() const { return stopped_by_; }

 private:
  template <class T>
  static Task<T> with_signals(JobMonitor* self, Task<T> task) {
    Executor::IoAwaiter signals = self->executor_.poll_in(self->signal_fd_.get());
    self->listening_ = true;
    self->executor_.spawn(listen(self, &signals));
    T result = co_await task;
    self->finished_ = true;
    while (self->listening_) {
      self->executor_.cancel(signals.op);
      co_await self->executor_.yield();
    }
    co_return result;
  }
  static Task<void> listen(JobMonitor* self, Executor::IoAwaiter* signals);
  void handle_signals();
  void on_progress(uint64_t done, uint64_t total);

  void draw_bar();

  Executor& executor_;
  ProgressStyle style_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  bool bar_drawn_ = false;
  double step_;
  double percent_ = 0;
  double printed_ = 0;
  Fd signal_fd_;
  sigset_t old_mask_{};
  bool listening_ = false;
  bool finished_ = false;
  int stopped_by_ = 0;
  ops::JobControl control_;
};

}  // namespace calf::img
