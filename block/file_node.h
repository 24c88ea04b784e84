// FileNode: a regular file or a block device of the host, the bottom of every chain.
//
// It takes any byte range in any memory. With O_DIRECT the host wants both aligned; what is not
// goes through a bounce buffer, and the ends of an unaligned write are read, changed and written
// back, one such request per block at a time (InFlight):
//
//     write            [  xxxxxxxx  ]
//     blocks       |--------|--------|--------|      read the two outer blocks, then write them all
//
// Reads behind the end give zeroes (qcow2 files end in the middle of a cluster). The size is the
// logical one: padding that a direct write left behind the end is cut off at once.
//
// After a failed fdatasync() the kernel may have dropped dirty pages, and the next one would
// report success: so every later flush fails too.
//
// Linux: fallocate(2) for zeroes and holes, lseek(2) SEEK_DATA for map. Not supported: character
// devices, FIFOs, sockets.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <limits>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "block/base/fd.h"
#include "block/cache_mode.h"
#include "block/file_holes.h"
#include "block/host_copy.h"
#include "block/image_lock.h"
#include "block/io/aligned_buffer.h"
#include "block/io/executor.h"
#include "block/io/kept_file.h"
#include "block/io/sync.h"
#include "block/node.h"

namespace calf::block {

// One file on this host, whatever its names.
struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  friend bool operator==(const FileId&, const FileId&) = default;
};

struct FileOptions {
  bool writable = false;
  CacheMode cache;
  // discard() punches holes (otherwise it does nothing).
  bool discard = false;
};

class FileNode final : public Node, public HostCopy {
 public:
  // Opens an existing file. No lock is taken (see lock()). Errors are the last part of qemu-img's
  // nested text: "Could not open 'x': No such file or directory".
  static Async<std::unique_ptr<FileNode>> open(Executor& executor, std::string path,
                                               FileOptions options);
  // Makes an empty file, or empties an existing one once nobody else holds it; left locked with
  // kLockCreate, open for writing. A block device stays as long as it is.
  static Async<std::unique_ptr<FileNode>> create(Executor& executor, std::string path,
                                                 FileOptions options);
  // A file without a name in `folder`, gone when closed. Not locked.
  static Async<std::unique_ptr<FileNode>> create_unnamed(Executor& executor, std::string folder,
                                                         FileOptions options);
  ~FileNode() override;

  // Takes the locks of `request` instead of those held; see image_lock.h.
  Result<void> lock(LockRequest request);

  FileId id() const { return id_; }
  bool is_block_device() const { return block_device_; }
  int fd() const { return fd_.get(); }

  uint64_t size() const override { return size_; }
  const Limits& limits() const override { return limits_; }
  bool read_only() const override { return !options_.writable; }
  Async<> read(uint64_t offset, IoSlice to) override;
  Async<> write(uint64_t offset, IoSlice from, WriteFlags flags) override;
  Async<> write_zeroes(ByteRange range, ZeroFlags flags) override;
  Async<> discard(ByteRange range) override;
  Async<> flush() override;
  Async<Extent> map(ByteRange range) override;
  std::optional<Extent> known(ByteRange range) override;
  Async<> truncate(uint64_t size, Preallocation preallocation) override;
  Async<> close() override;
  std::optional<HostBytes> host_bytes(uint64_t offset) override;
  Async<> copy_in(ByteRange range, HostBytes from) override;
  const std::string& name() const override { return name_; }
  const char* format() const override { return block_device_ ? "host_device" : "file"; }

 private:
  // A change to some bytes that has not ended; only kept with O_DIRECT.
  struct Busy {
    ByteRange blocks;
    // Reads blocks and writes them back: nobody else may change them meanwhile.
    bool exclusive = false;
  };
  // Marks a change as under way until it is destroyed.
  class BusyGuard {
   public:
    BusyGuard() = default;
    BusyGuard(FileNode* node, std::list<Busy>::iterator entry) : node_(node), entry_(entry) {}
    BusyGuard(BusyGuard&& other) noexcept
        : node_(std::exchange(other.node_, nullptr)), entry_(other.entry_) {}
    BusyGuard& operator=(BusyGuard&&) = delete;
    ~BusyGuard() {
      if (node_ == nullptr) return;
      node_->busy_.erase(entry_);
      node_->busy_changed_.wake_all();
    }

   private:
    FileNode* node_ = nullptr;
    std::list<Busy>::iterator entry_{};
  };

  // What one bounce buffer holds; larger unaligned requests go in several steps.
  static constexpr size_t kMaxBounce = size_t{1} << 20;
  static constexpr uint64_t kMaxFileSize = static_cast<uint64_t>(std::numeric_limits<off_t>::max());

  FileNode(Executor& executor, Fd fd, std::string name, FileOptions options);
  Result<void> examine();
  Result<void> find_direct_alignment();
  bool is_direct() const { return options_.cache.direct; }

  Task<BusyGuard> enter(ByteRange range, bool exclusive);
  Async<> transfer(bool is_write, uint64_t offset, IoSlice data, int rw_flags);
  Async<> read_bounced(uint64_t offset, IoSlice to);
  Async<> write_bounced(ByteRange range, IoSlice from, int rw_flags);
  Async<> write_direct(uint64_t offset, IoSlice from, int rw_flags);
  Async<> fallocate(int mode, ByteRange range);
  Extent extent_of(ByteRange range, std::optional<FileStretch> stretch) const;
  Async<> zero_inside(ByteRange range, bool may_unmap);
  Async<> write_zero_bytes(ByteRange range);
  Result<void> trim_padding(uint64_t written_end);
  Task<void> reserve_tail(uint64_t end);
  Result<void> set_host_size(uint64_t size);
  Result<void> check_writable(ByteRange range) const;

  // Leaves the file to others: from now on nothing can be done with it.
  void leave();

  Executor& executor_;
  Fd fd_;
  KeptFile kept_;
  std::string name_;
  FileOptions options_;
  Limits limits_;
  FileId id_;
  bool block_device_ = false;
  uint64_t size_ = 0;
  // What the host takes for the size: it is made longer in steps, ahead of the writes
  // (file_node_tail.cpp). close() takes the rest back; a process that is killed leaves it. Behind
  // size_ there are zeroes.
  uint64_t host_size_ = 0;
  bool can_reserve_ = true;
  AsyncMutex reserve_mutex_;
  uint32_t block_ = 1;  // alignment of offsets and lengths under O_DIRECT

  std::optional<Error> flush_error_;
  bool can_zero_range_ = true;
  bool can_punch_ = true;
  FileHoles holes_;

  std::list<Busy> busy_;
  WaitQueue busy_changed_;
};

}  // namespace calf::block
