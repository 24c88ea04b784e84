#include "firmware/boot/boot_memory.h"

#include <algorithm>
#include <optional>

namespace calf::firmware {

using devices::Gpa;

std::string in_mib(uint64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / kOneMiB);
}

const BootMemory::Claim* BootMemory::overlapping(ByteRange range) const {
  auto found =
      std::ranges::find_if(claims_, [&](const Claim& c) { return c.range.overlaps(range); });
  return found == claims_.end() ? nullptr : &*found;
}

Result<void> BootMemory::claim(std::string_view what, ByteRange range) {
  if (!map_.is_usable_ram(range)) {
    return make_error(ErrorKind::kResource,
                      "{} needs {} at {:#x}, which is not all RAM of a guest with {}: give it more "
                      "memory (-m), or another kernel",
                      what, in_mib(range.length), range.offset, in_mib(map_.ram_size()));
  }
  if (const Claim* other = overlapping(range)) {
    return make_error(ErrorKind::kResource, "{} at {:#x}-{:#x} overlaps {} at {:#x}-{:#x}", what,
                      range.offset, range.end(), other->what, other->range.offset,
                      other->range.end());
  }
  claims_.push_back({range, std::string(what)});
  return {};
}

Result<void> BootMemory::write(std::string_view what, uint64_t address,
                               std::span<const uint8_t> bytes) {
  if (bytes.empty() || memory_.write(Gpa{address}, bytes)) return {};
  return make_error(ErrorKind::kInvalid, "{}: no guest memory at {:#x}", what, address);
}

Result<void> BootMemory::load(std::string_view what, ByteRange range,
                              std::span<const uint8_t> bytes) {
  TRY_VOID(claim(what, range));
  auto target = memory_.translate(Gpa{range.offset}, range.length);
  if (!target || bytes.size() > target->size()) {
    return make_error(ErrorKind::kInvalid, "{}: no guest memory at {:#x}", what, range.offset);
  }
  // Not ranges::copy, of which g++ 12 makes a loop over bytes where the source is const.
  auto rest = std::copy(bytes.begin(), bytes.end(), target->begin());
  std::fill(rest, target->end(), uint8_t{0});
  return {};
}

Result<ByteRange> BootMemory::claim_high(std::string_view what, uint64_t size, uint64_t limit) {
  auto fits_under = [&](ByteRange room) -> std::optional<ByteRange> {
    uint64_t top = std::min(room.end(), limit);
    while (top > room.offset && size <= top - room.offset) {
      ByteRange candidate{align_down(top - size, kPageSize), size};
      if (candidate.offset < room.offset) break;
      const Claim* taken = overlapping(candidate);
      if (taken == nullptr) return candidate;
      top = taken->range.offset;  // strictly below the candidate's end: the loop ends
    }
    return std::nullopt;
  };
  std::span<const E820Entry> entries = map_.e820();
  for (auto entry = entries.rbegin(); entry != entries.rend() && size != 0; ++entry) {
    if (entry->kind() != E820Type::kRam || entry->base < kOneMiB) continue;
    if (auto range = fits_under(entry->range())) {
      TRY_VOID(claim(what, *range));
      return *range;
    }
  }
  return make_error(ErrorKind::kResource,
                    "{} ({}) does not fit into memory below {} beside the kernel: give the guest "
                    "more memory (-m)",
                    what, in_mib(size), in_mib(limit));
}

}  // namespace calf::firmware
