// The one place where an ioctl becomes a Result.
#pragma once

#include <sys/ioctl.h>

#include <cerrno>

#include "block/base/result.h"

namespace calf::kvm {

// `name` is the request's name for the error text. Interrupted calls are repeated; KVM_RUN, where
// an interruption means something, does not come through here.
template <class Argument>
Result<int> call(int fd, unsigned long request, const char* name, Argument argument) {
  int result;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return Error::from_errno(errno, name);
  return result;
}

template <class Argument>
Result<void> call_void(int fd, unsigned long request, const char* name, Argument argument) {
  Result<int> result = call(fd, request, name, argument);
  if (!result.ok()) return std::move(result.error());
  return {};
}

}  // namespace calf::kvm
