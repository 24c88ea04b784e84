// Unpacks the payload of a bzImage on the host.
//
// A payload is what the kernel's build put there (scripts/Makefile.lib of Linux): a compressed
// stream and, but for gzip which has it in its own trailer, the unpacked size in 4 little-endian
// bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "block/base/result.h"

namespace calf::firmware {

enum class PayloadFormat : uint8_t { kUnknown, kElf, kGzip, kZstd, kLz4, kXz, kLzma, kBzip2, kLzo };

// By its first bytes.
PayloadFormat payload_format(std::span<const uint8_t> payload);
const char* to_string(PayloadFormat format);
// True if unpack() knows the format. An ELF is not packed: it is used as it is.
bool can_unpack(PayloadFormat format);

// Bytes on the heap that are not cleared first: pages that are not written cost nothing.
struct HeapBytes {
  std::unique_ptr<uint8_t[]> data;
  size_t size = 0;
  std::span<const uint8_t> span() const { return {data.get(), size}; }
};

// At most `limit` bytes come out: kCorrupt if there would be more, or the stream is damaged;
// kUnsupported if the format is not one of ours.
Result<HeapBytes> unpack(std::span<const uint8_t> payload, size_t limit);

}  // namespace calf::firmware
