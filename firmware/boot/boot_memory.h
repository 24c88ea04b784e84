// BootMemory: guest RAM while a kernel is put into it. Every piece is claimed first, so that no two
// of them overlap and none lies outside of RAM, whatever the files say.
//
//   0x06000  descriptor table          0x10000  real-mode setup code and its heap (64 KiB)
//   0x07000  Linux zero page           0x20000  command line (64 KiB)
//   0x08000  PVH start information     0x30000  free
//   0x09000  page tables (6 pages)     1 MiB …  kernel, initrd
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "block/base/byte_range.h"
#include "block/base/result.h"
#include "devices/core/guest_memory.h"
#include "firmware/memory_map.h"

namespace calf::firmware {

inline constexpr ByteRange kBootGdt{0x6000, 0x1000};
inline constexpr ByteRange kZeroPage{0x7000, 0x1000};
inline constexpr ByteRange kPvhInfo{0x8000, 0x1000};
inline constexpr ByteRange kBootPageTables{0x9000, 0x6000};
inline constexpr ByteRange kRealModeArea{0x10000, 0x10000};
inline constexpr ByteRange kCommandLine{0x20000, 0x10000};
inline constexpr uint64_t kBootStackTop = kBootGdt.end() - 16;

class BootMemory {
 public:
  // Both outlive the object.
  BootMemory(const MemoryMap& map, const devices::GuestMemory& memory)
      : map_(map), memory_(memory) {}

  const MemoryMap& map() const { return map_; }

  // kResource if the range is not RAM or not free; `what` is for the text.
  Result<void> claim(std::string_view what, ByteRange range);
  // Bytes into a range that is claimed already (or belongs to a larger claim).
  Result<void> write(std::string_view what, uint64_t address, std::span<const uint8_t> bytes);
  // Claims the range and fills it: first the bytes, then zeroes.
  Result<void> load(std::string_view what, ByteRange range, std::span<const uint8_t> bytes);
  // Claims the highest free range of `size` bytes above 1 MiB that ends at or before `limit`.
  Result<ByteRange> claim_high(std::string_view what, uint64_t size, uint64_t limit);

 private:
  struct Claim {
    ByteRange range;
    std::string what;
  };
  const Claim* overlapping(ByteRange range) const;

  const MemoryMap& map_;
  const devices::GuestMemory& memory_;
  std::vector<Claim> claims_;
};

// A text with the number of bytes in it for errors: "12.3 MiB".
std::string in_mib(uint64_t bytes);

}  // namespace calf::firmware
