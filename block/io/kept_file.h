// KeptFile: an open file that becomes cheaper to use when it is used much.
//
// For each request the kernel looks a descriptor up, takes a reference to the file and gives it
// back. A file that the ring keeps (IoEngine::keep_file(); "registered" in io_uring's words) is
// found without. Keeping one takes system calls of its own, so only those are kept that have had
// many requests: not the image that `info` reads a page of, nor a base of which an overlay notes
// what it looks like.
#pragma once

#include "block/io/executor.h"

namespace calf {

class KeptFile {
 public:
  // After how many transfers a file is kept.
  static constexpr unsigned kWorthIt = 1024;

  // Does not own `fd`, which outlives the object.
  KeptFile(Executor& executor, int fd) : executor_(&executor), fd_(fd) {}
  KeptFile(const KeptFile&) = delete;
  KeptFile& operator=(const KeptFile&) = delete;
  // On the executor's thread, like the rest.
  ~KeptFile() { let_go(); }

  // For the next transfer.
  IoFile for_transfer() {
    if (transfers_ < kWorthIt && ++transfers_ == kWorthIt) slot_ = executor_->keep_file(fd_);
    return now();
  }
  // For anything else.
  IoFile now() const { return {fd_, slot_}; }

  // No request is under way.
  void let_go() {
    if (slot_ >= 0) executor_->drop_file(slot_);
    slot_ = -1;
  }

 private:
  Executor* executor_;
  int fd_;
  int slot_ = -1;
  unsigned transfers_ = 0;
};

}  // namespace calf
