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

// Memory for a kernel while it is copied to its place: its own mapping, in huge pages where the
// host has them, because the page faults of ordinary ones take longer than the unpacking.
class UnpackedBytes {
 public:
  UnpackedBytes() = default;
  // kResource if the host has not that much.
  static Result<UnpackedBytes> allocate(size_t capacity);

  std::span<uint8_t> room() const { return {start_, capacity_}; }
  void set_size(size_t size) { size_ = size; }  // at most the capacity
  std::span<const uint8_t> span() const { return {start_, size_}; }

 private:
  struct Unmap {
    size_t length;
    void operator()(uint8_t* mapping) const;
  };
  std::unique_ptr<uint8_t, Unmap> mapping_;
  uint8_t* start_ = nullptr;  // in the mapping, aligned to a huge page
  size_t capacity_ = 0;
  size_t size_ = 0;
};

// At most `limit` bytes come out: kCorrupt if there would be more, or the stream is damaged;
// kUnsupported if the format is not one of ours.
Result<UnpackedBytes> unpack(std::span<const uint8_t> payload, size_t limit);

}  // namespace calf::firmware
