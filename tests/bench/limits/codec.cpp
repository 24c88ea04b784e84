#include "tests/bench/limits/codec.h"

#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

namespace calf::bench {
namespace {

struct Free {
  void operator()(libdeflate_compressor* c) const { libdeflate_free_compressor(c); }
  void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
  void operator()(ZSTD_CCtx* c) const { ZSTD_freeCCtx(c); }
  void operator()(ZSTD_DCtx* d) const { ZSTD_freeDCtx(d); }
};

class Deflate final : public Codec {
 public:
  size_t pack(const char* in, size_t size, char* out) override {
    return libdeflate_deflate_compress(packer_.get(), in, size, out, size - 1);
  }
  // With zlib, and matches up to 4 KiB back.
  size_t pack_as_usual(const char* in, size_t size, char* out) override {
    constexpr int kWindowBits = -12, kMemoryLevel = 9;
    z_stream stream{};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kWindowBits, kMemoryLevel,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
      return 0;
    }
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in));
    stream.avail_in = static_cast<uInt>(size);
    stream.next_out = reinterpret_cast<Bytef*>(out);
    stream.avail_out = static_cast<uInt>(size - 1);
    const bool fits = deflate(&stream, Z_FINISH) == Z_STREAM_END;
    const size_t packed = size - 1 - stream.avail_out;
    deflateEnd(&stream);
    return fits ? packed : 0;
  }
  bool unpack(const std::vector<char>& in, char* out, size_t size) override {
    return libdeflate_deflate_decompress(unpacker_.get(), in.data(), in.size(), out, size,
                                         nullptr) == LIBDEFLATE_SUCCESS;
  }

 private:
  std::unique_ptr<libdeflate_compressor, Free> packer_{libdeflate_alloc_compressor(1)};
  std::unique_ptr<libdeflate_decompressor, Free> unpacker_{libdeflate_alloc_decompressor()};
};

class Zstd final : public Codec {
 public:
  size_t pack(const char* in, size_t size, char* out) override {
    const size_t n =
        ZSTD_compressCCtx(packer_.get(), out, size - 1, in, size, ZSTD_defaultCLevel());
    return ZSTD_isError(n) != 0 ? 0 : n;
  }
  size_t pack_as_usual(const char* in, size_t size, char* out) override {
    return pack(in, size, out);
  }
  bool unpack(const std::vector<char>& in, char* out, size_t size) override {
    return ZSTD_decompressDCtx(unpacker_.get(), out, size, in.data(), in.size()) == size;
  }

 private:
  std::unique_ptr<ZSTD_CCtx, Free> packer_{ZSTD_createCCtx()};
  std::unique_ptr<ZSTD_DCtx, Free> unpacker_{ZSTD_createDCtx()};
};

}  // namespace

std::unique_ptr<Codec> Codec::create(CodecKind kind) {
  if (kind == CodecKind::kZstd) return std::make_unique<Zstd>();
  return std::make_unique<Deflate>();
}

}  // namespace calf::bench
