// SMBIOS: what the machine says of itself; guests' tools (dmidecode, cloud-init) read it.
//
// Types 0 BIOS, 1 system, 2 board (if asked for), 3 chassis, 4 processors, 11 OEM strings (if any),
// 16/17/19 memory, 32 boot status, 127 end. Two entry points lead to the one structure table: 2.8
// (32 bits) and 3.0 (64 bits). DMTF DSP0134, version 3.0 layouts.
//
// Not supported: cache information (type 7), slots (9), files given on the command line.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "block/base/result.h"
#include "firmware/memory_map.h"
#include "firmware/table_area.h"

namespace calf::firmware {

// The fields that -smbios can set, with the values that they have if it does not.
struct SmbiosConfig {
  struct Bios {  // type=0
    std::string vendor = "calf";
    std::string version = CALF_VERSION;
    std::string date = "01/01/2025";
    uint8_t major = 0, minor = 0;  // release=0.0
    bool uefi = false;
  } bios;
  struct System {  // type=1
    std::string manufacturer = "calf";
    std::string product = "Virtual Machine";
    std::string version = CALF_VERSION;
    std::string serial, sku, family;
    std::array<uint8_t, 16> uuid{};  // in the order in which it is written; zeroes: not set
  } system;
  struct Board {  // type=2, present if any of it is set
    bool present = false;
    std::string manufacturer, product, version, serial, asset, location;
  } board;
  struct Chassis {  // type=3
    std::string manufacturer = "calf";
    std::string version = CALF_VERSION;
    std::string serial, asset, sku;
  } chassis;
  struct Processor {  // type=4
    std::string socket_prefix = "CPU";
    std::string manufacturer = "calf";
    std::string version = CALF_VERSION;
    std::string serial, asset, part;
    uint16_t max_speed = 2000, current_speed = 2000;  // MHz
  } processor;
  std::vector<std::string> oem_strings;  // type=11,value=…, any number of them
  struct Memory {                        // type=17
    std::string locator_prefix = "DIMM";
    std::string bank, manufacturer = "calf", serial, asset, part;
    uint16_t speed = 0;
  } memory;

  // One key=value of -smbios type=N,…, as QEMU spells it. kInvalid or kUnsupported names the key.
  Result<void> set(unsigned type, std::string_view key, std::string_view value);
};

// "12345678-9abc-def0-1234-56789abcdef0" to bytes in that order.
Result<std::array<uint8_t, 16>> parse_uuid(std::string_view text);

struct SmbiosMachine {
  unsigned sockets = 1, cores = 1, threads = 1;  // cores per socket, threads per core
};

// Structures go to `structures`, the two entry points to `entry_points`.
Result<void> place_smbios(const SmbiosConfig& config, const SmbiosMachine& machine,
                          const MemoryMap& map, TableArea& structures, TableArea& entry_points);

}  // namespace calf::firmware
