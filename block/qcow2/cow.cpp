#include "block/qcow2/cow.h"

namespace calf::qcow2 {

CowWrite::CowWrite(Image::State& state, uint64_t offset, IoSlice data, ByteRange host, bool fresh,
                   L2Entry first, L2Entry last)
    : state_(state),
      offset_(offset),
      data_(data),
      host_(host),
      fresh_(fresh),
      first_(first),
      last_(last) {}

Async<> CowWrite::run() {
  const Geometry& g = state_.geometry();
  const uint64_t begin = g.cluster_start(offset_);
  const uint64_t end = offset_ + data_.size();
  uint64_t head = offset_ - begin;
  uint64_t tail = begin + host_.length - end;
  if (fresh_ && part_reads_zero(state_, first_, {begin, head})) head = 0;
  if (fresh_ && (part_reads_zero(state_, last_, {end, tail}) || end >= state_.size)) tail = 0;

  std::vector<Async<>> reads;
  head_ = AlignedBuffer(head);
  tail_ = AlignedBuffer(tail);
  FlatIo head_io(head_.span());
  FlatIo tail_io(tail_.span());
  if (head != 0) reads.push_back(read_cluster_part(state_, first_, begin, head_io.slice()));
  if (tail != 0) reads.push_back(read_cluster_part(state_, last_, end, tail_io.slice()));
  if (reads.size() == 1) {
    Async<> only = std::move(reads[0]);
    CO_TRY_VOID(co_await only);
  } else if (!reads.empty()) {
    CO_TRY_VOID(co_await all_succeed(state_.executor, std::move(reads)));
  }

  const uint64_t target = host_.offset + (offset_ - begin) - head;
  if (head == 0 && tail == 0) co_return co_await state_.file.write(target, data_);
  std::vector<iovec> parts;
  if (head != 0) parts.push_back({head_.data(), head});
  data_.for_each([&](uint8_t* bytes, size_t size) { parts.push_back({bytes, size}); });
  if (tail != 0) parts.push_back({tail_.data(), tail});
  IoSlice all(parts, 0, head + data_.size() + tail);
  co_return co_await state_.file.write(target, all);
}

}  // namespace calf::qcow2
