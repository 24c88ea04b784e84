// Comparing bytes: in memory, and in files of this host by whichever thread has time. Nothing here
// belongs to an executor.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "block/host_copy.h"

namespace calf::ops {

// The offset of the first sector (512 bytes) in which the two, of one length, differ.
std::optional<uint64_t> first_difference(std::span<const uint8_t> a, std::span<const uint8_t> b);
// The offset of the first sector that is not all zeroes.
std::optional<uint64_t> first_nonzero(std::span<const uint8_t> bytes);

struct HostComparison {
  // False: something could not be read, so nothing is known.
  bool complete = false;
  // The offset from the begin of the first sector that differs.
  std::optional<uint64_t> where;
};

// Compares `length` bytes of two files, or of one with zeroes. `buffer`: room for pieces of them,
// in whole sectors for each file.
HostComparison compare_on_host(std::span<const block::HostBytes> files, uint64_t length,
                               std::span<uint8_t> buffer);

}  // namespace calf::ops
