// Who holds a lock on a file. /proc/locks shows open-file-description locks without an owner (their
// PID is -1), so this looks at the descriptors of every process: one that is open on the same file
// and shows a lock on the byte in its fdinfo.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace calf::block {

struct LockHolder {
  pid_t pid = 0;
  std::string command;
};

// Processes with a lock on `byte` of the file behind `fd`, found through a descriptor other than
// `fd` itself. Those of other users stay unseen unless we are root.
std::vector<LockHolder> find_lock_holders(int fd, off_t byte);

// One line for the person in front: who, and the way out. Empty if nobody was found.
std::string describe_lock_holders(int fd, off_t byte);

}  // namespace calf::block
