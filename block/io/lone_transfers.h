// Which transfers a thread that nobody else waits for may make itself instead of leaving them to
// the engine: those that are the only one under way, as the ones before them were.
//
// A write with O_DIRECT to blocks that are reserved but were never written ends with a change of
// the file's tables. The kernel leaves that to a thread of its own if the writer does not wait in
// the system call, and hands the end back through a second one. That is a third of the time of a
// write of 64 KiB to a fast disk, which matters where the next one cannot begin before.
//
// Whoever waits in a system call does not see who else wants to begin. So every now and then one
// goes by the engine, and if anything begins while that is under way the thread waits no more.
#pragma once

namespace calf {

class LoneTransfers {
 public:
  // So many in a row tell that the next one will be alone, too.
  static constexpr unsigned kStreak = 8;
  // The part that goes by the engine in any case.
  static constexpr unsigned kLook = 16;

  // A transfer begins; `others`: something else is under way or is about to begin. Whether this
  // thread may wait for it.
  bool begins(bool others) {
    if (others) {
      streak_ = 0;
      return false;
    }
    ++streak_;
    return streak_ > kStreak && streak_ % kLook != 0;
  }

 private:
  unsigned streak_ = 0;
};

}  // namespace calf
