#include "vmm/cli/signals.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

namespace calf::vmm {
namespace {

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGTSTP})
    sigaddset(&set, number);
  return set;
}

}  // namespace

void block_signals() {
  sigset_t set = watched_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

Result<std::unique_ptr<SignalWatch>> SignalWatch::create(EventLoop& loop, Actions actions) {
  sigset_t set = watched_signals();
  Fd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return Error::from_errno(errno, "Could not watch signals");
  int raw_fd = fd.get();
  std::unique_ptr<SignalWatch> watch(new SignalWatch(loop, std::move(actions), std::move(fd)));
  TRY_VOID(loop.add(raw_fd, EPOLLIN, [self = watch.get()](uint32_t) { self->on_signal(); }));
  return watch;
}

SignalWatch::~SignalWatch() {
  loop_.remove(fd_.get());
}

void SignalWatch::on_signal() {
  signalfd_siginfo info{};
  while (::read(fd_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    switch (info.ssi_signo) {
      case SIGHUP:
        actions_.hang_up();
        break;
      case SIGTSTP:
        actions_.stop();
        raise(SIGSTOP);
        actions_.resumed();
        break;
      default:
        actions_.terminate();
    }
  }
}

}  // namespace calf::vmm
