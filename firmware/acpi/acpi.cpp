#include "firmware/acpi/acpi.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstring>

#include "devices/legacy/acpi_pm.h"
#include "firmware/acpi/tables.h"
#include "firmware/memory_map.h"
#include "firmware/platform.h"

namespace calf::firmware::acpi {
namespace {

using devices::Gpa;
using Bytes = std::vector<uint8_t>;

constexpr std::array<char, 6> kOemId{'C', 'A', 'L', 'F', ' ', ' '};

Header make_header(const char (&signature)[5], uint8_t revision) {
  Header header{};
  std::copy_n(signature, 4, header.signature.begin());
  header.revision = revision;
  header.oem_id = kOemId;
  header.oem_table = {'C', 'A', 'L', 'F', ' ', ' ', ' ', ' '};
  std::copy_n(signature, 4, header.oem_table.begin() + 4);
  header.oem_revision = 1;
  header.creator = {'C', 'A', 'L', 'F'};
  header.creator_revision = 1;
  return header;
}

template <class T>
void append(Bytes& out, const T& object) {
  std::span<const uint8_t> bytes = bytes_of(object);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// Fills in length and checksum of a table that starts with a Header.
Bytes finish(Bytes table) {
  Header header;
  assert(table.size() >= sizeof header);
  std::memcpy(&header, table.data(), sizeof header);
  header.length = static_cast<uint32_t>(table.size());
  header.checksum = 0;
  std::memcpy(table.data(), &header, sizeof header);
  table[offsetof(Header, checksum)] = checksum_of(table);
  return table;
}

template <class T>
Bytes finish_object(const T& object) {
  Bytes table;
  append(table, object);
  return finish(std::move(table));
}

// Access sizes: 1 byte, 2 word, 3 dword.
GenericAddress io_register(uint16_t port, unsigned bytes) {
  GenericAddress address{};
  address.space = 1;
  address.bit_width = static_cast<uint8_t>(8 * bytes);
  address.access_size = static_cast<uint8_t>(bytes == 1 ? 1 : bytes == 2 ? 2 : 3);
  address.address = port;
  return address;
}

template <class Entry>
Bytes pointer_table(const char (&signature)[5], std::span<const Gpa> tables) {
  Bytes table;
  append(table, make_header(signature, 1));
  for (Gpa address : tables)
    append(table, Entry(static_cast<typename Entry::value_type>(raw(address))));
  return finish(std::move(table));
}

Rsdp make_rsdp(Gpa rsdt, Gpa xsdt) {
  Rsdp rsdp{};
  rsdp.signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
  rsdp.oem_id = kOemId;
  rsdp.revision = 2;
  rsdp.rsdt = static_cast<uint32_t>(raw(rsdt));
  rsdp.length = sizeof rsdp;
  rsdp.xsdt = raw(xsdt);
  rsdp.checksum = checksum_of(bytes_of(rsdp).first(20));
  rsdp.extended_checksum = checksum_of(bytes_of(rsdp));
  return rsdp;
}

}  // namespace

std::vector<uint8_t> make_dsdt(const DsdtConfig& config) {
  Bytes table;
  append(table, make_header("DSDT", 2));
  Bytes code = dsdt_code(config);
  table.insert(table.end(), code.begin(), code.end());
  return finish(std::move(table));
}

std::vector<uint8_t> make_fadt(Gpa facs, Gpa dsdt) {
  using Pm = devices::AcpiPm;
  constexpr uint16_t kPm1Event = kPmBase + Pm::kPm1Status;
  constexpr uint16_t kPm1Control = kPmBase + Pm::kPm1Control;
  constexpr uint16_t kPmTimer = kPmBase + Pm::kPmTimer;
  constexpr uint16_t kGpe0 = kPmBase + Pm::kGpe0Status;
  constexpr uint8_t kEnterpriseServer = 4;
  constexpr uint8_t kCmosCentury = 0x32;
  constexpr uint16_t kNoC2 = 101, kNoC3 = 1001;  // latencies that mean "not there"

  Fadt fadt{};
  fadt.header = make_header("FACP", 5);
  fadt.facs = static_cast<uint32_t>(raw(facs));
  fadt.dsdt = static_cast<uint32_t>(raw(dsdt));
  fadt.preferred_profile = kEnterpriseServer;
  fadt.sci_interrupt = kSciIrq;
  fadt.pm1a_event = kPm1Event;
  fadt.pm1a_control = kPm1Control;
  fadt.pm_timer = kPmTimer;
  fadt.gpe0 = kGpe0;
  fadt.pm1_event_length = Pm::kPm1EventLength;
  fadt.pm1_control_length = Pm::kPm1ControlLength;
  fadt.pm_timer_length = Pm::kPmTimerLength;
  fadt.gpe0_length = Pm::kGpe0Length;
  fadt.c2_latency = kNoC2;
  fadt.c3_latency = kNoC3;
  fadt.century = kCmosCentury;
  // No 8042 flag: see the DSDT.
  fadt.boot_flags = boot_flags::kLegacyDevices | boot_flags::kNoVga;
  fadt.flags = fadt_flags::kWbinvd | fadt_flags::kProcC1 | fadt_flags::kNoSleepButton |
               fadt_flags::kNoFixedRtc | fadt_flags::kTimerIs32Bits | fadt_flags::kResetRegister;
  fadt.reset_register = io_register(kPmBase + Pm::kReset, 1);
  fadt.reset_value = Pm::kResetValue;
  // x_facs stays zero: the FACS is below 4 GiB, and one of the two pointers must be zero then.
  fadt.x_dsdt = raw(dsdt);
  fadt.x_pm1a_event = io_register(kPm1Event, Pm::kPm1EventLength);
  fadt.x_pm1a_event.access_size = 2;  // two registers of a word each
  fadt.x_pm1a_control = io_register(kPm1Control, Pm::kPm1ControlLength);
  fadt.x_pm_timer = io_register(kPmTimer, Pm::kPmTimerLength);
  fadt.x_gpe0 = io_register(kGpe0, Pm::kGpe0Length);
  fadt.x_gpe0.access_size = 1;
  return finish_object(fadt);
}

std::vector<uint8_t> make_madt(std::span<const uint32_t> apic_ids) {
  constexpr uint32_t kFirstX2ApicId = 255;
  Madt madt{};
  madt.header = make_header("APIC", 3);
  madt.local_apic = static_cast<uint32_t>(kLapic.offset);
  madt.flags = 1;
  Bytes table;
  append(table, madt);

  bool any_x2apic = false;
  for (size_t uid = 0; uid < apic_ids.size(); ++uid) {
    // Both the ID and the processor's number must fit a byte to be a local APIC entry.
    if (apic_ids[uid] < kFirstX2ApicId && uid < kFirstX2ApicId) {
      MadtLocalApic entry{};
      entry.uid = static_cast<uint8_t>(uid);
      entry.apic_id = static_cast<uint8_t>(apic_ids[uid]);
      entry.flags = 1;
      append(table, entry);
    } else {
      MadtX2Apic entry{};
      entry.apic_id = apic_ids[uid];
      entry.uid = static_cast<uint32_t>(uid);
      entry.flags = 1;
      append(table, entry);
      any_x2apic = true;
    }
  }

  MadtIoapic ioapic{};
  ioapic.id = kIoapicId;
  ioapic.address = static_cast<uint32_t>(kIoapic.offset);
  append(table, ioapic);

  MadtOverride timer{};
  timer.irq = kTimerIrq;
  timer.gsi = kTimerIoapicPin;
  append(table, timer);
  MadtOverride sci{};
  sci.irq = kSciIrq;
  sci.gsi = kSciIrq;
  sci.flags = kActiveHigh | kLevel;
  append(table, sci);

  append(table, MadtLocalNmi{});
  if (any_x2apic) append(table, MadtX2ApicNmi{});
  return finish(std::move(table));
}

std::vector<uint8_t> make_mcfg() {
  Mcfg mcfg{};
  mcfg.header = make_header("MCFG", 1);
  mcfg.base = kEcam.offset;
  mcfg.first_bus = 0;
  mcfg.last_bus = kEcamLastBus;
  return finish_object(mcfg);
}

Result<PlacedAcpi> place_acpi(const AcpiConfig& config, TableArea& area) {
  Facs facs{};
  facs.signature = {'F', 'A', 'C', 'S'};
  facs.length = sizeof facs;
  facs.version = 2;
  static_assert(kFacsArea.offset % 64 == 0 && sizeof facs <= kFacsArea.length);
  Gpa facs_address{kFacsArea.offset};

  // The RSDP comes first, but points to what comes behind it.
  Rsdp rsdp{};
  TRY(Gpa rsdp_address, area.place("RSDP", bytes_of(rsdp)));
  TRY(Gpa dsdt, area.place("DSDT", make_dsdt(config.dsdt)));
  TRY(Gpa fadt, area.place("FADT", make_fadt(facs_address, dsdt)));
  TRY(Gpa madt, area.place("MADT", make_madt(config.apic_ids)));
  TRY(Gpa mcfg, area.place("MCFG", make_mcfg()));
  std::array<Gpa, 3> tables{fadt, madt, mcfg};
  TRY(Gpa rsdt, area.place("RSDT", pointer_table<le32>("RSDT", tables)));
  TRY(Gpa xsdt, area.place("XSDT", pointer_table<le64>("XSDT", tables)));
  rsdp = make_rsdp(rsdt, xsdt);
  area.overwrite(rsdp_address, bytes_of(rsdp));

  std::span<const uint8_t> facs_bytes = bytes_of(facs);
  return PlacedAcpi{rsdp_address, {facs_address, {facs_bytes.begin(), facs_bytes.end()}}};
}

}  // namespace calf::firmware::acpi
