#include "vmm/console/terminal.h"

#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

namespace calf::vmm {
namespace {

// What a signal handler and atexit() need, and the only state of this program that is not handed
// around: handlers take no arguments. Written before `saved_fd` is published.
termios saved_mode;
std::atomic<int> saved_fd = -1;

void restore_saved() {
  int fd = saved_fd.load();
  // tcsetattr is async-signal-safe. A background process group would be stopped by SIGTTOU; the
  // mask prevents that.
  if (fd < 0) return;
  sigset_t block;
  sigset_t old;
  sigemptyset(&block);
  sigaddset(&block, SIGTTOU);
  pthread_sigmask(SIG_BLOCK, &block, &old);
  tcsetattr(fd, TCSANOW, &saved_mode);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

void on_fatal_signal(int number) {
  restore_saved();
  // SA_RESETHAND put the default action back: now die of it.
  raise(number);
}

void install_handlers() {
  static const bool installed = [] {
    std::atexit(restore_saved);
    struct sigaction action {};
    action.sa_handler = on_fatal_signal;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
    for (int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGQUIT}) {
      sigaction(number, &action, nullptr);
    }
    return true;
  }();
  static_cast<void>(installed);
}

}  // namespace

Result<std::unique_ptr<RawTerminal>> RawTerminal::enter(int fd, bool keep_signals) {
  std::unique_ptr<RawTerminal> terminal(new RawTerminal);
  if (isatty(fd) == 0) return terminal;
  if (tcgetattr(fd, &saved_mode) < 0)
    return Error::from_errno(errno, "Could not read the terminal's mode");
  terminal->fd_ = fd;
  terminal->keep_signals_ = keep_signals;
  terminal->active_ = true;
  install_handlers();
  saved_fd.store(fd);
  terminal->raw();
  return terminal;
}

RawTerminal::~RawTerminal() {
  restore();
  if (active_) saved_fd.store(-1);
}

void RawTerminal::restore() {
  if (active_) restore_saved();
}

void RawTerminal::raw() {
  if (!active_) return;
  termios mode = saved_mode;
  cfmakeraw(&mode);
  // Our own messages share the screen: newline still returns the carriage.
  mode.c_oflag |= OPOST | ONLCR;
  if (keep_signals_) mode.c_lflag |= ISIG;
  tcsetattr(fd_, TCSANOW, &mode);
}

}  // namespace calf::vmm
