#include "block/tool/progress.h"

#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

namespace calf::img {

JobMonitor::JobMonitor(Executor& executor, bool show, double step)
    : executor_(executor), show_(show), step_(step) {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGINT);
  sigaddset(&mask, SIGTERM);
  if (!show) sigaddset(&mask, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &mask, &old_mask_);
  signal_fd_.reset(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  control_.progress = [this](uint64_t done, uint64_t total) { on_progress(done, total); };
  if (show_) {
    std::printf("    (%3.2f/100%%)\r", 0.0);
    std::fflush(stdout);
  }
}

JobMonitor::~JobMonitor() {
  if (show_) {
    std::printf("\n");
    std::fflush(stdout);
  }
  pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
}

void JobMonitor::on_progress(uint64_t done, uint64_t total) {
  if (total == 0) return;
  percent_ = 100.0 * static_cast<double>(done) / static_cast<double>(total);
  if (!show_ || (percent_ < 100 && std::abs(percent_ - printed_) <= step_)) return;
  if (percent_ <= printed_) return;
  printed_ = percent_;
  std::printf("    (%3.2f/100%%)\r", percent_);
  std::fflush(stdout);
}

void JobMonitor::show_complete() {
  if (!show_) return;
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
