#include "vmm/io_thread.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>

namespace calf::vmm {

Result<std::unique_ptr<IoThread>> IoThread::start(std::string name) {
  std::unique_ptr<IoThread> io(new IoThread);
  TRY(io->executor_, Executor::create());
  // Signals to the process are the control thread's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failure = 0;
  try {
    io->thread_ = std::thread([executor = io->executor_.get()] { executor->run_until_stopped(); });
    pthread_setname_np(io->thread_.native_handle(), name.substr(0, 15).c_str());
  } catch (const std::system_error& error) {
    failure = error.code().value();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (failure != 0) return Error::from_errno(failure, "Could not start an I/O thread");
  return io;
}

IoThread::~IoThread() {
  if (!thread_.joinable()) return;
  executor_->stop();
  thread_.join();
}

}  // namespace calf::vmm
