// ACPI tables as they lie in memory: bytes only, little-endian. Numbers in comments are byte
// offsets and sections of ACPI 6.5.
#pragma once

#include <array>
#include <cstdint>

#include "block/base/endian.h"

namespace calf::firmware::acpi {

using Signature = std::array<char, 4>;

// 5.2.3.2
struct GenericAddress {
  uint8_t space;  // 0 memory, 1 I/O
  uint8_t bit_width;
  uint8_t bit_offset;
  uint8_t access_size;  // 1 byte, 2 word, 3 dword
  le64 address;
};
static_assert(sizeof(GenericAddress) == 12);

// 5.2.5.3: found by its signature on a 16-byte boundary between 0xE0000 and 0xFFFFF.
struct Rsdp {
  std::array<char, 8> signature;  //  0 "RSD PTR "
  uint8_t checksum;               //  8 of the first 20 bytes
  std::array<char, 6> oem_id;     //  9
  uint8_t revision;               // 15 2
  le32 rsdt;                      // 16
  le32 length;                    // 20 36
  le64 xsdt;                      // 24
  uint8_t extended_checksum;      // 32 of all 36 bytes
  std::array<uint8_t, 3> reserved;
};
static_assert(sizeof(Rsdp) == 36);

// 5.2.6
struct Header {
  Signature signature;            //  0
  le32 length;                    //  4 with the header
  uint8_t revision;               //  8
  uint8_t checksum;               //  9 all bytes sum to zero
  std::array<char, 6> oem_id;     // 10
  std::array<char, 8> oem_table;  // 16
  le32 oem_revision;              // 24
  std::array<char, 4> creator;    // 28
  le32 creator_revision;          // 32
};
static_assert(sizeof(Header) == 36);

// 5.2.9, revision 5 (ACPI 5.0).
struct Fadt {
  Header header;
  le32 facs;                      // 36
  le32 dsdt;                      // 40
  uint8_t reserved44;             // 44
  uint8_t preferred_profile;      // 45
  le16 sci_interrupt;             // 46
  le32 smi_command;               // 48
  uint8_t acpi_enable;            // 52
  uint8_t acpi_disable;           // 53
  uint8_t s4bios_request;         // 54
  uint8_t pstate_control;         // 55
  le32 pm1a_event;                // 56
  le32 pm1b_event;                // 60
  le32 pm1a_control;              // 64
  le32 pm1b_control;              // 68
  le32 pm2_control;               // 72
  le32 pm_timer;                  // 76
  le32 gpe0;                      // 80
  le32 gpe1;                      // 84
  uint8_t pm1_event_length;       // 88
  uint8_t pm1_control_length;     // 89
  uint8_t pm2_control_length;     // 90
  uint8_t pm_timer_length;        // 91
  uint8_t gpe0_length;            // 92
  uint8_t gpe1_length;            // 93
  uint8_t gpe1_base;              // 94
  uint8_t cstate_control;         // 95
  le16 c2_latency;                // 96
  le16 c3_latency;                // 98
  le16 flush_size;                // 100
  le16 flush_stride;              // 102
  uint8_t duty_offset;            // 104
  uint8_t duty_width;             // 105
  uint8_t day_alarm;              // 106
  uint8_t month_alarm;            // 107
  uint8_t century;                // 108
  le16 boot_flags;                // 109
  uint8_t reserved111;            // 111
  le32 flags;                     // 112
  GenericAddress reset_register;  // 116
  uint8_t reset_value;            // 128
  le16 arm_boot_flags;            // 129
  uint8_t minor_revision;         // 131
  le64 x_facs;                    // 132
  le64 x_dsdt;                    // 140
  GenericAddress x_pm1a_event;    // 148
  GenericAddress x_pm1b_event;    // 160
  GenericAddress x_pm1a_control;  // 172
  GenericAddress x_pm1b_control;  // 184
  GenericAddress x_pm2_control;   // 196
  GenericAddress x_pm_timer;      // 208
  GenericAddress x_gpe0;          // 220
  GenericAddress x_gpe1;          // 232
  GenericAddress sleep_control;   // 244
  GenericAddress sleep_status;    // 256
};
static_assert(sizeof(Fadt) == 268);

namespace fadt_flags {  // table 5.10
inline constexpr uint32_t kWbinvd = 1u << 0;
inline constexpr uint32_t kProcC1 = 1u << 2;
inline constexpr uint32_t kNoSleepButton = 1u << 5;  // power button stays: fixed hardware
inline constexpr uint32_t kNoFixedRtc = 1u << 6;
inline constexpr uint32_t kTimerIs32Bits = 1u << 8;
inline constexpr uint32_t kResetRegister = 1u << 10;
}  // namespace fadt_flags
namespace boot_flags {  // table 5.11
inline constexpr uint16_t kLegacyDevices = 1u << 0;
inline constexpr uint16_t k8042 = 1u << 1;
inline constexpr uint16_t kNoVga = 1u << 2;
}  // namespace boot_flags

// 5.2.10. Not a Header: no checksum, and the guest writes the lock and the waking vectors.
struct Facs {
  Signature signature;      //  0 "FACS"
  le32 length;              //  4
  le32 hardware_signature;  //  8
  le32 waking_vector;       // 12
  le32 global_lock;         // 16
  le32 flags;               // 20
  le64 x_waking_vector;     // 24
  uint8_t version;          // 32
  std::array<uint8_t, 31> reserved;
};
static_assert(sizeof(Facs) == 64);

// 5.2.12, followed by entries that each start with type and length.
struct Madt {
  Header header;
  le32 local_apic;
  le32 flags;  // bit 0: there are PICs too
};
static_assert(sizeof(Madt) == 44);

struct MadtLocalApic {  // 5.2.12.2
  uint8_t type = 0;
  uint8_t length = 8;
  uint8_t uid;
  uint8_t apic_id;
  le32 flags;  // bit 0: enabled
};
static_assert(sizeof(MadtLocalApic) == 8);

struct MadtIoapic {  // 5.2.12.3
  uint8_t type = 1;
  uint8_t length = 12;
  uint8_t id;
  uint8_t reserved = 0;
  le32 address;
  le32 gsi_base;
};
static_assert(sizeof(MadtIoapic) == 12);

// MPS INTI flags (table 5.26): bits 0–1 polarity, 2–3 trigger mode; 0 is what the bus does.
inline constexpr uint16_t kActiveHigh = 1;
inline constexpr uint16_t kActiveLow = 3;
inline constexpr uint16_t kEdge = 1 << 2;
inline constexpr uint16_t kLevel = 3 << 2;

struct MadtOverride {  // 5.2.12.5
  uint8_t type = 2;
  uint8_t length = 10;
  uint8_t bus = 0;  // ISA
  uint8_t irq;
  le32 gsi;
  le16 flags;
};
static_assert(sizeof(MadtOverride) == 10);

struct MadtLocalNmi {  // 5.2.12.7
  uint8_t type = 4;
  uint8_t length = 6;
  uint8_t uid = 0xFF;  // all
  le16 flags;
  uint8_t lint = 1;
};
static_assert(sizeof(MadtLocalNmi) == 6);

struct MadtX2Apic {  // 5.2.12.12
  uint8_t type = 9;
  uint8_t length = 16;
  le16 reserved;
  le32 apic_id;
  le32 flags;
  le32 uid;
};
static_assert(sizeof(MadtX2Apic) == 16);

struct MadtX2ApicNmi {  // 5.2.12.13
  uint8_t type = 0xA;
  uint8_t length = 12;
  le16 flags;
  le32 uid = 0xFFFFFFFF;  // all
  uint8_t lint = 1;
  std::array<uint8_t, 3> reserved{};
};
static_assert(sizeof(MadtX2ApicNmi) == 12);

// PCI Firmware Specification 3.0, table 4-2 and 4-3, with its one entry.
struct Mcfg {
  Header header;
  le64 reserved;
  le64 base;
  le16 segment;
  uint8_t first_bus;
  uint8_t last_bus;
  le32 reserved2;
};
static_assert(sizeof(Mcfg) == 60);

}  // namespace calf::firmware::acpi
