#include "block/ops/compare.h"

#include <algorithm>
#include <cstring>

#include "block/io/buffer_pool.h"
#include "block/io/sync.h"
#include "block/ops/chain_map.h"

namespace calf::ops {
namespace {

using block::Node;

constexpr uint64_t kMaxPart = uint64_t{256} << 10;
constexpr uint64_t kSector = 512;

// The offset of the first sector in which the two differ.
std::optional<uint64_t> first_difference(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  if (std::memcmp(a.data(), b.data(), a.size()) == 0) return std::nullopt;
  auto [where, ignored] = std::mismatch(a.begin(), a.end(), b.begin());
  return align_down(static_cast<uint64_t>(where - a.begin()), kSector);
}

class Comparer {
 public:
  Comparer(Executor& executor, Node& first, Node& second, CompareOptions options,
           const JobControl& control, CompareFailure* failure)
      : executor_(executor),
        nodes_{&first, &second},
        maps_{ChainMap(first), ChainMap(second)},
        options_(options),
        control_(control),
        failure_(failure) {}

  Async<CompareResult> run();

 private:
  // A stretch of both images and what must be read of each; the other reads as zeroes.
  struct Part {
    ByteRange range;
    bool read[2] = {false, false};
  };
  Async<Part> next_part(uint64_t offset, CompareResult* result);
  Async<std::optional<uint64_t>> compare_part(Part part);
  Async<> read(unsigned image, ByteRange range, std::span<uint8_t> buffer);
  Async<ChainExtent> status(unsigned image, ByteRange range);
  Async<bool> compare_batch(std::vector<Part>& batch, CompareResult* result);

  Executor& executor_;
  Node* nodes_[2];
  ChainMap maps_[2];
  CompareOptions options_;
  const JobControl& control_;
  BufferPool buffers_{kMaxPart};
  CompareFailure* failure_;
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

Async<Comparer::Part> Comparer::next_part(uint64_t offset, CompareResult* result) {
  uint64_t total = std::max(nodes_[0]->size(), nodes_[1]->size());
  ByteRange rest{offset, total - offset};
  CO_TRY(ChainExtent a, co_await status(0, rest));
  CO_TRY(ChainExtent b, co_await status(1, rest));
  Part part;
  part.range = {offset, std::min(a.range.length, b.range.length)};
  bool same = a.same_status(b) && a.host_offset.has_value() == b.host_offset.has_value();
  if (options_.strict && !same) {
    *result = {Difference::kStatus, offset};
    co_return part;
  }
  part.read[0] = !a.zero;
  part.read[1] = !b.zero;
  if (part.read[0] || part.read[1]) part.range.length = std::min(part.range.length, kMaxPart);
  co_return part;
}

Async<> Comparer::read(unsigned image, ByteRange range, std::span<uint8_t> buffer) {
  FlatIo io(buffer);
  co_return co_await nodes_[image]->read(range.offset, io.slice());
}

Async<std::optional<uint64_t>> Comparer::compare_part(Part part) {
  const auto length = static_cast<size_t>(part.range.length);
  std::vector<BufferPool::Lease> bytes;
  std::vector<unsigned> images;
  std::vector<Async<>> reads;
  for (unsigned i : {0U, 1U}) {
    if (!part.read[i]) continue;
    bytes.push_back(buffers_.take(length));
    images.push_back(i);
    reads.push_back(read(i, part.range, bytes.back().span()));
  }
  auto done = co_await when_all(executor_, std::move(reads));
  for (size_t i = 0; i < done.size(); ++i) {
    if (done[i].ok()) continue;
    *failure_ = {images[i], part.range.offset, false};
    co_return std::move(done[i].error());
  }
  std::optional<uint64_t> where;
  if (bytes.size() == 2) {
    where = first_difference(bytes[0].span(), bytes[1].span());
  } else {
    for (size_t at = 0; at < length && !where; at += kSector) {
      size_t size = std::min<size_t>(kSector, length - at);
      if (!is_all_zero(bytes[0].span().subspan(at, size))) where = at;
    }
  }
  if (where) *where += part.range.offset;
  co_return where;
}

// True if the parts are equal; otherwise the first difference is in `result`.
Async<bool> Comparer::compare_batch(std::vector<Part>& batch, CompareResult* result) {
  std::vector<Async<std::optional<uint64_t>>> tasks;
  for (const Part& part : batch)
    tasks.push_back(compare_part(part));
  batch.clear();
  auto answers = co_await when_all(executor_, std::move(tasks));
  for (auto& answer : answers) {
    if (!answer.ok()) co_return std::move(answer.error());
    if (!answer->has_value()) continue;
    *result = {Difference::kContent, **answer};
    co_return false;
  }
  co_return true;
}

Async<CompareResult> Comparer::run() {
  uint64_t total = std::max(nodes_[0]->size(), nodes_[1]->size());
  CompareResult result;
  std::vector<Part> batch;
  uint64_t offset = 0;
  unsigned steps = 0;
  while (true) {
    if (++steps % kStepsBetweenYields == 0) co_await executor_.yield();
    bool flush = offset >= total || batch.size() >= options_.parallel;
    CompareResult status_result;
    Part part;
    if (!flush) {
      CO_TRY_VOID(control_.check());
      CO_TRY(part, co_await next_part(offset, &status_result));
      // Differences before this one come first.
      flush = status_result.difference != Difference::kNone;
      if (!flush && (part.read[0] || part.read[1])) batch.push_back(part);
      offset = part.range.end();
    }
    if (!flush) continue;
    CO_TRY(bool equal, co_await compare_batch(batch, &result));
    if (!equal) co_return result;
    if (status_result.difference != Difference::kNone) co_return status_result;
    control_.report(std::min(offset, total), total);
    if (offset >= total) co_return result;
  }
}

}  // namespace

Async<CompareResult> compare(Executor& executor, block::Node& first, block::Node& second,
                             CompareOptions options, const JobControl& control,
                             CompareFailure* failure) {
  Comparer comparer(executor, first, second, options, control, failure);
  co_return co_await comparer.run();
}

}  // namespace calf::ops
