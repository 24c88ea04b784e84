#include "block/base/result.h"

#include <cerrno>
#include <cstring>

namespace calf {
namespace {

ErrorKind kind_of(int sys_errno) {
  switch (sys_errno) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return ErrorKind::kNoSpace;
    case ENOENT:
    case ENODEV:
    case ENXIO:
    case ENOTDIR:
      return ErrorKind::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS:
      return ErrorKind::kPermission;
    case EEXIST:
      return ErrorKind::kExists;
    case EINVAL:
      return ErrorKind::kInvalid;
    case ENOTSUP:
    case ENOSYS:
      return ErrorKind::kUnsupported;
    case ECANCELED:
      return ErrorKind::kCancelled;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return ErrorKind::kResource;
    default:
      return ErrorKind::kIo;
  }
}

// strerror() may share a buffer between threads; the GNU strerror_r() does not.
std::string errno_text(int sys_errno) {
  char buffer[128];
  return strerror_r(sys_errno, buffer, sizeof buffer);
}

}  // namespace

Error Error::from_errno(int sys_errno) {
  return Error(kind_of(sys_errno), sys_errno, errno_text(sys_errno));
}

Error Error::from_errno(int sys_errno, std::string_view what) {
  return from_errno(sys_errno).with_context(what);
}

int Error::sys_errno() const {
  if (errno_ != 0) return errno_;
  switch (kind_) {
    case ErrorKind::kIo:
    case ErrorKind::kCorrupt:
      return EIO;
    case ErrorKind::kNoSpace:
      return ENOSPC;
    case ErrorKind::kNotFound:
      return ENOENT;
    case ErrorKind::kPermission:
      return EACCES;
    case ErrorKind::kExists:
      return EEXIST;
    case ErrorKind::kLocked:
      return EAGAIN;
    case ErrorKind::kInvalid:
      return EINVAL;
    case ErrorKind::kUnsupported:
      return ENOTSUP;
    case ErrorKind::kReadOnly:
      return EROFS;
    case ErrorKind::kCancelled:
      return ECANCELED;
    case ErrorKind::kResource:
      return ENOMEM;
  }
  return EIO;
}

Error Error::with_context(std::string_view prefix) && {
  message_ = fmt::format("{}: {}", prefix, message_);
  return std::move(*this);
}

Error Error::with_context(std::string_view prefix) const& {
  return Error(*this).with_context(prefix);
}

}  // namespace calf
