#include "vmm/host_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "block/base/fd.h"

namespace calf::vmm {

Result<HostFile> HostFile::read(const std::string& path) {
  auto failed = [&path](int sys_errno) {
    return Error::from_errno(sys_errno, fmt::format("Could not read '{}'", path));
  };
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return failed(errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) < 0) return failed(errno);
  if (!S_ISREG(status.st_mode)) {
    return make_error(ErrorKind::kInvalid, "Could not read '{}': not a regular file", path);
  }
  HostFile file;
  auto size = static_cast<size_t>(status.st_size);
  // Not cleared first.
  file.data_.reset(new uint8_t[size]);
  while (file.size_ < size) {
    ssize_t n = ::pread(fd.get(), file.data_.get() + file.size_, size - file.size_,
                        static_cast<off_t>(file.size_));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed(errno);
    if (n == 0) break;  // it shrank: what there is
    file.size_ += static_cast<size_t>(n);
  }
  return file;
}

}  // namespace calf::vmm
