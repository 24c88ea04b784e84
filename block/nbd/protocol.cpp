#include "block/nbd/protocol.h"

#include <cerrno>

namespace calf::nbd {

uint32_t wire_error(const Error& error) {
  switch (error.sys_errno()) {
    case EROFS:
    case EPERM:
    case EACCES:
      return EPERM;
    case ENOMEM:
      return ENOMEM;
    case EINVAL:
      return EINVAL;
    case EDQUOT:
    case EFBIG:
    case ENOSPC:
      return ENOSPC;
    case EOVERFLOW:
      return EOVERFLOW;
    case ENOTSUP:
      return ENOTSUP;
    case ESHUTDOWN:
      return ESHUTDOWN;
    default:
      return EIO;
  }
}

int errno_of_wire(uint32_t error) {
  switch (error) {
    case EPERM:
    case EIO:
    case ENOMEM:
    case ENOSPC:
    case EOVERFLOW:
    case ENOTSUP:
    case ESHUTDOWN:
      return static_cast<int>(error);
    default:
      return EINVAL;
  }
}

}  // namespace calf::nbd
