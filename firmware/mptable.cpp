#include "firmware/mptable.h"

#include <algorithm>
#include <array>

#include "block/base/endian.h"
#include "firmware/memory_map.h"
#include "firmware/platform.h"

namespace calf::firmware {
namespace {

using devices::Gpa;

// Layouts: MP Specification 1.4, sections 4.1 to 4.3; the numbers are byte offsets.
struct FloatingPointer {
  std::array<char, 4> signature{'_', 'M', 'P', '_'};  //  0
  le32 table;                                         //  4
  uint8_t length = 1;                                 //  8 in 16-byte units
  uint8_t revision = 4;                               //  9 1.4
  uint8_t checksum = 0;                               // 10
  std::array<uint8_t, 5> features{};                  // 11 zeroes: there is a table, no PIC mode
};
static_assert(sizeof(FloatingPointer) == 16);

struct TableHeader {
  std::array<char, 4> signature{'P', 'C', 'M', 'P'};                   //  0
  le16 length;                                                         //  4
  uint8_t revision = 4;                                                //  6
  uint8_t checksum = 0;                                                //  7
  std::array<char, 8> oem_id{'C', 'A', 'L', 'F', ' ', ' ', ' ', ' '};  //  8
  std::array<char, 12> product_id{'V', 'M', ' ', ' ', ' ', ' ',        // 16
                                  ' ', ' ', ' ', ' ', ' ', ' '};
  le32 oem_table;                 // 28
  le16 oem_table_size;            // 32
  le16 entry_count;               // 34
  le32 local_apic;                // 36
  le16 extended_length;           // 40
  uint8_t extended_checksum = 0;  // 42
  uint8_t reserved = 0;
};
static_assert(sizeof(TableHeader) == 44);

struct ProcessorEntry {
  uint8_t type = 0;
  uint8_t apic_id;
  uint8_t apic_version = 0x14;
  uint8_t flags;   // bit 0 usable, bit 1 boot processor
  le32 signature;  // family 6
  le32 features;   // FPU and APIC; kernels ask CPUID
  std::array<uint8_t, 8> reserved{};
};
static_assert(sizeof(ProcessorEntry) == 20);

struct BusEntry {
  uint8_t type = 1;
  uint8_t id;
  std::array<char, 6> name;
};
static_assert(sizeof(BusEntry) == 8);

struct IoapicEntry {
  uint8_t type = 2;
  uint8_t id = kIoapicId;
  uint8_t version = 0x11;
  uint8_t usable = 1;
  le32 address;
};
static_assert(sizeof(IoapicEntry) == 8);

enum class InterruptKind : uint8_t { kVectored = 0, kNmi = 1, kExternal = 3 };

struct InterruptEntry {
  uint8_t type;  // 3: of the IOAPIC, 4: of local APICs
  InterruptKind kind = InterruptKind::kVectored;
  le16 flags;  // polarity and trigger; 0 is what the bus does
  uint8_t bus;
  uint8_t source;
  uint8_t apic;
  uint8_t input;
};
static_assert(sizeof(InterruptEntry) == 8);

constexpr uint8_t kPciBus = 0, kIsaBus = 1;
constexpr uint8_t kAllApics = 0xFF;
constexpr uint16_t kActiveHighLevel = 1 | 3 << 2;

class Table {
 public:
  template <class T>
  void add(const T& entry) {
    std::span<const uint8_t> bytes = bytes_of(entry);
    entries_.insert(entries_.end(), bytes.begin(), bytes.end());
    ++count_;
  }
  std::vector<uint8_t> finish() && {
    TableHeader header;
    header.length = static_cast<uint16_t>(sizeof header + entries_.size());
    header.entry_count = count_;
    header.local_apic = static_cast<uint32_t>(kLapic.offset);
    std::span<const uint8_t> head = bytes_of(header);
    std::vector<uint8_t> table(head.begin(), head.end());
    table.insert(table.end(), entries_.begin(), entries_.end());
    table[offsetof(TableHeader, checksum)] = checksum_of(table);
    return table;
  }

 private:
  std::vector<uint8_t> entries_;
  uint16_t count_ = 0;
};

void add_isa_interrupts(Table& table) {
  constexpr uint8_t kCascade = 2;
  for (uint8_t irq = 0; irq < 16; ++irq) {
    if (irq == kCascade || std::ranges::count(kPciIntxLines, irq) != 0) continue;
    InterruptEntry entry{};
    entry.type = 3;
    entry.flags = irq == kSciIrq ? kActiveHighLevel : uint16_t{0};
    entry.bus = kIsaBus;
    entry.source = irq;
    entry.apic = kIoapicId;
    entry.input = irq == kTimerIrq ? kTimerIoapicPin : irq;
    table.add(entry);
  }
}

void add_pci_interrupts(Table& table, unsigned slots) {
  for (unsigned slot = 0; slot < slots; ++slot) {
    for (unsigned pin = 0; pin < 4; ++pin) {
      InterruptEntry entry{};
      entry.type = 3;
      entry.bus = kPciBus;
      entry.source = static_cast<uint8_t>(slot << 2 | pin);
      entry.apic = kIoapicId;
      entry.input = pci_intx_line(slot, pin);
      table.add(entry);
    }
  }
}

}  // namespace

Result<void> place_mptable(std::span<const uint32_t> apic_ids, unsigned pci_slots,
                           TableArea& tables, TableArea& entry_points) {
  Table table;
  for (size_t i = 0; i < apic_ids.size(); ++i) {
    if (apic_ids[i] >= kAllApics) continue;
    ProcessorEntry entry{};
    entry.apic_id = static_cast<uint8_t>(apic_ids[i]);
    entry.flags = i == 0 ? 3 : 1;
    entry.signature = 0x600;
    entry.features = 0x201;
    table.add(entry);
  }
  table.add(BusEntry{.id = kPciBus, .name = {'P', 'C', 'I', ' ', ' ', ' '}});
  table.add(BusEntry{.id = kIsaBus, .name = {'I', 'S', 'A', ' ', ' ', ' '}});
  IoapicEntry ioapic{};
  ioapic.address = static_cast<uint32_t>(kIoapic.offset);
  table.add(ioapic);
  add_isa_interrupts(table);
  add_pci_interrupts(table, pci_slots);
  // LINT0 takes the PIC's interrupts, LINT1 the NMI.
  table.add(InterruptEntry{4, InterruptKind::kExternal, 0, kIsaBus, 0, kAllApics, 0});
  table.add(InterruptEntry{4, InterruptKind::kNmi, 0, kIsaBus, 0, kAllApics, 1});

  TRY(Gpa address, tables.place("MP configuration table", std::move(table).finish()));
  FloatingPointer pointer;
  pointer.table = static_cast<uint32_t>(raw(address));
  pointer.checksum = checksum_of(bytes_of(pointer));
  TRY_VOID(entry_points.place("MP floating pointer", bytes_of(pointer)));
  return {};
}

}  // namespace calf::firmware
