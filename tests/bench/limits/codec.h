// The libraries that pack and unpack clusters, without what an image format does around them.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace calf::bench {

enum class CodecKind { kZlib, kZstd };

// For one thread.
class Codec {
 public:
  static std::unique_ptr<Codec> create(CodecKind kind);
  virtual ~Codec() = default;

  // These give the bytes written to `out`; 0: they would not be fewer than the `size` there are.
  // As fast as there is a library for it:
  virtual size_t pack(const char* in, size_t size, char* out) = 0;
  // As QEMU packs:
  virtual size_t pack_as_usual(const char* in, size_t size, char* out) = 0;
  // `size` bytes come out, or it fails.
  virtual bool unpack(const std::vector<char>& in, char* out, size_t size) = 0;
};

}  // namespace calf::bench
