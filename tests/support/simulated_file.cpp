#include "tests/support/simulated_file.h"

#include <algorithm>
#include <cstring>

namespace calf::test {

void Content::resize(uint64_t size) {
  if (size < size_) zero({size, size_ - size});
  size_ = size;
}

void Content::read(uint64_t offset, std::span<uint8_t> to) const {
  for (size_t done = 0; done < to.size();) {
    uint64_t at = offset + done;
    size_t n = std::min<size_t>(kPage - at % kPage, to.size() - done);
    auto it = pages_.find(at / kPage);
    if (it == pages_.end() || at >= size_) {
      std::memset(to.data() + done, 0, n);
    } else {
      std::memcpy(to.data() + done, it->second.data() + at % kPage, n);
    }
    done += n;
  }
}

void Content::write(uint64_t offset, std::span<const uint8_t> from) {
  for (size_t done = 0; done < from.size();) {
    uint64_t at = offset + done;
    size_t n = std::min<size_t>(kPage - at % kPage, from.size() - done);
    auto [it, is_new] = pages_.try_emplace(at / kPage);
    if (is_new) it->second.fill(0);
    std::memcpy(it->second.data() + at % kPage, from.data() + done, n);
    done += n;
  }
  size_ = std::max<uint64_t>(size_, offset + from.size());
}

void Content::zero(ByteRange range) {
  range = range.intersect({0, size_});
  for (uint64_t at = range.offset; at < range.end();) {
    uint64_t n = std::min(kPage - at % kPage, range.end() - at);
    if (n == kPage) {
      pages_.erase(at / kPage);
    } else if (auto it = pages_.find(at / kPage); it != pages_.end()) {
      std::memset(it->second.data() + at % kPage, 0, n);
    }
    at += n;
  }
}

bool Content::is_hole(ByteRange range) const {
  if (range.empty()) return true;
  for (uint64_t page = range.offset / kPage; page <= (range.end() - 1) / kPage; ++page) {
    if (pages_.contains(page)) return false;
  }
  return true;
}

void SimulatedDisk::start_log() {
  logging = true;
  at_start = content;
  log.clear();
}

Content SimulatedDisk::after_cut(size_t prefix, std::mt19937_64* random) const {
  size_t durable = 0;
  for (size_t i = 0; i < prefix; ++i) {
    if (log[i].kind == LoggedOp::Kind::kFlush) {
      durable = std::max<size_t>(durable, log[i].offset);
    }
  }
  Content out = at_start;
  // One decision for an operation (all, nothing, parts), then one for each sector.
  for (size_t i = 0; i < prefix; ++i) {
    const LoggedOp& op = log[i];
    unsigned fate = 0;
    if (random != nullptr && i >= durable) fate = (*random)() % 3;
    if (fate == 1) continue;
    auto keep = [&] { return fate == 0 || (*random)() % 2 == 0; };
    switch (op.kind) {
      case LoggedOp::Kind::kWrite:
        for (uint64_t at = 0; at < op.length;) {
          uint64_t n = std::min(512 - (op.offset + at) % 512, op.length - at);
          if (keep()) out.write(op.offset + at, std::span(op.bytes).subspan(at, n));
          at += n;
        }
        break;
      case LoggedOp::Kind::kZero:
        if (keep()) out.zero({op.offset, op.length});
        break;
      case LoggedOp::Kind::kTruncate:
        out.resize(op.length);
        break;
      case LoggedOp::Kind::kFlush:
        break;
    }
  }
  return out;
}

SimulatedFile::SimulatedFile(Executor& executor, std::shared_ptr<SimulatedDisk> disk,
                             Options options)
    : executor_(executor),
      disk_(std::move(disk)),
      options_(std::move(options)),
      random_(options_.seed) {
  limits_.discard_granularity = 1;
}

Task<void> SimulatedFile::wander() {
  if (options_.max_yields == 0) co_return;
  for (uint64_t n = random_() % (options_.max_yields + 1); n != 0; --n)
    co_await executor_.yield();
}

Result<void> SimulatedFile::begin(Op op, ByteRange range) {
  ++operations_;
  if (op != Op::kRead && op != Op::kFlush && !options_.writable) return Error::from_errno(EBADF);
  int code = options_.fail ? options_.fail(op, range) : 0;
  if (code != 0) return Error::from_errno(code);
  return {};
}

void SimulatedFile::log(LoggedOp op) {
  if (disk_->logging) disk_->log.push_back(std::move(op));
}

Async<> SimulatedFile::read(uint64_t offset, IoSlice to) {
  CO_TRY_VOID(begin(Op::kRead, {offset, to.size()}));
  co_await wander();
  uint64_t at = offset;
  to.for_each([&](uint8_t* bytes, size_t size) {
    disk_->content.read(at, {bytes, size});
    at += size;
  });
  co_await wander();
  co_return Result<void>();
}

Async<> SimulatedFile::write(uint64_t offset, IoSlice from, block::WriteFlags) {
  CO_TRY_VOID(begin(Op::kWrite, {offset, from.size()}));
  co_await wander();
  LoggedOp op{LoggedOp::Kind::kWrite, offset, from.size(), std::vector<uint8_t>(from.size())};
  from.copy_to(op.bytes);
  disk_->content.write(offset, op.bytes);
  log(std::move(op));
  co_await wander();
  co_return Result<void>();
}

Async<> SimulatedFile::write_zeroes(ByteRange range, block::ZeroFlags) {
  CO_TRY_VOID(begin(Op::kZeroes, range));
  co_await wander();
  disk_->content.zero(range);
  log({LoggedOp::Kind::kZero, range.offset, range.length, {}});
  co_await wander();
  co_return Result<void>();
}

Async<> SimulatedFile::discard(ByteRange range) {
  CO_TRY_VOID(begin(Op::kDiscard, range));
  co_await wander();
  disk_->content.zero(range);
  log({LoggedOp::Kind::kZero, range.offset, range.length, {}});
  co_await wander();
  co_return Result<void>();
}

Async<> SimulatedFile::flush() {
  // What had happened when the flush began is durable when it ends.
  const uint64_t covers = disk_->log.size();
  CO_TRY_VOID(begin(Op::kFlush, {}));
  co_await wander();
  log({LoggedOp::Kind::kFlush, covers, 0, {}});
  co_return Result<void>();
}

Async<block::Extent> SimulatedFile::map(ByteRange range) {
  block::Extent extent;
  extent.allocated = true;
  const bool hole = disk_->content.is_hole({range.offset, 1});
  uint64_t end = std::min(align_down(range.offset, Content::kPage) + Content::kPage, range.end());
  while (end < range.end() && disk_->content.is_hole({end, 1}) == hole)
    end = std::min(end + Content::kPage, range.end());
  extent.range = {range.offset, end - range.offset};
  extent.zero = hole;
  extent.data = !hole;
  extent.host_offset = range.offset;
  extent.host_file = &options_.name;
  co_return extent;
}

Async<> SimulatedFile::truncate(uint64_t size, block::Preallocation) {
  CO_TRY_VOID(begin(Op::kTruncate, {0, size}));
  if (options_.fixed_size) {
    if (size > disk_->content.size()) co_return Error::from_errno(EINVAL);
    co_return Result<void>();
  }
  disk_->content.resize(size);
  log({LoggedOp::Kind::kTruncate, 0, size, {}});
  co_return Result<void>();
}

Async<> SimulatedFile::close() {
  co_return Result<void>();
}

}  // namespace calf::test
