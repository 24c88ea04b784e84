#include "block/file_node.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#ifndef RWF_DSYNC
#define RWF_DSYNC 2
#endif

namespace calf::block {
namespace {

// One system call moves less than 2 GiB and takes at most IOV_MAX pieces.
constexpr size_t kMaxTransfer = size_t{1} << 30;
constexpr unsigned kMaxPieces = 1024;
// What is worth another thread of the host. A write of the same size takes longer: it finds pages
// for the bytes, too.
constexpr size_t kLargeRead = size_t{256} << 10;
constexpr size_t kLargeWrite = size_t{32} << 10;

Error not_a_regular_file(const std::string& path) {
  return make_error(ErrorKind::kInvalid, "'file' driver requires '{}' to be a regular file", path);
}

Result<void> check_type(mode_t mode, const std::string& path) {
  if (S_ISREG(mode) || S_ISBLK(mode)) return {};
  return not_a_regular_file(path);
}

Error could_not_open(const std::string& path, int error) {
  return Error::from_errno(error, fmt::format("Could not open '{}'", path));
}

int open_flags(const FileOptions& options) {
  return (options.writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | (options.cache.direct ? O_DIRECT : 0);
}

// The descriptor, or -errno.
Task<int> open_fd(Executor& executor, const std::string& path, int flags) {
  int64_t fd = -EINTR;
  while (fd == -EINTR)
    fd = co_await executor.open(path.c_str(), flags);
  co_return static_cast<int>(fd);
}

Async<Fd> open_file(Executor& executor, const std::string& path, const FileOptions& options) {
  if (path.empty()) {
    co_return make_error(ErrorKind::kInvalid, "The 'file' block driver requires a file name");
  }
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) co_return could_not_open(path, errno);
  // Before the open: opening a FIFO or a tape has effects.
  CO_TRY_VOID(check_type(st.st_mode, path));
  // O_NONBLOCK only for the case that the name means a FIFO by now; it must go before any I/O, as
  // io_uring takes it for "fail where the page is not cached".
  int opened = co_await open_fd(executor, path, open_flags(options) | O_NONBLOCK);
  if (opened == -EINVAL && options.cache.direct) {
    co_return make_error(ErrorKind::kUnsupported,
                         "Could not open '{}': filesystem does not support O_DIRECT (use another "
                         "cache mode than none or directsync)",
                         path);
  }
  if (opened < 0) co_return could_not_open(path, -opened);
  Fd fd(opened);
  if (::fstat(fd.get(), &st) != 0) co_return could_not_open(path, errno);
  CO_TRY_VOID(check_type(st.st_mode, path));
  if (::fcntl(fd.get(), F_SETFL, open_flags(options) & ~O_CLOEXEC) != 0) {
    co_return could_not_open(path, errno);
  }
  co_return fd;
}

Result<Fd> create_file(const std::string& path, const FileOptions& options) {
  if (path.empty()) {
    return make_error(ErrorKind::kInvalid, "The 'file' block driver requires a file name");
  }
  struct stat st {};
  // A directory gets open()'s own error.
  if (::stat(path.c_str(), &st) == 0 && !S_ISDIR(st.st_mode)) {
    if (S_ISCHR(st.st_mode)) return Error(ErrorKind::kInvalid, "Cannot grow device files");
    TRY_VOID(check_type(st.st_mode, path));
  }
  // Here and now: io_uring hands whatever may make a file to a thread, for which nobody has work to
  // go on with.
  Fd fd(::open(path.c_str(), open_flags(options) | O_CREAT, 0644));
  if (!fd.valid()) {
    return Error::from_errno(errno, fmt::format("Could not create '{}'", path));
  }
  return fd;
}

}  // namespace

FileNode::FileNode(Executor& executor, Fd fd, std::string name, FileOptions options)
    : executor_(executor),
      fd_(std::move(fd)),
      kept_(executor, fd_.get()),
      name_(std::move(name)),
      options_(options),
      reserve_mutex_(executor),
      busy_changed_(executor) {}

FileNode::~FileNode() {
  leave();
}

void FileNode::leave() {
  if (!fd_.valid()) return;
  kept_.let_go();
  // Not by closing: the ring may hold the file a little longer.
  unlock_image(fd_.get());
  fd_.reset();
}

Async<std::unique_ptr<FileNode>> FileNode::open(Executor& executor, std::string path,
                                                FileOptions options) {
  CO_TRY(Fd fd, co_await open_file(executor, path, options));
  std::unique_ptr<FileNode> node(new FileNode(executor, std::move(fd), std::move(path), options));
  CO_TRY_VOID(node->examine());
  co_return node;
}

Async<std::unique_ptr<FileNode>> FileNode::create(Executor& executor, std::string path,
                                                  FileOptions options) {
  options.writable = true;
  CO_TRY(Fd fd, create_file(path, options));
  std::unique_ptr<FileNode> node(new FileNode(executor, std::move(fd), std::move(path), options));
  // The lock first: the content of an image in use must survive.
  CO_TRY_VOID(node->lock(kLockCreate));
  CO_TRY_VOID(node->examine());
  if (!node->block_device_ && node->size_ != 0) {
    CO_TRY_VOID(co_await node->truncate(0, Preallocation::kOff));
  }
  co_return node;
}

Async<std::unique_ptr<FileNode>> FileNode::create_unnamed(Executor& executor, std::string folder,
                                                          FileOptions options) {
  options.writable = true;
  Fd fd(::open(folder.c_str(), open_flags(options) | O_TMPFILE, 0600));
  if (!fd.valid()) {
    co_return Error::from_errno(
        errno, fmt::format("Could not make a temporary file in folder '{}'", folder));
  }
  std::unique_ptr<FileNode> node(
      new FileNode(executor, std::move(fd), folder + "/(unnamed file)", options));
  CO_TRY_VOID(node->examine());
  co_return node;
}

Result<void> FileNode::lock(LockRequest request) {
  return lock_image(fd_.get(), request, name_);
}

Result<void> FileNode::examine() {
  struct stat st {};
  if (::fstat(fd_.get(), &st) != 0) return could_not_open(name_, errno);
  id_ = {st.st_dev, st.st_ino};
  block_device_ = S_ISBLK(st.st_mode);
  if (block_device_) {
    // The node of a device, not the disk it stands for, has the inode.
    id_ = {st.st_rdev, 0};
    if (::ioctl(fd_.get(), BLKGETSIZE64, &size_) != 0) return could_not_open(name_, errno);
  } else {
    size_ = host_size_ = static_cast<uint64_t>(st.st_size);
  }
  if (options_.discard) limits_.discard_granularity = static_cast<uint32_t>(st.st_blksize);
  if (is_direct()) TRY_VOID(find_direct_alignment());
  return {};
}

// ---- Reading and writing ----

// Moves all of `data`, which the host takes as it is. Reads fill up with zeroes behind the end.
Async<> FileNode::transfer(bool is_write, uint64_t offset, IoSlice data, int rw_flags) {
  size_t done = 0;
  while (done < data.size()) {
    IoSlice rest = data.slice(done, std::min(data.size() - done, kMaxTransfer));
    // Most requests have few pieces: no allocation for those.
    iovec few[8];
    std::vector<iovec> many;
    unsigned count = 0;
    rest.for_each([&](uint8_t* bytes, size_t size) {
      if (count < std::size(few)) few[count] = {bytes, size};
      ++count;
    });
    const iovec* vectors = few;
    if (count > std::size(few)) {
      many = rest.to_iovecs();
      vectors = many.data();
      count = std::min(count, kMaxPieces);
    }
    uint64_t position = offset + done;
    int64_t n = 0;
    using Copy = Executor::Copy;
    const size_t large = is_write ? kLargeWrite : kLargeRead;
    // With flags a write waits for the device, cached or not.
    const bool copied = !is_direct() && rw_flags == 0;
    const Copy copy = !copied ? Copy::kNone : rest.size() < large ? Copy::kSmall : Copy::kLarge;
    if (is_write) {
      n = co_await executor_.writev(kept_.for_transfer(), vectors, count, position, rw_flags, copy);
      holes_.forget();
    } else {
      n = co_await executor_.readv(kept_.for_transfer(), vectors, count, position, copy);
    }
    if (n == -EINTR || n == -EAGAIN) {
      co_await executor_.yield();
      continue;
    }
    if (n < 0) co_return Error::from_errno(static_cast<int>(-n));
    if (n == 0) {
      if (is_write) co_return Error::from_errno(ENOSPC);
      data.slice(done, data.size() - done).fill(0);
      break;
    }
    done += static_cast<size_t>(n);
    if (done == data.size()) break;
    // A short direct write cannot go on in the middle of a block; the cause is a full file system.
    if (is_write && is_direct() && !is_aligned(done, block_)) co_return Error::from_errno(ENOSPC);
    // A short direct read ends at the end of the file, which need not be aligned: the rest is zero.
    if (!is_write && is_direct() && !is_aligned(done, block_)) {
      data.slice(done, data.size() - done).fill(0);
      break;
    }
  }
  co_return Result<void>();
}

Async<> FileNode::read(uint64_t offset, IoSlice to) {
  if (!is_direct() || (is_aligned(offset, block_) && is_aligned(to.size(), block_) &&
                       to.is_aligned_to(limits_.memory_alignment))) {
    return transfer(false, offset, to, 0);
  }
  return read_bounced(offset, to);
}

Result<void> FileNode::check_writable(ByteRange range) const {
  if (read_only()) return Error(ErrorKind::kReadOnly, EPERM, "The file is open read-only");
  if (range.end() > kMaxFileSize) return Error::from_errno(EFBIG);
  return {};
}

Async<> FileNode::write(uint64_t offset, IoSlice from, WriteFlags flags) {
  std::optional<ByteRange> range = make_range(offset, from.size());
  if (!range) co_return Error::from_errno(EFBIG);
  CO_TRY_VOID(check_writable(*range));
  if (range->empty()) co_return Result<void>();
  int rw_flags = flags.fua && !options_.cache.no_flush ? RWF_DSYNC : 0;
  flags.tell_placed();
  if (!block_device_ && range->end() > host_size_) co_await reserve_tail(range->end());
  if (is_direct()) {
    CO_TRY_VOID(co_await write_direct(offset, from, rw_flags));
  } else {
    CO_TRY_VOID(co_await transfer(true, offset, from, rw_flags));
    if (!block_device_) {
      size_ = std::max(size_, range->end());
      host_size_ = std::max(host_size_, size_);
    }
  }
  co_return Result<void>();
}

// ---- Zeroes and holes ----

Async<> FileNode::fallocate(int mode, ByteRange range) {
  int64_t r = -EINTR;
  while (r == -EINTR)
    r = co_await executor_.fallocate(fd_.get(), mode, range.offset, range.length);
  holes_.forget();
  if (r < 0) co_return Error::from_errno(static_cast<int>(-r));
  co_return Result<void>();
}

namespace {
bool is_unsupported(const Error& error) {
  int e = error.sys_errno();
  return e == EOPNOTSUPP || e == ENOSYS || e == ENOTTY || e == EINVAL;
}
}  // namespace

Async<> FileNode::write_zeroes(ByteRange range, ZeroFlags flags) {
  if (!make_range(range.offset, range.length)) co_return Error::from_errno(EFBIG);
  CO_TRY_VOID(check_writable(range));
  if (range.empty()) co_return Result<void>();
  // Zeroing part of a block may come down to reading and writing it.
  bool whole_blocks = is_aligned(range.offset, block_) && is_aligned(range.length, block_);
  BusyGuard guard = co_await enter(range, !whole_blocks);
  uint64_t old_size = size_;
  if (!block_device_ && range.end() > old_size) {
    // Longer: the new bytes are a hole. Reserved below unless it may stay one.
    if (range.end() > host_size_) CO_TRY_VOID(set_host_size(range.end()));
    size_ = range.end();
  }
  ByteRange inside = flags.may_unmap ? range.intersect({0, old_size}) : range;
  if (!inside.empty()) CO_TRY_VOID(co_await zero_inside(inside, flags.may_unmap));
  if (flags.fua) co_return co_await flush();
  co_return Result<void>();
}

// Fastest way first; each that the file system does not know is not tried again.
Async<> FileNode::zero_inside(ByteRange range, bool may_unmap) {
  constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  // A device refuses ranges that are not whole sectors, which says nothing about later ones.
  bool odd = block_device_ && !(is_aligned(range.offset, 4096) && is_aligned(range.length, 4096));
  if (may_unmap && can_punch_) {
    Result<void> r = co_await fallocate(kPunch, range);
    if (r.ok()) co_return r;
    if (!is_unsupported(r.error())) co_return r;
    if (!odd) can_punch_ = false;
  }
  if (can_zero_range_) {
    Result<void> r = co_await fallocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, range);
    if (r.ok()) co_return r;
    if (!is_unsupported(r.error())) co_return r;
    if (!odd) can_zero_range_ = false;
  }
  if (can_punch_ && !block_device_) {
    Result<void> r = co_await fallocate(kPunch, range);
    if (r.ok()) r = co_await fallocate(0, range);
    if (r.ok()) co_return r;
    if (!is_unsupported(r.error())) co_return r;
  }
  co_return co_await write_zero_bytes(range);
}

Async<> FileNode::write_zero_bytes(ByteRange range) {
  AlignedBuffer zeroes(static_cast<size_t>(std::min<uint64_t>(range.length, kMaxBounce)));
  std::fill_n(zeroes.data(), zeroes.size(), uint8_t{0});
  while (!range.empty()) {
    size_t part = static_cast<size_t>(std::min<uint64_t>(range.length, zeroes.size()));
    FlatIo io(zeroes.span().subspan(0, part));
    bool whole = is_aligned(range.offset, block_) && is_aligned(part, block_);
    if (!is_direct() || whole) {
      CO_TRY_VOID(co_await transfer(true, range.offset, io.slice(), 0));
    } else {
      ByteRange piece{range.offset, part};
      CO_TRY_VOID(co_await write_bounced(piece, io.slice(), 0));
      CO_TRY_VOID(trim_padding(align_up(piece.end(), block_)));
    }
    range = {range.offset + part, range.length - part};
  }
  co_return Result<void>();
}

Async<> FileNode::discard(ByteRange range) {
  if (!options_.discard || !can_punch_ || range.empty()) co_return Result<void>();
  CO_TRY_VOID(check_writable(range));
  if (!block_device_) range = range.intersect({0, size_});
  if (range.empty()) co_return Result<void>();
  BusyGuard guard = co_await enter(range, false);
  Result<void> r = co_await fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range);
  if (!r.ok() && is_unsupported(r.error())) {
    if (r.error().sys_errno() != EINVAL) can_punch_ = false;
    co_return Result<void>();
  }
  co_return r;
}

Async<> FileNode::flush() {
  if (options_.cache.no_flush || read_only()) co_return Result<void>();
  if (flush_error_) co_return *flush_error_;
  int64_t r = -EINTR;
  while (r == -EINTR)
    r = co_await executor_.fdatasync(kept_.now());
  if (r < 0) {
    Error error = Error::from_errno(static_cast<int>(-r));
    if (!flush_error_) flush_error_ = error;
    co_return error;
  }
  // Failed meanwhile for another caller: what this one wrote may be among what was lost.
  if (flush_error_) co_return *flush_error_;
  co_return Result<void>();
}

Extent FileNode::extent_of(ByteRange range, std::optional<FileStretch> stretch) const {
  Extent extent;
  extent.range = range;
  extent.allocated = true;
  extent.data = true;
  extent.host_offset = range.offset;
  extent.host_file = &name_;
  if (!stretch) return extent;  // all of it may be data
  extent.data = !stretch->hole;
  extent.zero = stretch->hole;
  extent.range.length = std::min(range.length, stretch->range.length);
  return extent;
}

Async<Extent> FileNode::map(ByteRange range) {
  if (block_device_) co_return extent_of(range, std::nullopt);
  CO_TRY(std::optional<FileStretch> stretch,
         co_await holes_.at(executor_, fd_.get(), range.offset));
  co_return extent_of(range, stretch);
}

std::optional<Extent> FileNode::known(ByteRange range) {
  std::optional<FileStretch> stretch = holes_.remembered(range.offset);
  if (!stretch) return std::nullopt;
  return extent_of(range, stretch);
}

Async<> FileNode::truncate(uint64_t size, Preallocation preallocation) {
  if (read_only()) co_return Error(ErrorKind::kReadOnly, EPERM, "The file is open read-only");
  if (block_device_) {
    if (size > size_) co_return Error(ErrorKind::kInvalid, EINVAL, "Cannot grow device files");
    co_return Result<void>();
  }
  if (size > kMaxFileSize) co_return Error::from_errno(EFBIG);
  if (size == size_ && size == host_size_) co_return Result<void>();
  if (preallocation == Preallocation::kMetadata) {
    co_return make_error(ErrorKind::kUnsupported, "Unsupported preallocation mode: metadata");
  }
  uint64_t old_size = size_;
  int fd = fd_.get();
  int error = co_await executor_.offload_brief(
      [fd, size] { return ::ftruncate(fd, static_cast<off_t>(size)) == 0 ? 0 : errno; });
  holes_.forget();
  if (error != 0) co_return Error::from_errno(error, "Failed to resize the file");
  size_ = host_size_ = size;
  if (size <= old_size || preallocation == Preallocation::kOff) co_return Result<void>();

  ByteRange added{old_size, size - old_size};
  Result<void> done;
  if (preallocation == Preallocation::kFalloc) {
    done = co_await fallocate(0, added);
    if (!done.ok()) {
      done = std::move(done.error()).with_context("Could not preallocate data for the new file");
    }
  } else {
    done = co_await write_zero_bytes(added);
    if (!done.ok())
      done = std::move(done.error()).with_context("Could not write zeros for preallocation");
  }
  if (!done.ok()) {
    // Back to what it was; the first error is the one to tell.
    if (set_host_size(old_size).ok()) size_ = old_size;
  }
  co_return done;
}

Async<> FileNode::close() {
  Result<void> done = co_await flush();
  if (!block_device_ && host_size_ > size_) {
    Result<void> cut = set_host_size(size_);
    if (done.ok()) done = std::move(cut);
  }
  leave();
  co_return done;
}

}  // namespace calf::block
