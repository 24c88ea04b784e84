// Names of processor features, as -cpu and /proc/cpuinfo know them, and the CPUID bits they stand
// for.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace calf::vmm {

enum class CpuidRegister : uint8_t { kEax, kEbx, kEcx, kEdx };

struct CpuidBit {
  uint32_t leaf;
  uint32_t subleaf;
  CpuidRegister reg;
  uint8_t bit;
};

// '-' and '_' in names are one; "sse4.1" and "sse4_1" too.
std::optional<CpuidBit> find_cpu_feature(std::string_view name);

}  // namespace calf::vmm
