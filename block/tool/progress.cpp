#include "block/tool/progress.h"

#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

namespace calf::img {

namespace {

constexpr int kBarWidth = 40;
constexpr std::chrono::seconds kPatience{1};

}  // namespace

ProgressStyle progress_style(const Context& context, bool asked, bool quiet) {
  if (quiet) return ProgressStyle::kNone;
  if (asked) return ProgressStyle::kLines;
  bool person = !context.exact() && ::isatty(STDERR_FILENO) == 1;
  return person ? ProgressStyle::kBar : ProgressStyle::kNone;
}

JobMonitor::JobMonitor(Executor& executor, ProgressStyle style, double step)
    : executor_(executor), style_(style), step_(step) {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGINT);
  sigaddset(&mask, SIGTERM);
  if (style != ProgressStyle::kLines) sigaddset(&mask, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &mask, &old_mask_);
  signal_fd_.reset(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  control_.progress = [this](uint64_t done, uint64_t total) { on_progress(done, total); };
  if (style == ProgressStyle::kLines) {
    std::printf("    (%3.2f/100%%)\r", 0.0);
    std::fflush(stdout);
  }
}

JobMonitor::~JobMonitor() {
  if (style_ == ProgressStyle::kLines) {
    std::printf("\n");
    std::fflush(stdout);
  }
  if (bar_drawn_) put_error("\r\x1b[K");
  pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
}

void JobMonitor::on_progress(uint64_t done, uint64_t total) {
  if (total == 0) return;
  percent_ = 100.0 * static_cast<double>(done) / static_cast<double>(total);
  if (style_ == ProgressStyle::kNone) return;
  if (percent_ < 100 && std::abs(percent_ - printed_) <= step_) return;
  if (percent_ <= printed_) return;
  printed_ = percent_;
  if (style_ == ProgressStyle::kBar) {
    draw_bar();
    return;
  }
  std::printf("    (%3.2f/100%%)\r", percent_);
  std::fflush(stdout);
}

// "   45 % [##################                      ]  12 s left". The caller has changed the
// percentage.
void JobMonitor::draw_bar() {
  std::chrono::duration<double> past = std::chrono::steady_clock::now() - started_;
  if (past < kPatience || percent_ <= 0) return;
  int filled = static_cast<int>(percent_ / 100 * kBarWidth);
  double left = past.count() * (100 - percent_) / percent_;
  put_error("\r{:5.0f} % [{:<{}}] {:4.0f} s left", percent_,
            std::string(static_cast<size_t>(filled), '#'), kBarWidth, left);
  bar_drawn_ = true;
}

void JobMonitor::show_complete() {
  if (style_ != ProgressStyle::kLines) return;
  std::printf("    (%3.2f/100%%)\r", 100.0);
  std::fflush(stdout);
}

void JobMonitor::handle_signals() {
  signalfd_siginfo info{};
  while (::read(signal_fd_.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGUSR1) {
      std::fprintf(stderr, "    (%3.2f/100%%)\n", percent_);
    } else {
      control_.stop = true;
      stopped_by_ = static_cast<int>(info.ssi_signo);
    }
  }
}

// `signals` is the frame of with_signals(): the operation stands there so that it can be cancelled.
Task<void> JobMonitor::listen(JobMonitor* self, Executor::IoAwaiter* signals) {
  while (!self->finished_) {
    int64_t events = co_await *signals;
    if (events > 0) self->handle_signals();
  }
  self->listening_ = false;
}

}  // namespace calf::img
