#include "block/ops/compare.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>

#include "block/io/buffer_pool.h"
#include "block/io/sync.h"
#include "block/ops/chain_map.h"
#include "block/ops/host_compare.h"

namespace calf::ops {
namespace {

using block::Node;

// Both buffers of a part stay in a core's cache until they are compared.
constexpr uint64_t kMaxPart = uint64_t{256} << 10;
// A part that another thread reads and compares, by and by.
constexpr uint64_t kMaxHostPart = uint64_t{2} << 20;

class Comparer {
 public:
  Comparer(Executor& executor, Node& first, Node& second, CompareOptions options,
           const JobControl& control, CompareFailure* failure)
      : executor_(executor),
        nodes_{&first, &second},
        maps_{ChainMap(first), ChainMap(second)},
        options_(options),
        control_(control),
        failure_(failure),
        total_(std::max(first.size(), second.size())),
        answered_(executor) {}

  Async<CompareResult> run();

 private:
  // A stretch of both images.
  struct Part {
    ByteRange range;
    // What must be read; the other reads as zeroes.
    bool read[2] = {false, false};
    // Set if all that must be read stands in files of this host.
    bool on_host = false;
    block::HostBytes host[2];
    // Strict: the status differs at the begin.
    bool status_differs = false;
  };
  using Answer = Result<std::optional<uint64_t>>;
  // A part that is being compared.
  struct Work {
    Part part;
    CompareFailure failure;
    std::optional<Answer> answer;
  };

  Async<ChainExtent> status(unsigned image, ByteRange range);
  Async<Part> next_part(uint64_t offset);
  void place(Part& part, const ChainExtent (&extents)[2]) const;

  static Task<void> work_at(Comparer* self, Work* work);
  Async<std::optional<uint64_t>> compare_part(Work& work);
  Async<std::optional<uint64_t>> read_and_compare(Work& work, ByteRange range);
  Async<> read(unsigned image, ByteRange range, std::span<uint8_t> buffer);

  void start(Part part);
  Task<void> finish_first();
  Async<CompareResult> walk();

  Executor& executor_;
  Node* nodes_[2];
  ChainMap maps_[2];
  CompareOptions options_;
  const JobControl& control_;
  BufferPool buffers_{kMaxPart};
  CompareFailure* failure_;
  uint64_t total_;
  // In the order of the disk, so that what comes first is what is told.
  std::deque<std::unique_ptr<Work>> under_way_;
  std::optional<Result<CompareResult>> verdict_;
  WaitQueue answered_;
};

// Behind its end an image is one unallocated zero extent.
Async<ChainExtent> Comparer::status(unsigned image, ByteRange range) {
  uint64_t size = nodes_[image]->size();
  if (range.offset >= size) {
    ChainExtent end;
    end.range = range;
    end.zero = true;
    co_return end;
  }
  ByteRange inside = range.intersect({0, size});
  Result<ChainExtent> extent = co_await maps_[image].map(inside);
  if (!extent.ok()) *failure_ = {image, range.offset, true};
  co_return extent;
}

// Who reads the part, and how long it may be for that.
void Comparer::place(Part& part, const ChainExtent (&extents)[2]) const {
  part.on_host = true;
  for (unsigned i : {0U, 1U}) {
    if (!part.read[i]) continue;
    const std::optional<block::HostBytes> host = maps_[i].host_bytes(extents[i]);
    part.on_host = part.on_host && host;
    part.host[i] = host.value_or(block::HostBytes());
  }
  part.range.length = std::min(part.range.length, part.on_host ? kMaxHostPart : kMaxPart);
}

Async<Comparer::Part> Comparer::next_part(uint64_t offset) {
  ByteRange rest{offset, total_ - offset};
  ChainExtent extents[2];
  CO_TRY(extents[0], co_await status(0, rest));
  CO_TRY(extents[1], co_await status(1, rest));
  const auto& [a, b] = extents;
  Part part;
  part.range = {offset, std::min(a.range.length, b.range.length)};
  const bool same = a.same_status(b) && a.host_offset.has_value() == b.host_offset.has_value();
  part.status_differs = options_.strict && !same;
  part.read[0] = !a.zero;
  part.read[1] = !b.zero;
  if (part.read[0] || part.read[1]) place(part, extents);
  co_return part;
}

Async<> Comparer::read(unsigned image, ByteRange range, std::span<uint8_t> buffer) {
  FlatIo io(buffer);
  co_return co_await nodes_[image]->read(range.offset, io.slice());
}

// `range` is a piece of the part that one buffer holds.
Async<std::optional<uint64_t>> Comparer::read_and_compare(Work& work, ByteRange range) {
  const auto length = static_cast<size_t>(range.length);
  std::vector<BufferPool::Lease> bytes;
  std::vector<unsigned> images;
  std::vector<Async<>> reads;
  for (unsigned i : {0U, 1U}) {
    if (!work.part.read[i]) continue;
    bytes.push_back(buffers_.take(length));
    images.push_back(i);
    reads.push_back(read(i, range, bytes.back().span()));
  }
  auto done = co_await when_all(executor_, std::move(reads));
  for (size_t i = 0; i < done.size(); ++i) {
    if (done[i].ok()) continue;
    work.failure = {images[i], range.offset, false};
    co_return std::move(done[i].error());
  }
  std::optional<uint64_t> where = bytes.size() == 2
                                      ? first_difference(bytes[0].span(), bytes[1].span())
                                      : first_nonzero(bytes[0].span());
  if (where) *where += range.offset;
  co_return where;
}

Async<std::optional<uint64_t>> Comparer::compare_part(Work& work) {
  const Part& part = work.part;
  if (part.on_host) {
    BufferPool::Lease buffer = buffers_.take(kMaxPart);
    std::vector<block::HostBytes> files;
    for (unsigned i : {0U, 1U})
      if (part.read[i]) files.push_back(part.host[i]);
    HostComparison found = co_await executor_.offload(
        [&] { return compare_on_host(files, part.range.length, buffer.span()); });
    // What could not be read like that is asked of the nodes, which know what the reason is.
    if (found.complete) {
      if (found.where) *found.where += part.range.offset;
      co_return found.where;
    }
  }
  for (ByteRange rest = part.range; !rest.empty();) {
    const ByteRange piece{rest.offset, std::min(rest.length, kMaxPart)};
    CO_TRY(std::optional<uint64_t> where, co_await read_and_compare(work, piece));
    if (where) co_return where;
    rest = {piece.end(), rest.length - piece.length};
  }
  co_return std::optional<uint64_t>();
}

Task<void> Comparer::work_at(Comparer* self, Work* work) {
  work->answer.emplace(co_await self->compare_part(*work));
  self->answered_.wake_all();
}

void Comparer::start(Part part) {
  under_way_.push_back(std::make_unique<Work>());
  under_way_.back()->part = part;
  executor_.spawn(work_at(this, under_way_.back().get()));
}

Task<void> Comparer::finish_first() {
  while (!under_way_.front()->answer)
    co_await answered_.wait();
  const std::unique_ptr<Work> first = std::move(under_way_.front());
  under_way_.pop_front();
  if (verdict_) co_return;
  Answer& answer = *first->answer;
  if (!answer.ok()) {
    *failure_ = first->failure;
    verdict_ = std::move(answer.error());
  } else if (answer->has_value()) {
    verdict_ = CompareResult{Difference::kContent, **answer};
  } else {
    control_.report(std::min(first->part.range.end(), total_), total_);
  }
}

// What ends the walk lies behind all that is under way.
Async<CompareResult> Comparer::walk() {
  uint64_t offset = 0;
  unsigned steps = 0;
  while (offset < total_ && !verdict_) {
    if (++steps % kStepsBetweenYields == 0) co_await executor_.yield();
    CO_TRY_VOID(control_.check());
    CO_TRY(Part part, co_await next_part(offset));
    if (part.status_differs) co_return CompareResult{Difference::kStatus, offset};
    offset = part.range.end();
    if (!part.read[0] && !part.read[1]) continue;
    if (under_way_.size() >= options_.parallel) co_await finish_first();
    start(part);
  }
  co_return CompareResult{};
}

Async<CompareResult> Comparer::run() {
  Result<CompareResult> walked = co_await walk();
  while (!under_way_.empty())
    co_await finish_first();
  if (verdict_) co_return std::move(*verdict_);
  if (walked.ok() && walked->difference == Difference::kNone) control_.report(total_, total_);
  co_return walked;
}

}  // namespace

Async<CompareResult> compare(Executor& executor, block::Node& first, block::Node& second,
                             CompareOptions options, const JobControl& control,
                             CompareFailure* failure) {
  Comparer comparer(executor, first, second, options, control, failure);
  co_return co_await comparer.run();
}

}  // namespace calf::ops
