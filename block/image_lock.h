// Image locks: open-file-description locks on single bytes of the image, the same that QEMU takes,
// so that QEMU's programs and ours see one another.
//
//     byte 100 + n, read-locked:   "I use permission n"
//     byte 200 + n, read-locked:   "I do not share permission n"
//     n: 0 consistent read, 1 write, 2 write-unchanged, 3 resize
//
// Read locks never exclude each other. Whoever wants in first puts its own bytes down, then asks
// for each permission it uses whether anybody refuses it (byte 200 + n could not be write-locked),
// and for each that it refuses whether anybody uses it (byte 100 + n). Of two that come at the same
// time at least one sees the other.
//
// A lock belongs to the open file description: it ends when nobody has that open any more, however
// the process ends. Not with the descriptor, though: a request that io_uring has answered may keep
// the file open until its thread enters the kernel again, and what is registered with a ring stays
// open anyway. So whoever is done with a file and goes on living unlocks it.
#pragma once

#include <cstdint>
#include <string>

#include "block/base/result.h"

namespace calf::block {

struct LockRequest {
  enum Permission : uint8_t {
    kConsistentRead = 1 << 0,
    kWrite = 1 << 1,
    kWriteUnchanged = 1 << 2,
    kResize = 1 << 3,
  };
  uint8_t uses = 0;
  uint8_t refuses = 0;

  friend constexpr bool operator==(LockRequest, LockRequest) = default;
};

// Whoever interprets a file (qcow2: nobody may change it behind our back), reading or writing.
constexpr LockRequest kLockFormatReader{LockRequest::kConsistentRead,
                                        LockRequest::kWrite | LockRequest::kResize};
constexpr LockRequest kLockFormatWriter{
    LockRequest::kConsistentRead | LockRequest::kWrite | LockRequest::kResize,
    LockRequest::kWrite | LockRequest::kResize};
// A raw file of a guest, which nobody else may write.
constexpr LockRequest kLockRawWriter{LockRequest::kConsistentRead | LockRequest::kWrite,
                                     LockRequest::kWrite};
constexpr LockRequest kLockRawReader{LockRequest::kConsistentRead, LockRequest::kWrite};
// A raw file below an overlay.
constexpr LockRequest kLockRawBase{LockRequest::kConsistentRead,
                                   LockRequest::kWrite | LockRequest::kResize};
// The tool on a raw file: others may write (as qemu-img has it).
constexpr LockRequest kLockSharedWriter{LockRequest::kConsistentRead | LockRequest::kWrite, 0};
constexpr LockRequest kLockSharedReader{LockRequest::kConsistentRead, 0};
// Making a file anew.
constexpr LockRequest kLockCreate{LockRequest::kWrite | LockRequest::kResize, LockRequest::kResize};

// Takes the locks of `request` on `fd` (opened for reading at least) in place of those taken
// before. `name` stands in the error, kLocked:
//
//     Failed to get "write" lock
//     Is another process using the image [name]?
//     qemu-io (PID 4711) has it open. …
//
// The third line is left out when no holder can be found (a process of another user, another
// machine). Where the file system has no such locks nothing is locked. Waits, two seconds at most,
// only for a lock that nobody is seen to hold: what a killed process leaves for a moment.
Result<void> lock_image(int fd, LockRequest request, const std::string& name);

// Gives up all that lock_image() took. Before the file is closed.
void unlock_image(int fd);

}  // namespace calf::block
