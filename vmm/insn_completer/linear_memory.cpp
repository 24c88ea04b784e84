#include "vmm/insn_completer/linear_memory.h"

#include <algorithm>
#include <array>

namespace calf::insn {

namespace {

constexpr uint64_t kPage = 4096;

// Bits of a table entry.
constexpr uint64_t kPresent = 1 << 0;
constexpr uint64_t kWritable = 1 << 1;
constexpr uint64_t kUser = 1 << 2;
constexpr uint64_t kAccessed = 1 << 5;
constexpr uint64_t kDirty = 1 << 6;
constexpr uint64_t kLarge = 1 << 7;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;

enum FaultBits : uint32_t {
  kFaultPresent = 1 << 0,
  kFaultWrite = 1 << 1,
  kFaultUser = 1 << 2,
  kFaultReserved = 1 << 3,
  kFaultFetch = 1 << 4,
};

constexpr uint64_t kAddressMask = 0x000ffffffffff000;

// Other vCPUs walk the same tables.
void set_bits(std::span<uint8_t> entry, uint64_t bits) {
  if (entry.size() == 8) {
    __atomic_fetch_or(reinterpret_cast<uint64_t*>(entry.data()), bits, __ATOMIC_SEQ_CST);
  } else {
    __atomic_fetch_or(reinterpret_cast<uint32_t*>(entry.data()), static_cast<uint32_t>(bits),
                      __ATOMIC_SEQ_CST);
  }
}

uint64_t load(std::span<const uint8_t> entry) {
  if (entry.size() == 8) {
    return __atomic_load_n(reinterpret_cast<const uint64_t*>(entry.data()), __ATOMIC_ACQUIRE);
  }
  return __atomic_load_n(reinterpret_cast<const uint32_t*>(entry.data()), __ATOMIC_ACQUIRE);
}

}  // namespace

// How tables look in one paging mode. Every table but PAE's first has one page.
struct LinearMemory::Format {
  unsigned levels;
  unsigned entry_size;
  unsigned index_bits;
  bool large_at_2;     // 2 MiB or 4 MiB pages
  bool large_at_3;     // 1 GiB pages
  bool has_nx;         // entries are wide enough and EFER.NXE is set
  bool pae_directory;  // the top entry carries no access rights
};

LinearMemory::LinearMemory(const devices::GuestMemory& memory, const SystemRegisters& system,
                           uint64_t rflags, bool supervisor)
    : memory_(memory),
      cr0_(system.cr0),
      cr3_(system.cr3),
      cr4_(system.cr4),
      efer_(system.efer),
      user_(!supervisor && system.cpl() == 3),
      smap_applies_((system.cr4 & kCr4Smap) != 0 &&
                    (supervisor || (rflags & kAlignmentCheck) == 0)) {}

Exception LinearMemory::page_fault(uint64_t linear, AccessKind kind, uint32_t error_bits) const {
  uint32_t code = error_bits;
  if (kind == AccessKind::kWrite) code |= kFaultWrite;
  if (user_) code |= kFaultUser;
  bool shows_fetch = (efer_ & kEferNxe) != 0 || (cr4_ & kCr4Smep) != 0;
  if (kind == AccessKind::kFetch && shows_fetch) code |= kFaultFetch;
  return {kVectorPageFault, code, linear};
}

Step<std::span<uint8_t>> LinearMemory::entry_bytes(uint64_t physical, uint64_t length) {
  auto bytes = memory_.translate(devices::Gpa{physical}, length);
  if (!bytes) return NotKnown{fmt::format("a page table at {:#x} is not in RAM", physical)};
  return *bytes;
}

Step<devices::Gpa> LinearMemory::translate(uint64_t linear, AccessKind kind) {
  if ((cr0_ & kCr0Pg) == 0) return devices::Gpa{linear & 0xffffffff};
  bool nxe = (efer_ & kEferNxe) != 0;
  if ((efer_ & kEferLma) != 0) {
    unsigned levels = (cr4_ & kCr4La57) != 0 ? 5 : 4;
    return walk(linear, kind, {levels, 8, 9, true, true, nxe, false});
  }
  linear &= 0xffffffff;
  if ((cr4_ & kCr4Pae) != 0) return walk(linear, kind, {3, 8, 9, true, false, nxe, true});
  return walk(linear, kind, {2, 4, 10, (cr4_ & kCr4Pse) != 0, false, false, false});
}

Step<devices::Gpa> LinearMemory::walk(uint64_t linear, AccessKind kind, const Format& format) {
  uint64_t table = format.pae_directory ? cr3_ & 0xffffffe0 : cr3_ & kAddressMask;
  bool writable = true;
  bool user = true;
  bool executable = true;
  for (unsigned level = format.levels; level >= 1; --level) {
    unsigned shift = 12 + (level - 1) * format.index_bits;
    uint64_t index = (linear >> shift) & ((uint64_t{1} << format.index_bits) - 1);
    if (format.pae_directory && level == format.levels) index &= 3;
    TRY(std::span<uint8_t> bytes,
        entry_bytes(table + index * format.entry_size, format.entry_size));
    uint64_t entry = load(bytes);
    if ((entry & kPresent) == 0) return page_fault(linear, kind, 0);
    if (format.entry_size == 8 && !format.has_nx && (entry & kNoExecute) != 0) {
      return page_fault(linear, kind, kFaultPresent | kFaultReserved);
    }
    bool top_of_pae = format.pae_directory && level == format.levels;
    if (!top_of_pae) {
      writable = writable && (entry & kWritable) != 0;
      user = user && (entry & kUser) != 0;
      executable = executable && !(format.has_nx && (entry & kNoExecute) != 0);
    }
    bool leaf = level == 1 || ((entry & kLarge) != 0 && ((level == 2 && format.large_at_2) ||
                                                         (level == 3 && format.large_at_3)));
    if (!leaf) {
      if (!top_of_pae && (entry & kAccessed) == 0) set_bits(bytes, kAccessed);
      table = entry & kAddressMask;
      continue;
    }
    bool wp = (cr0_ & kCr0Wp) != 0;
    bool denied = (user_ && !user) || (kind == AccessKind::kWrite && !writable && (user_ || wp)) ||
                  (kind == AccessKind::kFetch && !executable);
    if (!user_ && user) {
      denied = denied || (kind == AccessKind::kFetch && (cr4_ & kCr4Smep) != 0) ||
               (kind != AccessKind::kFetch && smap_applies_);
    }
    if (denied) return page_fault(linear, kind, kFaultPresent);
    uint64_t wanted = kAccessed | (kind == AccessKind::kWrite ? kDirty : 0);
    if ((entry & wanted) != wanted) set_bits(bytes, wanted);
    uint64_t offset_mask = (uint64_t{1} << shift) - 1;
    uint64_t base = entry & kAddressMask & ~offset_mask;
    // 4 MiB pages carry address bits 39:32 in 20:13 (PSE-36).
    if (format.entry_size == 4 && level == 2) base |= (entry >> 13 & 0xff) << 32;
    return devices::Gpa{base | (linear & offset_mask)};
  }
  return NotKnown{"page walk without a leaf"};
}

Step<std::span<uint8_t>> LinearMemory::piece(uint64_t linear, uint64_t length, AccessKind kind) {
  TRY(devices::Gpa physical, translate(linear, kind));
  auto access = kind == AccessKind::kWrite ? devices::GuestMemory::Access::kWrite
                                           : devices::GuestMemory::Access::kRead;
  auto bytes = memory_.translate(physical, length, access);
  if (!bytes) {
    return NotKnown{
        fmt::format("memory operand at physical {:#x} is not RAM", devices::raw(physical))};
  }
  return *bytes;
}

Step<void> LinearMemory::read(uint64_t linear, std::span<uint8_t> to, AccessKind kind) {
  while (!to.empty()) {
    size_t length = std::min<size_t>(to.size(), kPage - linear % kPage);
    TRY(std::span<uint8_t> bytes, piece(linear, length, kind));
    std::copy(bytes.begin(), bytes.end(), to.begin());
    to = to.subspan(length);
    linear += length;
  }
  return {};
}

Step<void> LinearMemory::write(uint64_t linear, std::span<const uint8_t> from) {
  // Longest operand: an XSAVE area, so at most two page borders.
  std::array<std::span<uint8_t>, 3> pieces;
  size_t count = 0;
  size_t total = 0;
  while (total < from.size()) {
    if (count == pieces.size()) return NotKnown{"memory operand spans too many pages"};
    size_t length = std::min<size_t>(from.size() - total, kPage - (linear + total) % kPage);
    TRY(pieces[count], piece(linear + total, length, AccessKind::kWrite));
    ++count;
    total += length;
  }
  for (std::span<uint8_t> part : std::span(pieces).first(count)) {
    std::copy_n(from.begin(), part.size(), part.begin());
    from = from.subspan(part.size());
  }
  return {};
}

Step<std::span<uint8_t>> LinearMemory::writable(uint64_t linear, uint64_t length) {
  if (linear % kPage + length > kPage) return NotKnown{"locked operation across a page border"};
  return piece(linear, length, AccessKind::kWrite);
}

}  // namespace calf::insn
