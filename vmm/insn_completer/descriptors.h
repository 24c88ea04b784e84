// Segment descriptors in the guest's tables (Intel SDM vol. 3, section 3.4.5).
#pragma once

#include <cstdint>
#include <optional>

#include "vmm/insn_completer/execution.h"

namespace calf::insn {

constexpr uint16_t kRplMask = 3;
constexpr uint16_t kTableIndicator = 4;  // the selector names the LDT
constexpr uint8_t kTypeCode = 8;
constexpr uint8_t kTypeConforming = 4;  // of code
constexpr uint8_t kTypeAccess = 2;      // data: writable, code: readable
constexpr uint8_t kTypeAccessed = 1;

struct Descriptor {
  uint64_t bits = 0;
  uint64_t linear = 0;  // where it stands

  uint8_t type() const { return bits >> 40 & 15; }
  bool code_or_data() const { return (bits >> 44 & 1) != 0; }
  uint8_t dpl() const { return bits >> 45 & 3; }
  bool present() const { return (bits >> 47 & 1) != 0; }
  bool long_mode() const { return (bits >> 53 & 1) != 0; }
  bool is_code() const { return code_or_data() && (type() & kTypeCode) != 0; }
  bool is_conforming() const { return is_code() && (type() & kTypeConforming) != 0; }
  bool is_writable_data() const {
    return code_or_data() && (type() & (kTypeCode | kTypeAccess)) == kTypeAccess;
  }
  uint32_t limit() const;  // in bytes
  Segment to_segment(uint16_t selector) const;
};

constexpr bool is_null(uint16_t selector) {
  return (selector & ~kRplMask) == 0;
}

// The error code that names a selector.
constexpr uint32_t selector_error(uint16_t selector) {
  return selector & ~uint32_t{kRplMask};
}

// Nothing if the selector is null or points beyond its table.
Step<std::optional<Descriptor>> read_descriptor(Execution& e, uint16_t selector);
// Sets the accessed bit in the table, as loading a segment does.
Step<void> mark_accessed(Execution& e, const Descriptor& descriptor);

}  // namespace calf::insn
