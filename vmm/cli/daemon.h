// -daemonize and -pidfile.
#pragma once

#include <string>

#include "block/base/fd.h"
#include "block/base/result.h"

namespace calf::vmm {

// Splits the process before any thread is started. The first process waits until its child calls
// ready(), then exits 0; if the child ends without it, the first exits with the child's status, and
// the child's messages have been seen.
class Daemon {
 public:
  static Result<Daemon> start();
  // In the child: the guest runs. Lets go of terminal and standard descriptors.
  void ready();

 private:
  Fd parent_;
};

// Writes our process id to a new file and locks it; the file goes when the object does. An older
// file of a process that no longer runs is taken over, one whose owner lives is an error that names
// the process.
class PidFile {
 public:
  static Result<PidFile> create(const std::string& path);
  PidFile(PidFile&&) noexcept = default;
  ~PidFile();

 private:
  PidFile(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  Fd fd_;
};

}  // namespace calf::vmm
