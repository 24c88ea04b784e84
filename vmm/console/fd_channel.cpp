#include "vmm/console/fd_channel.h"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace calf::vmm {
namespace {

// Once the guest's output waits, it waits here first: enough for a screenful of boot messages.
constexpr size_t kBacklogLimit = 64 * 1024;
// A pipe or terminal that polls writable takes this much without blocking (PIPE_BUF).
constexpr size_t kSafeWrite = 4096;
constexpr size_t kReadSize = 4096;

bool has_room(int fd) {
  pollfd p{fd, POLLOUT, 0};
  return ::poll(&p, 1, 0) == 1;
}

}  // namespace

FdChannel::~FdChannel() {
  *alive_ = false;
  detach();
}

Result<void> FdChannel::attach(Fd in, Fd out) {
  detach();
  if (in.valid()) {
    Result<void> added = loop_.add(in.get(), EPOLLIN, [this](uint32_t) { on_input(); });
    in_polled_ = added.ok();
    if (!added.ok() && added.error().kind() != ErrorKind::kPermission) return added;
    in_ = std::move(in);
    in_paused_ = false;
    if (!in_polled_) {
      loop_.post([this, alive = alive_] {
        if (*alive) on_input();
      });
    }
  }
  MutexLock lock(mutex_);
  out_ = std::move(out);
  return {};
}

void FdChannel::detach() {
  if (in_.valid() && in_polled_) loop_.remove(in_.get());
  in_.reset();
  undelivered_.clear();
  MutexLock lock(mutex_);
  if (out_polled_) loop_.remove(out_.get());
  out_polled_ = false;
  waiting_for_room_ = false;
  backlog_.clear();
  out_.reset();
}

// ---- Output ----

size_t FdChannel::write_some(std::span<const uint8_t> bytes) {
  size_t done = 0;
  while (done < bytes.size() && has_room(out_.get())) {
    size_t n = std::min(bytes.size() - done, kSafeWrite);
    ssize_t written = ::write(out_.get(), bytes.data() + done, n);
    if (written < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      // The reader is gone (EPIPE, EIO) or the file system is full: the bytes have no place to go,
      // and a guest must not stand still for that.
      return bytes.size();
    }
    done += static_cast<size_t>(written);
  }
  return done;
}

size_t FdChannel::send(std::span<const uint8_t> bytes) {
  MutexLock lock(mutex_);
  if (!out_.valid()) return bytes.size();
  size_t taken = backlog_.empty() ? write_some(bytes) : 0;
  std::span<const uint8_t> rest = bytes.subspan(taken);
  size_t room = kBacklogLimit - std::min(backlog_.size(), kBacklogLimit);
  rest = rest.first(std::min(rest.size(), room));
  backlog_.insert(backlog_.end(), rest.begin(), rest.end());
  taken += rest.size();
  if (!backlog_.empty() && !waiting_for_room_) {
    waiting_for_room_ = true;
    loop_.post([this, alive = alive_] {
      if (*alive) want_output_room();
    });
  }
  return when_full_ == WhenFull::kDrop ? bytes.size() : taken;
}

void FdChannel::want_output_room() {
  int fd = -1;
  {
    MutexLock lock(mutex_);
    if (!out_.valid()) return;
    fd = out_.get();
  }
  if (out_polled_) {
    // Cannot fail for a descriptor that is watched.
    [[maybe_unused]] Result<void> modified = loop_.modify(fd, EPOLLOUT);
    return;
  }
  Result<void> added = loop_.add(fd, EPOLLOUT, [this](uint32_t) { on_output_room(); });
  out_polled_ = added.ok();
  // A regular file is always ready.
  if (!added.ok()) on_output_room();
}

void FdChannel::on_output_room() {
  bool drained = false;
  {
    MutexLock lock(mutex_);
    if (!out_.valid()) return;
    size_t n = write_some(backlog_);
    backlog_.erase(backlog_.begin(), backlog_.begin() + static_cast<ptrdiff_t>(n));
    drained = backlog_.empty();
    if (drained) {
      waiting_for_room_ = false;
      if (out_polled_) loop_.remove(out_.get());
      out_polled_ = false;
    }
  }
  if (drained && on_writable_) on_writable_();
}

// ---- Input ----

void FdChannel::on_input() {
  if (!in_.valid()) return;
  std::array<uint8_t, kReadSize> buffer;
  ssize_t n = ::read(in_.get(), buffer.data(), buffer.size());
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0) {
    if (in_polled_) loop_.remove(in_.get());
    in_.reset();
    if (on_closed_) on_closed_();
    return;
  }
  filter_input({buffer.data(), static_cast<size_t>(n)}, undelivered_);
  deliver();
}

void FdChannel::deliver() {
  if (receiver_ && !undelivered_.empty()) {
    size_t taken = receiver_(undelivered_);
    undelivered_.erase(undelivered_.begin(), undelivered_.begin() + static_cast<ptrdiff_t>(taken));
  }
  if (!in_.valid()) return;
  bool full = !undelivered_.empty();
  if (in_polled_) {
    if (full != in_paused_) {
      [[maybe_unused]] Result<void> modified =
          loop_.modify(in_.get(), full ? 0u : uint32_t{EPOLLIN});
    }
  } else if (!full) {
    loop_.post([this, alive = alive_] {
      if (*alive) on_input();
    });
  }
  in_paused_ = full;
}

void FdChannel::receiver_ready() {
  loop_.post([this, alive = alive_] {
    if (*alive) deliver();
  });
}

}  // namespace calf::vmm
