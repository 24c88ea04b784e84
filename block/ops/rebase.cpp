#include "block/ops/rebase.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "block/io/buffer_pool.h"
#include "block/ops/chain_map.h"
#include "block/ops/window.h"

namespace calf::ops {
namespace {

using block::Node;

// What one worker compares at once; whole clusters.
constexpr uint64_t kMaxPart = uint64_t{512} << 10;
constexpr unsigned kParallel = 8;

// The last answer about an image. A step is much shorter than most stretches: asked anew for each,
// an image would walk through the rest of such a stretch each time.
class LastAnswer {
 public:
  // What it says of `range`, if that begins inside.
  std::optional<ChainExtent> about(ByteRange range) const {
    if (range.offset < known_.range.offset || range.offset >= known_.range.end()) {
      return std::nullopt;
    }
    ChainExtent rest = known_;
    rest.range = known_.range.intersect(range);
    if (rest.host_offset) *rest.host_offset += range.offset - known_.range.offset;
    return rest;
  }
  void keep(const ChainExtent& answer) { known_ = answer; }

 private:
  ChainExtent known_;
};

// A base, old or new; behind its end, and where there is none, are zeroes.
class Base {
 public:
  explicit Base(Node* node) : node_(node) {
    if (node != nullptr) map_.emplace(*node);
  }

  Async<ChainExtent> map(ByteRange range) {
    const uint64_t size = node_ != nullptr ? node_->size() : 0;
    if (range.offset >= size) {
      ChainExtent end;
      end.range = range;
      end.zero = true;
      co_return end;
    }
    ByteRange inside = range.intersect({0, size});
    if (std::optional<ChainExtent> known = last_.about(inside)) co_return *known;
    CO_TRY(ChainExtent answer, co_await map_->map(inside));
    last_.keep(answer);
    co_return answer;
  }

  Async<> read(uint64_t offset, std::span<uint8_t> to) {
    const uint64_t size = node_ != nullptr ? node_->size() : 0;
    const uint64_t there = offset >= size ? 0 : std::min<uint64_t>(to.size(), size - offset);
    std::span<uint8_t> rest = to.subspan(static_cast<size_t>(there));
    std::fill(rest.begin(), rest.end(), uint8_t{0});
    if (there == 0) co_return Result<void>();
    FlatIo io(to.first(static_cast<size_t>(there)));
    co_return co_await node_->read(offset, io.slice());
  }

 private:
  Node* node_;
  std::optional<ChainMap> map_;
  LastAnswer last_;
};

class Rebaser {
 public:
  Rebaser(Executor& executor, Node& top, Node* new_base, const JobControl& control)
      : executor_(executor),
        top_(top),
        top_map_(top),
        old_(top.backing()),
        new_(new_base),
        control_(control),
        unit_(std::max<uint64_t>(top.limits().cluster_size, 512)) {}

  Async<> run();

 private:
  struct Step {
    ByteRange range;
    // Both bases must be read to know whether they differ.
    bool compare = false;
  };
  struct Run {
    enum Kind : uint8_t { kEqual, kZeroes, kData };
    size_t length;
    Kind kind;
  };
  Async<ChainExtent> own(uint64_t offset);
  Async<Step> next_step(uint64_t offset);
  Async<> walk(Window& window);
  Async<> compare_part(ByteRange range);
  Async<> write_run(uint64_t offset, std::span<uint8_t> bytes, bool zeroes);

  Executor& executor_;
  Node& top_;
  ChainMap top_map_;
  LastAnswer last_own_;
  Base old_;
  Base new_;
  const JobControl& control_;
  BufferPool buffers_{kMaxPart};
  uint64_t unit_;
  uint64_t done_ = 0;
};

// The bytes of both stand in one place: the new base is part of the old chain.
bool same_place(const ChainExtent& a, const ChainExtent& b) {
  return a.host_offset && b.host_offset && *a.host_offset == *b.host_offset &&
         a.host_file != nullptr && b.host_file != nullptr && *a.host_file == *b.host_file;
}

// What the top itself has. What is remembered stays true: only what lies before `offset` is written
// to meanwhile.
Async<ChainExtent> Rebaser::own(uint64_t offset) {
  const ByteRange rest{offset, top_.size() - offset};
  if (std::optional<ChainExtent> known = last_own_.about(rest)) co_return *known;
  CO_TRY(ChainExtent answer, co_await top_map_.map_top(rest));
  last_own_.keep(answer);
  co_return answer;
}

Async<Rebaser::Step> Rebaser::next_step(uint64_t offset) {
  CO_TRY(ChainExtent top, co_await own(offset));
  Step step{top.range, false};
  if (top.present) co_return step;
  CO_TRY(ChainExtent before, co_await old_.map(top.range));
  CO_TRY(ChainExtent after, co_await new_.map(top.range));
  step.range.length = std::min(before.range.length, after.range.length);
  step.compare = !(before.zero && after.zero) && !same_place(before, after);
  if (!step.compare) co_return step;
  // To the end of a cluster: what follows there belongs to the same write.
  const uint64_t end = align_up(step.range.end(), unit_);
  step.range.length = std::min(end, top.range.end()) - offset;
  step.range.length = std::min(step.range.length, align_down(offset, kMaxPart) + kMaxPart - offset);
  co_return step;
}

Async<> Rebaser::walk(Window& window) {
  unsigned steps = 0;
  for (uint64_t at = 0; at < top_.size();) {
    if (++steps % kStepsBetweenYields == 0) co_await executor_.yield();
    CO_TRY_VOID(control_.check());
    CO_TRY(Step step, co_await next_step(at));
    at = step.range.end();
    if (step.compare) {
      Async<> task = compare_part(step.range);
      CO_TRY_VOID(co_await window.start(std::move(task)));
    } else {
      done_ += step.range.length;
      control_.report(done_, top_.size());
    }
  }
  co_return Result<void>();
}

Async<> Rebaser::run() {
  Window window(executor_, kParallel);
  Result<void> walked = co_await walk(window);
  Result<void> finished = co_await window.finish();
  // What was copied stays, whatever happened.
  Result<void> flushed = co_await top_.flush();
  CO_TRY_VOID(std::move(walked));
  CO_TRY_VOID(std::move(finished));
  co_return flushed;
}

Async<> Rebaser::compare_part(ByteRange range) {
  BufferPool::Lease before = buffers_.take(static_cast<size_t>(range.length));
  BufferPool::Lease after = buffers_.take(static_cast<size_t>(range.length));
  Result<void> read = co_await old_.read(range.offset, before.span());
  if (!read.ok()) {
    co_return std::move(read.error()).with_context("error while reading from old backing file");
  }
  read = co_await new_.read(range.offset, after.span());
  if (!read.ok()) {
    co_return std::move(read.error()).with_context("error while reading from new backing file");
  }
  // Runs of clusters that differ, those of zeroes apart.
  auto look = [&](uint64_t at) {
    const uint64_t end = std::min(align_down(range.offset + at, unit_) + unit_, range.end());
    const size_t length = static_cast<size_t>(end - range.offset - at);
    Run run{length, Run::kEqual};
    if (std::memcmp(before.data() + at, after.data() + at, length) != 0) {
      run.kind = is_all_zero(before.span().subspan(at, length)) ? Run::kZeroes : Run::kData;
    }
    return run;
  };
  for (uint64_t at = 0; at < range.length;) {
    Run run = look(at);
    while (at + run.length < range.length) {
      const Run next = look(at + run.length);
      if (next.kind != run.kind) break;
      run.length += next.length;
    }
    if (run.kind != Run::kEqual) {
      CO_TRY_VOID(co_await write_run(range.offset + at, before.span().subspan(at, run.length),
                                     run.kind == Run::kZeroes));
    }
    at += run.length;
  }
  done_ += range.length;
  control_.report(done_, top_.size());
  co_return Result<void>();
}

// `bytes` is what the disk shows there; the top must hold it itself.
Async<> Rebaser::write_run(uint64_t offset, std::span<uint8_t> bytes, bool zeroes) {
  if (zeroes) {
    ByteRange range{offset, bytes.size()};
    CO_TRY_VOID(co_await top_.write_zeroes(range, {.may_unmap = true}));
    CO_TRY(ChainExtent own, co_await top_map_.map_top(range));
    // It may be content with zeroes that are there anyway, and will not be above the new base.
    if (own.present && own.range.length >= range.length) co_return Result<void>();
  }
  FlatIo io(bytes);
  Result<void> written = co_await top_.write(offset, io.slice(), {});
  if (!written.ok()) {
    co_return std::move(written.error())
        .with_context(fmt::format("Error while writing to COW image at byte {}", offset));
  }
  co_return written;
}

}  // namespace

Async<> rebase(Executor& executor, Node& top, Node* new_base, const JobControl& control) {
  Rebaser rebaser(executor, top, new_base, control);
  co_return co_await rebaser.run();
}

bool can_record_backing(Node& top) {
  return dynamic_cast<qcow2::Image*>(&top) != nullptr;
}

Async<> record_backing(Node& top, qcow2::BackingRecord record) {
  auto* image = dynamic_cast<qcow2::Image*>(&top);
  if (image == nullptr) co_return Error::from_errno(ENOTSUP);
  co_return co_await image->record_backing(std::move(record));
}

qcow2::BackingRecord recorded_backing(Node& top) {
  auto* image = dynamic_cast<qcow2::Image*>(&top);
  return image != nullptr ? image->backing_record() : qcow2::BackingRecord{};
}

}  // namespace calf::ops
