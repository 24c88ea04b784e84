#include "block/qcow2/cow.h"

#include <algorithm>

namespace calf::qcow2 {
namespace {

// Subclusters of `entry` whose content is its own and goes with it: bits of the lowest and the
// highest one matter.
uint32_t own_subclusters(const L2Entry& entry) {
  return entry.kind == ClusterKind::kCompressed ? L2Entry::kAll : entry.data_mask;
}

uint64_t written_begin(const Geometry& g, uint64_t offset, const L2Entry& old, bool reused) {
  const unsigned sub = g.subcluster_index(offset);
  if (reused) {
    bool stands = old.part(sub) == ClusterKind::kData;
    return stands ? offset : align_down(offset, g.subcluster_size());
  }
  const uint32_t own = own_subclusters(old);
  const unsigned lowest = own == 0 ? sub : std::min(sub, unsigned(std::countr_zero(own)));
  return g.cluster_start(offset) + (uint64_t{lowest} << g.subcluster_bits());
}

uint64_t written_end(const Geometry& g, uint64_t end, const L2Entry& old, bool reused) {
  const unsigned sub = g.subcluster_index(end - 1);
  if (reused) {
    bool stands = old.part(sub) == ClusterKind::kData;
    return stands ? end : align_up(end, g.subcluster_size());
  }
  const uint32_t own = own_subclusters(old);
  unsigned highest = sub;
  if (own != 0) highest = std::max(sub, 31 - unsigned(std::countl_zero(own)));
  // The masks of entries without subclusters are all ones.
  highest = std::min(highest, g.subclusters() - 1);
  return g.cluster_start(end - 1) + ((uint64_t{highest} + 1) << g.subcluster_bits());
}

}  // namespace

CowWrite::CowWrite(Image::State& state, uint64_t offset, IoSlice data, CowTarget target,
                   L2Entry first, L2Entry last)
    : state_(state), offset_(offset), data_(data), target_(target), first_(first), last_(last) {
  const Geometry& g = state.geometry();
  const uint64_t begin = written_begin(g, offset, first, target.reused);
  const uint64_t end = written_end(g, offset + data.size(), last, target.reused);
  written_ = {begin, end - begin};
}

Async<> CowWrite::run() {
  const Geometry& g = state_.geometry();
  const uint64_t end = offset_ + data_.size();
  uint64_t head = offset_ - written_.offset;
  uint64_t tail = written_.end() - end;
  // Encrypted zeroes are not zeroes.
  const bool fresh = target_.fresh && !state_.guest_data.encrypted();
  if (fresh && part_reads_zero(state_, first_, {written_.offset, head})) head = 0;
  if (fresh && (part_reads_zero(state_, last_, {end, tail}) || end >= state_.size)) tail = 0;

  std::vector<Async<>> reads;
  head_ = AlignedBuffer(head);
  tail_ = AlignedBuffer(tail);
  FlatIo head_io(head_.span());
  FlatIo tail_io(tail_.span());
  if (head != 0)
    reads.push_back(read_cluster_part(state_, first_, offset_ - head, head_io.slice()));
  if (tail != 0) reads.push_back(read_cluster_part(state_, last_, end, tail_io.slice()));
  if (reads.size() == 1) {
    Async<> only = std::move(reads[0]);
    CO_TRY_VOID(co_await only);
  } else if (!reads.empty()) {
    CO_TRY_VOID(co_await all_succeed(state_.executor, std::move(reads)));
  }

  const uint64_t first = offset_ - head;
  const uint64_t place = target_.host.offset + g.in_cluster(offset_) - head;
  if (head == 0 && tail == 0) co_return co_await state_.guest_data.write(first, place, data_);
  std::vector<iovec> parts;
  if (head != 0) parts.push_back({head_.data(), head});
  data_.for_each([&](uint8_t* bytes, size_t size) { parts.push_back({bytes, size}); });
  if (tail != 0) parts.push_back({tail_.data(), tail});
  IoSlice all(parts, 0, head + data_.size() + tail);
  co_return co_await state_.guest_data.write(first, place, all);
}

}  // namespace calf::qcow2
