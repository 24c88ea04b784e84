#include "vmm/cli/daemon.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace calf::vmm {

Result<Daemon> Daemon::start() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return Error::from_errno(errno, "-daemonize");
  Fd read_end(ends[0]);
  Fd write_end(ends[1]);
  pid_t child = ::fork();
  if (child < 0) return Error::from_errno(errno, "-daemonize: could not start a process");
  if (child > 0) {
    write_end.reset();
    char byte = 0;
    ssize_t n = 0;
    do {
      n = ::read(read_end.get(), &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 1) ::_exit(0);
    // The child ended early and has said why on our stderr.
    int status = 0;
    ::waitpid(child, &status, 0);
    ::_exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1);
  }
  ::setsid();
  Daemon daemon;
  daemon.parent_ = std::move(write_end);
  return daemon;
}

void Daemon::ready() {
  Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (null.valid()) ::dup2(null.get(), fd);
  }
  // A parent that was killed meanwhile changes nothing.
  [[maybe_unused]] ssize_t n = ::write(parent_.get(), "", 1);
  parent_.reset();
}

Result<PidFile> PidFile::create(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd.valid())
    return Error::from_errno(errno, fmt::format("-pidfile: could not open '{}'", path));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) < 0) {
    char owner[32] = {};
    [[maybe_unused]] ssize_t n = ::read(fd.get(), owner, sizeof owner - 1);
    return make_error(ErrorKind::kLocked, "-pidfile: '{}' belongs to process {}, which still runs",
                      path, std::atol(owner));
  }
  std::string text = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd.get(), 0) < 0 ||
      ::pwrite(fd.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return Error::from_errno(errno, fmt::format("-pidfile: could not write '{}'", path));
  }
  return PidFile(path, std::move(fd));
}

PidFile::~PidFile() {
  if (fd_.valid()) ::unlink(path_.c_str());
}

}  // namespace calf::vmm
