// The machine's physical address space: what stands where, and the one E820 that tells the guest.
//
//   0           IVT 0–0x400, BDA 0x400–0x500, RAM
//   0x9FC00     EBDA, 1 KiB, reserved; its last 256 bytes hold the FACS, which the guest writes
//   0xA0000     hole (no VGA)
//   0xC0000     read-only slot; empty, so that a scan for option ROMs costs no exits
//   0xE0000       ACPI tables (RSDP first), SMBIOS structures, MP configuration table
//   0xF0000       SMBIOS entry points, MP floating pointer; from 0xF1000 BIOS stubs and data
//   0x100000    RAM up to 3 GiB
//   3 GiB       PCI window; ECAM 0xE0000000; IOAPIC, LAPIC; KVM's identity map and TSS pages
//   4 GiB       the rest of RAM, then (aligned) the 64-bit PCI window
//
// RAM that would lie under 0xA0000–0x100000 is not moved elsewhere: a machine of 512 MiB ends at
// 512 MiB, as a PC does. ACPI 6.5, chapter 15 describes E820.
//
// Not supported: memory hot-plug, more than one NUMA node.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "block/base/byte_range.h"
#include "block/base/endian.h"
#include "block/base/result.h"
#include "devices/core/guest_memory.h"

namespace calf::firmware {

inline constexpr uint64_t kPageSize = 4096;
inline constexpr uint64_t kOneMiB = 1ULL << 20;
inline constexpr uint64_t kOneGiB = 1ULL << 30;
inline constexpr uint64_t kFourGiB = 4 * kOneGiB;

// Below 1 MiB.
inline constexpr ByteRange kIvt{0, 0x400};
inline constexpr ByteRange kBda{0x400, 0x100};
inline constexpr uint64_t kLowRamEnd = 0x9FC00;  // what INT 12h reports: 639 KiB
inline constexpr ByteRange kEbda{0x9FC00, 0x400};
inline constexpr ByteRange kEbdaBios{0x9FC00, 0x300};  // the BIOS services' part
inline constexpr ByteRange kFacsArea{0x9FF00, 0x100};
inline constexpr ByteRange kVgaHole{0xA0000, 0x20000};
inline constexpr ByteRange kReadOnlyArea{0xC0000, 0x40000};
inline constexpr ByteRange kFirmwareArea{0xE0000, 0x20000};  // reserved in the E820
inline constexpr ByteRange kTableArea{0xE0000, 0x10000};     // ACPI, SMBIOS structures, MP table
inline constexpr ByteRange kBiosSegment{0xF0000, 0x10000};
// Inside the BIOS segment, kept free by the BIOS: what guests find by scanning from 0xF0000
// on; at the start, because each step of a scan costs.
inline constexpr ByteRange kEntryPointArea{0xF0000, 0x1000};

// Between 3 and 4 GiB.
inline constexpr uint64_t kLowRamLimit = 3 * kOneGiB;
inline constexpr ByteRange kPciWindow32{0xC0000000, 0x20000000};
inline constexpr ByteRange kEcam{0xE0000000, 0x100000};  // bus 0 only
inline constexpr unsigned kEcamLastBus = 0;
inline constexpr ByteRange kIoapic{0xFEC00000, 0x1000};
inline constexpr ByteRange kLapic{0xFEE00000, 0x1000};
inline constexpr ByteRange kKvmIdentityMap{0xFFFBC000, 0x1000};
inline constexpr ByteRange kKvmTss{0xFFFBD000, 0x3000};

// I/O ports for the BARs of PCI devices.
inline constexpr ByteRange kPciIoWindow{0xC000, 0x4000};

// Address range types (ACPI 6.5, table 15.4).
enum class E820Type : uint32_t {
  kRam = 1,
  kReserved = 2,
  kAcpiReclaimable = 3,
  kAcpiNvs = 4,
  kUnusable = 5,
};

// One entry as INT 15h E820 and the Linux zero page store it.
struct E820Entry {
  le64 base;
  le64 length;
  le32 type;

  E820Type kind() const { return static_cast<E820Type>(type.value()); }
  ByteRange range() const { return {base, length}; }
};
static_assert(sizeof(E820Entry) == 20);

// A memory slot of the guest, backed by a piece of one host mapping of ram_size() bytes.
struct MemorySlot {
  devices::Gpa start;
  uint64_t length;
  uint64_t backing_offset;
  bool writable;  // for the guest; writes to the others are ignored
};

class MemoryMap {
 public:
  static constexpr uint64_t kMinRam = kOneMiB;
  static constexpr uint64_t kMaxRam = 1ULL << 42;

  // `ram_size` is a multiple of the page size between the two limits. `reserved` are pieces of RAM
  // that the guest is told to leave alone. kInvalid otherwise.
  static Result<MemoryMap> build(uint64_t ram_size, std::span<const ByteRange> reserved = {});

  uint64_t ram_size() const { return ram_size_; }
  uint64_t ram_below_4g() const;  // includes what the holes below 1 MiB hide
  uint64_t ram_above_4g() const { return ram_size_ - ram_below_4g(); }

  // Sorted by address, disjoint.
  std::span<const MemorySlot> slots() const { return slots_; }
  // Sorted by address, disjoint; neighbours of one type are merged.
  std::span<const E820Entry> e820() const { return e820_; }
  // Behind the last RAM byte. The VMM checks that its end fits the host's address width.
  ByteRange pci_window64() const;

  // True if every byte of `range` is RAM in the E820. False for an empty range.
  bool is_usable_ram(ByteRange range) const;

 private:
  explicit MemoryMap(uint64_t ram_size) : ram_size_(ram_size) {}

  uint64_t ram_size_;
  std::vector<MemorySlot> slots_;
  std::vector<E820Entry> e820_;
};

}  // namespace calf::firmware
