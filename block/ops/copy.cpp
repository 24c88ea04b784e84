#include "block/ops/copy.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <utility>

#include "block/host_copy.h"
#include "block/io/buffer_pool.h"
#include "block/ops/copy_steps.h"
#include "block/ops/window.h"

namespace calf::ops {
namespace {

using block::Node;

// The least run of zeroes that becomes a hole.
uint64_t hole_of(const CopyOptions& options) {
  return options.sparse < kSector ? kSector : std::min(std::bit_floor(options.sparse), kMaxPart);
}

uint64_t unit_of(const Node& target, const CopyOptions& options) {
  const uint64_t cluster = target.limits().cluster_size;
  return cluster != 0 ? cluster : hole_of(options);
}

// Progress is told of at the end of each extent, and inside of long ones in steps that do not
// depend on how small the parts are.
constexpr uint64_t kReportEvery = uint64_t{1} << 20;

class Copier {
 public:
  Copier(Executor& executor, Node& source, uint64_t length, Node& target,
         const CopyOptions& options, const JobControl& control);
  Async<> run();

 private:
  Async<uint64_t> data_bytes();
  Async<> walk(Window& window);
  Async<> throttle(uint64_t bytes);

  Async<> zero_part(ByteRange range);
  Async<> copy_part(ByteRange range, uint64_t ticket);
  Async<> offload_part(ByteRange range, uint64_t ticket);
  Async<> move_part(ByteRange range, uint64_t ticket);
  Async<> read_part(ByteRange range, std::span<uint8_t> buffer);
  Async<> read_sectors(ByteRange range, std::span<uint8_t> buffer);
  Async<> write_part(ByteRange range, std::span<uint8_t> buffer);
  Async<> write_clusters(ByteRange range, std::span<uint8_t> buffer);
  Async<> wait_for_turn(uint64_t ticket);
  void pass_turn();
  void give_up();
  uint64_t run_length(std::span<const uint8_t> bytes, uint64_t offset, bool* zero) const;

  bool counts(CopyAction action) const {
    return !options_.count_data || action == CopyAction::kData;
  }
  void done(CopyAction action, uint64_t bytes) {
    if (!counts(action)) return;
    done_ += bytes;
    const bool may_go_on = bytes >= kMaxPart && done_ < total_;
    if (may_go_on && done_ - reported_ < kReportEvery) return;
    reported_ = done_;
    control_.report(done_, total_);
  }

  Executor& executor_;
  Node& source_;
  uint64_t length_;
  Node& target_;
  const CopyOptions& options_;
  const JobControl& control_;
  BufferPool buffers_{kMaxPart};
  // Of the progress.
  uint64_t total_;
  // Steps begin and end on multiples of this.
  uint64_t unit_;
  // So do the runs of zeroes that are found in what was read: no smaller than a hole is to be.
  uint64_t zero_unit_ = kSector;
  CopySteps steps_;
  uint64_t done_ = 0;
  uint64_t reported_ = 0;
  uint64_t next_ticket_ = 0;
  uint64_t turn_ = 0;
  bool failed_ = false;
  // Until the first failure.
  bool offloads_ = false;
  block::HostCopy* host_source_ = nullptr;
  block::HostCopy* host_target_ = nullptr;
  WaitQueue turn_changed_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  uint64_t throttled_ = 0;
};

Copier::Copier(Executor& executor, Node& source, uint64_t length, Node& target,
               const CopyOptions& options, const JobControl& control)
    : executor_(executor),
      source_(source),
      length_(length),
      target_(target),
      options_(options),
      control_(control),
      total_(length),
      unit_(unit_of(target, options)),
      steps_(source, length, unit_, options, control),
      turn_changed_(executor) {
  // What is compressed is a cluster at a time.
  if (options.offload && !options.write_compressed) {
    host_source_ = dynamic_cast<block::HostCopy*>(&source);
    host_target_ = dynamic_cast<block::HostCopy*>(&target);
    offloads_ = host_source_ != nullptr && host_target_ != nullptr;
  }
  zero_unit_ = options.write_compressed ? unit_ : std::max(unit_, hole_of(options));
}

Async<> Copier::throttle(uint64_t bytes) {
  if (options_.rate == 0) co_return Result<void>();
  throttled_ += bytes;
  auto due =
      started_ + std::chrono::microseconds(static_cast<int64_t>(
                     static_cast<double>(throttled_) * 1e6 / static_cast<double>(options_.rate)));
  co_await executor_.sleep_until(due);
  co_return Result<void>();
}

Async<> Copier::walk(Window& window) {
  uint64_t position = 0;
  unsigned steps = 0;
  while (position < length_) {
    if (++steps % kStepsBetweenYields == 0) co_await executor_.yield();
    CO_TRY_VOID(control_.check());
    CO_TRY(CopyStep step, co_await steps_.next(position));
    position = step.range.end();
    if (step.action == CopyAction::kSkip) {
      done(step.action, step.range.length);
      continue;
    }
    if (step.action == CopyAction::kZero) {
      Async<> task = zero_part(step.range);
      CO_TRY_VOID(co_await window.start(std::move(task)));
      continue;
    }
    // One cluster a worker when compressing: that is what one thread compresses.
    uint64_t largest = options_.write_compressed ? unit_ : std::max(kMaxPart, unit_);
    for (ByteRange rest = step.range; !rest.empty();) {
      CO_TRY_VOID(control_.check());
      uint64_t border = align_down(rest.offset, largest) + largest;
      ByteRange part{rest.offset, std::min(rest.length, border - rest.offset)};
      CO_TRY_VOID(co_await throttle(part.length));
      Async<> task = copy_part(part, next_ticket_++);
      if (options_.salvage) {
        CO_TRY_VOID(co_await task);
      } else {
        CO_TRY_VOID(co_await window.start(std::move(task)));
      }
      rest = {part.end(), rest.length - part.length};
    }
  }
  co_return Result<void>();
}

Async<uint64_t> Copier::data_bytes() {
  uint64_t bytes = 0;
  unsigned steps = 0;
  for (uint64_t position = 0; position < length_;) {
    if (++steps % kStepsBetweenYields == 0) co_await executor_.yield();
    CO_TRY_VOID(control_.check());
    CO_TRY(CopyStep step, co_await steps_.next(position));
    if (step.action == CopyAction::kData) bytes += step.range.length;
    position = step.range.end();
  }
  co_return bytes;
}

Async<> Copier::run() {
  if (options_.count_data) {
    CO_TRY(total_, co_await data_bytes());
  }
  unsigned width = options_.parallel;
  if (options_.write_compressed) width = std::max(width, 16U);
  Window window(executor_, width);
  Result<void> walked = co_await walk(window);
  if (!walked.ok()) give_up();
  Result<void> finished = co_await window.finish();
  if (!walked.ok()) co_return walked;
  co_return finished;
}

Async<> Copier::zero_part(ByteRange range) {
  Result<void> r = co_await target_.write_zeroes(range, {.may_unmap = true});
  if (!r.ok()) {
    co_return std::move(r.error()).with_context(
        fmt::format("error while writing at byte {}", range.offset));
  }
  done(CopyAction::kZero, range.length);
  co_return r;
}

Async<> Copier::wait_for_turn(uint64_t ticket) {
  while (!options_.out_of_order && turn_ != ticket) {
    if (failed_) co_return Error(ErrorKind::kCancelled, "Interrupted");
    co_await turn_changed_.wait();
  }
  co_return Result<void>();
}

void Copier::pass_turn() {
  ++turn_;
  turn_changed_.wake_all();
}

// Whoever waits for the turn of a part that never comes must wake up.
void Copier::give_up() {
  failed_ = true;
  turn_changed_.wake_all();
}

// The kernel copies, or, where it cannot, we do.
Async<> Copier::copy_part(ByteRange range, uint64_t ticket) {
  if (offloads_) co_return co_await offload_part(range, ticket);
  co_return co_await move_part(range, ticket);
}

Async<> Copier::offload_part(ByteRange range, uint64_t ticket) {
  std::optional<block::HostBytes> from = host_source_->host_bytes(range.offset);
  if (!from) co_return co_await move_part(range, ticket);
  CO_TRY_VOID(co_await wait_for_turn(ticket));
  Result<void> r = co_await host_target_->copy_in(range, *from);
  if (!r.ok()) {
    // What the reason is does not matter: reading and writing finds out if it is one for them, too.
    // The turn is still ours.
    offloads_ = false;
    co_return co_await move_part(range, ticket);
  }
  pass_turn();
  done(CopyAction::kData, range.length);
  co_return r;
}

Async<> Copier::move_part(ByteRange range, uint64_t ticket) {
  BufferPool::Lease buffer = buffers_.take(static_cast<size_t>(range.length));
  Result<void> r = co_await read_part(range, buffer.span());
  if (r.ok()) r = co_await wait_for_turn(ticket);
  if (!r.ok()) {
    give_up();
    co_return r;
  }
  // Compressed clusters go where there is room whenever they are ready: one after the other they
  // would keep one processor busy.
  if (options_.write_compressed) {
    pass_turn();
    r = co_await write_clusters(range, buffer.span());
  } else {
    r = co_await write_part(range, buffer.span());
  }
  if (r.ok()) {
    done(CopyAction::kData, range.length);
  } else {
    give_up();
  }
  co_return r;
}

Async<> Copier::read_part(ByteRange range, std::span<uint8_t> buffer) {
  FlatIo io(buffer);
  Result<void> r = co_await source_.read(range.offset, io.slice());
  if (r.ok()) co_return r;
  if (options_.salvage) co_return co_await read_sectors(range, buffer);
  co_return std::move(r.error()).with_context(
      fmt::format("error while reading at byte {}", range.offset));
}

// After a failed read: what can be read, zeroes for the rest.
Async<> Copier::read_sectors(ByteRange range, std::span<uint8_t> buffer) {
  for (uint64_t at = 0; at < range.length; at += kSector) {
    size_t size = static_cast<size_t>(std::min(kSector, range.length - at));
    std::span<uint8_t> sector = buffer.subspan(static_cast<size_t>(at), size);
    FlatIo io(sector);
    Result<void> r = co_await source_.read(range.offset + at, io.slice());
    if (r.ok()) continue;
    std::fill(sector.begin(), sector.end(), uint8_t{0});
    if (control_.warning) {
      control_.warning(
          fmt::format("error while reading offset {}: {}", range.offset + at, r.error().message()));
    }
  }
  co_return Result<void>();
}

// How far the units at the begin of `bytes` are all zero, or all not.
uint64_t Copier::run_length(std::span<const uint8_t> bytes, uint64_t offset, bool* zero) const {
  size_t length = 0;
  while (length < bytes.size()) {
    uint64_t at = offset + length;
    uint64_t step =
        std::min<uint64_t>(align_down(at, zero_unit_) + zero_unit_ - at, bytes.size() - length);
    bool is_zero = is_all_zero(bytes.subspan(length, static_cast<size_t>(step)));
    if (length == 0) {
      *zero = is_zero;
    } else if (is_zero != *zero) {
      break;
    }
    length += static_cast<size_t>(step);
  }
  return length;
}

// The turn is ours, and passes to the next part as soon as it is decided where all of this one
// goes: clusters are taken in order, but nobody waits for the other's bytes to be copied.
Async<> Copier::write_part(ByteRange range, std::span<uint8_t> buffer) {
  uint64_t offset = range.offset;
  bool passed = false;
  const std::function<void()> pass_on = [this, &passed] {
    passed = true;
    pass_turn();
  };
  while (!buffer.empty()) {
    bool zero = false;
    uint64_t length = buffer.size();
    if (options_.sparse != 0) length = run_length(buffer, offset, &zero);
    Result<void> r;
    if (!zero) {
      FlatIo io(buffer.subspan(0, static_cast<size_t>(length)));
      block::WriteFlags flags;
      if (length == buffer.size()) flags.placed = &pass_on;
      r = co_await target_.write(offset, io.slice(), flags);
    } else if (options_.target_has_backing || !options_.target_is_zero) {
      ByteRange zeroes{offset, length};
      r = co_await target_.write_zeroes(zeroes, {.may_unmap = true});
    }
    if (!r.ok()) {
      co_return std::move(r.error()).with_context(
          fmt::format("error while writing at byte {}", offset));
    }
    offset += length;
    buffer = buffer.subspan(static_cast<size_t>(length));
  }
  if (!passed) pass_on();
  co_return Result<void>();
}

Async<> Copier::write_clusters(ByteRange range, std::span<uint8_t> buffer) {
  uint64_t offset = range.offset;
  Result<void> r;
  if (options_.sparse != 0 && is_all_zero(buffer)) {
    ByteRange zeroes{offset, range.length};
    if (options_.target_has_backing || !options_.target_is_zero) {
      r = co_await target_.write_zeroes(zeroes, {.may_unmap = true});
    }
  } else {
    bool whole = is_aligned(offset, unit_) &&
                 (buffer.size() == unit_ || offset + buffer.size() == target_.size());
    FlatIo io(buffer);
    if (whole) {
      r = co_await options_.write_compressed(offset, io.slice());
    } else {
      // The source ends inside a cluster of a longer target.
      r = co_await target_.write(offset, io.slice(), {});
    }
  }
  if (!r.ok()) {
    co_return std::move(r.error()).with_context(
        fmt::format("error while writing at byte {}", offset));
  }
  co_return r;
}

}  // namespace

Async<> copy(Executor& executor, Node& source, uint64_t length, Node& target,
             const CopyOptions& options, const JobControl& control) {
  Copier copier(executor, source, length, target, options, control);
  co_return co_await copier.run();
}

}  // namespace calf::ops
