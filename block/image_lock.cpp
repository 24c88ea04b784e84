#include "block/image_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <thread>

#include "block/lock_holders.h"

namespace calf::block {
namespace {

constexpr off_t kUsesBase = 100;
constexpr off_t kRefusesBase = 200;
constexpr std::array<const char*, 4> kPermissionNames = {"consistent read", "write",
                                                         "write unchanged", "resize"};

// 0 or an errno.
int set_bytes(int fd, off_t first, off_t count, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = first;
  lock.l_len = count;
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

// True if somebody else holds the byte.
Result<bool> held_by_others(int fd, off_t byte) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  if (::fcntl(fd, F_OFD_GETLK, &lock) != 0) return Error::from_errno(errno, "F_OFD_GETLK");
  return lock.l_type != F_UNLCK;
}

// True if somebody holds the byte, and goes on holding it.
//
// A process that was killed keeps its files, and so their locks, until the last request that it
// gave to io_uring has ended, a moment after it is gone from /proc. That is right: those requests
// still write to the image. But whoever starts a guest again at once should not be turned away for
// it, so a lock that nobody seems to hold is looked at again for a little while (the kernel has no
// wait for a lock with a limit of time).
Result<bool> stays_held(int fd, off_t byte) {
  constexpr auto kPatience = std::chrono::seconds(2);
  constexpr auto kInterval = std::chrono::milliseconds(5);
  TRY(bool held, held_by_others(fd, byte));
  if (!held || !find_lock_holders(fd, byte).empty()) return held;
  auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (held && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kInterval);
    TRY(held, held_by_others(fd, byte));
  }
  return held;
}

Error refused(int fd, bool shared, unsigned permission, off_t byte, const std::string& name) {
  std::string text =
      fmt::format("Failed to get {}\"{}\" lock\nIs another process using the image [{}]?",
                  shared ? "shared " : "", kPermissionNames[permission], name);
  std::string holders = describe_lock_holders(fd, byte);
  if (!holders.empty()) text += "\n" + holders;
  return Error(ErrorKind::kLocked, EAGAIN, std::move(text));
}

}  // namespace

Result<void> lock_image(int fd, LockRequest request, const std::string& name) {
  for (unsigned n = 0; n < kPermissionNames.size(); ++n) {
    struct {
      off_t byte;
      bool wanted;
    } const bytes[] = {{kUsesBase + n, (request.uses >> n & 1) != 0},
                       {kRefusesBase + n, (request.refuses >> n & 1) != 0}};
    for (auto [byte, wanted] : bytes) {
      int error = set_bytes(fd, byte, 1, wanted ? F_RDLCK : F_UNLCK);
      // Network file systems without a lock service: QEMU goes on without locks there too.
      if (error == EINVAL || error == ENOSYS || error == EOPNOTSUPP) return {};
      if (error != 0) {
        return Error(
            ErrorKind::kLocked, error,
            fmt::format("Failed to lock byte {}: {}", byte, Error::from_errno(error).message()));
      }
    }
  }
  for (unsigned n = 0; n < kPermissionNames.size(); ++n) {
    if ((request.uses >> n & 1) == 0) continue;
    TRY(bool held, stays_held(fd, kRefusesBase + n));
    if (held) return refused(fd, false, n, kRefusesBase + n, name);
  }
  for (unsigned n = 0; n < kPermissionNames.size(); ++n) {
    if ((request.refuses >> n & 1) == 0) continue;
    TRY(bool held, stays_held(fd, kUsesBase + n));
    if (held) return refused(fd, true, n, kUsesBase + n, name);
  }
  return {};
}

void unlock_image(int fd) {
  // Fails only where no lock could be taken.
  constexpr off_t kEnd = kRefusesBase + static_cast<off_t>(kPermissionNames.size());
  set_bytes(fd, kUsesBase, kEnd - kUsesBase, F_UNLCK);
}

}  // namespace calf::block
