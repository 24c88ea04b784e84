#include "devices/virtio/blk_request.h"

#include <cassert>

namespace calf::virtio {
namespace {

ParsedBlkRequest refuse(BlkStatus status, const char* problem) {
  ParsedBlkRequest parsed;
  parsed.status = status;
  parsed.problem = problem;
  return parsed;
}

template <class T>
T copy_object(IoSlice from) {
  T object;
  from.copy_to({reinterpret_cast<uint8_t*>(&object), sizeof object});
  return object;
}

// The bytes of `sectors` sectors from `sector`, if the disk has them all in whole blocks.
std::optional<ByteRange> disk_range(uint64_t sector, uint64_t bytes, const BlkLimits& limits) {
  if (sector > limits.capacity / kSectorSize) return std::nullopt;
  uint64_t offset = sector * kSectorSize;
  if (bytes > limits.capacity - offset) return std::nullopt;
  if (offset % limits.block_size != 0 || bytes % limits.block_size != 0) return std::nullopt;
  return ByteRange{offset, bytes};
}

ParsedBlkRequest parse_transfer(BlkType type, uint64_t sector, IoSlice data,
                                const BlkLimits& limits) {
  if (data.size() > BlkLimits::kMaxTransfer) {
    return refuse(BlkStatus::kIoError, "a transfer larger than size_max and seg_max allow");
  }
  std::optional<ByteRange> range = disk_range(sector, data.size(), limits);
  if (!range) return refuse(BlkStatus::kIoError, "a transfer beyond the end, or of half a block");
  if (type == BlkType::kWrite && limits.read_only) {
    return refuse(BlkStatus::kIoError, "a write to a read-only disk");
  }
  ParsedBlkRequest parsed;
  parsed.request.type = type;
  parsed.request.offset = range->offset;
  parsed.request.data = data;
  return parsed;
}

ParsedBlkRequest parse_segments(BlkType type, IoSlice payload, const BlkLimits& limits) {
  bool offered = type == BlkType::kDiscard ? limits.discard : limits.write_zeroes;
  if (!offered) return refuse(BlkStatus::kUnsupported, "a request of a feature not negotiated");
  if (limits.read_only) return refuse(BlkStatus::kIoError, "a write to a read-only disk");
  size_t count = payload.size() / sizeof(BlkRangeSegment);
  if (count == 0 || payload.size() % sizeof(BlkRangeSegment) != 0 ||
      count > BlkLimits::kMaxSegments) {
    return refuse(BlkStatus::kIoError, "a wrong number of segments");
  }
  uint32_t allowed_flags = type == BlkType::kWriteZeroes ? kBlkSegmentUnmap : 0;
  ParsedBlkRequest parsed;
  parsed.request.type = type;
  parsed.request.segments.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    auto segment = copy_object<BlkRangeSegment>(
        payload.slice(i * sizeof(BlkRangeSegment), sizeof(BlkRangeSegment)));
    if ((segment.flags & ~allowed_flags) != 0) {
      return refuse(BlkStatus::kUnsupported, "an unknown flag of a segment");
    }
    uint64_t bytes = uint64_t{segment.sectors} * kSectorSize;
    std::optional<ByteRange> range = disk_range(segment.sector, bytes, limits);
    if (!range || segment.sectors > BlkLimits::kMaxRangeSectors) {
      return refuse(BlkStatus::kIoError, "a segment beyond the end, too long or of half a block");
    }
    if (range->empty()) continue;
    parsed.request.segments.push_back({*range, (segment.flags & kBlkSegmentUnmap) != 0});
  }
  return parsed;
}

}  // namespace

ParsedBlkRequest parse_blk_request(const Chain& chain, const BlkLimits& limits) {
  assert(has_status_byte(chain));
  IoSlice readable = chain.readable();
  IoSlice writable = chain.writable();
  if (readable.size() < sizeof(BlkRequestHeader)) {
    return refuse(BlkStatus::kIoError, "a request without a whole header");
  }
  auto header = copy_object<BlkRequestHeader>(readable.slice(0, sizeof(BlkRequestHeader)));
  IoSlice out = readable.slice(sizeof header, readable.size() - sizeof header);
  IoSlice in = writable.slice(0, writable.size() - 1);

  uint32_t type = header.type;
  switch (static_cast<BlkType>(type)) {
    case BlkType::kRead:
      return parse_transfer(BlkType::kRead, header.sector, in, limits);
    case BlkType::kWrite:
      return parse_transfer(BlkType::kWrite, header.sector, out, limits);
    case BlkType::kDiscard:
      return parse_segments(BlkType::kDiscard, out, limits);
    case BlkType::kWriteZeroes:
      return parse_segments(BlkType::kWriteZeroes, out, limits);
    case BlkType::kFlush:
    case BlkType::kGetId: {
      ParsedBlkRequest parsed;
      parsed.request.type = static_cast<BlkType>(type);
      parsed.request.data = in;
      return parsed;
    }
  }
  return refuse(BlkStatus::kUnsupported, "an unknown request type");
}

void write_status_byte(const Chain& chain, BlkStatus status) {
  uint8_t byte = static_cast<uint8_t>(status);
  chain.writable().slice(chain.writable_bytes - 1, 1).copy_from(std::span(&byte, 1));
}

}  // namespace calf::virtio
