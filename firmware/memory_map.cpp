#include "firmware/memory_map.h"

#include <algorithm>

namespace calf::firmware {
namespace {

struct TypedRange {
  ByteRange range;
  E820Type type;
};

// Cuts `hole` out of every RAM entry, leaving the pieces before and behind it.
void carve(std::vector<TypedRange>& entries, ByteRange hole) {
  std::vector<TypedRange> out;
  for (const TypedRange& entry : entries) {
    ByteRange cut = entry.range.intersect(hole);
    if (entry.type != E820Type::kRam || cut.empty()) {
      out.push_back(entry);
      continue;
    }
    ByteRange before{entry.range.offset, cut.offset - entry.range.offset};
    ByteRange behind{cut.end(), entry.range.end() - cut.end()};
    if (!before.empty()) out.push_back({before, E820Type::kRam});
    out.push_back({cut, E820Type::kReserved});
    if (!behind.empty()) out.push_back({behind, E820Type::kRam});
  }
  entries = std::move(out);
}

std::vector<E820Entry> sorted_and_merged(std::vector<TypedRange> entries) {
  std::ranges::sort(entries, {}, [](const TypedRange& e) { return e.range.offset; });
  std::vector<E820Entry> out;
  for (const TypedRange& entry : entries) {
    bool extends = !out.empty() && out.back().kind() == entry.type &&
                   out.back().range().end() == entry.range.offset;
    if (extends) {
      out.back().length += entry.range.length;
    } else {
      out.push_back({entry.range.offset, entry.range.length, static_cast<uint32_t>(entry.type)});
    }
  }
  return out;
}

}  // namespace

uint64_t MemoryMap::ram_below_4g() const {
  return std::min(ram_size_, kLowRamLimit);
}

ByteRange MemoryMap::pci_window64() const {
  uint64_t start = align_up(kFourGiB + ram_above_4g(), 4 * kOneGiB);
  return {start, 4 * kOneGiB};
}

Result<MemoryMap> MemoryMap::build(uint64_t ram_size, std::span<const ByteRange> reserved) {
  if (ram_size < kMinRam || ram_size > kMaxRam) {
    return make_error(ErrorKind::kInvalid,
                      "{} bytes of memory: a guest can have from {} MiB to {} GiB", ram_size,
                      kMinRam / kOneMiB, kMaxRam / kOneGiB);
  }
  if (!is_aligned(ram_size, kPageSize)) {
    return make_error(ErrorKind::kInvalid, "{} bytes of memory are not a multiple of {}", ram_size,
                      kPageSize);
  }
  MemoryMap map(ram_size);
  uint64_t below = map.ram_below_4g();
  uint64_t above = map.ram_above_4g();

  map.slots_.push_back({devices::Gpa{0}, kVgaHole.offset, 0, true});
  map.slots_.push_back(
      {devices::Gpa{kReadOnlyArea.offset}, kReadOnlyArea.length, kReadOnlyArea.offset, false});
  if (below > kOneMiB) {
    map.slots_.push_back({devices::Gpa{kOneMiB}, below - kOneMiB, kOneMiB, true});
  }
  if (above != 0) map.slots_.push_back({devices::Gpa{kFourGiB}, above, below, true});

  std::vector<TypedRange> entries = {
      {{0, kLowRamEnd}, E820Type::kRam},
      {kEbda, E820Type::kReserved},
      {kFirmwareArea, E820Type::kReserved},
      {kEcam, E820Type::kReserved},
      {{kKvmIdentityMap.offset, kFourGiB - kKvmIdentityMap.offset}, E820Type::kReserved},
  };
  if (below > kOneMiB) entries.push_back({{kOneMiB, below - kOneMiB}, E820Type::kRam});
  if (above != 0) entries.push_back({{kFourGiB, above}, E820Type::kRam});
  for (ByteRange hole : reserved) {
    if (!make_range(hole.offset, hole.length)) {
      return make_error(ErrorKind::kInvalid, "reserved range at {:#x} wraps around", hole.offset);
    }
    carve(entries, hole);
  }
  map.e820_ = sorted_and_merged(std::move(entries));
  return map;
}

bool MemoryMap::is_usable_ram(ByteRange range) const {
  if (range.empty() || !make_range(range.offset, range.length)) return false;
  return std::ranges::any_of(e820_, [&](const E820Entry& entry) {
    return entry.kind() == E820Type::kRam && entry.range().contains(range);
  });
}

}  // namespace calf::firmware
