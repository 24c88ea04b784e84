#include "firmware/boot/decompress.h"

#include <libdeflate.h>
#include <lz4.h>
#include <lzma.h>
#include <sys/mman.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "block/base/byte_range.h"
#include "block/base/endian.h"

namespace calf::firmware {
namespace {

using namespace std::string_view_literals;
using Input = std::span<const uint8_t>;

constexpr std::array kMagics{
    std::pair{PayloadFormat::kElf,
              "\x7f"
              "ELF"sv},
    std::pair{PayloadFormat::kGzip, "\x1f\x8b\x08"sv},
    std::pair{PayloadFormat::kZstd, "\x28\xb5\x2f\xfd"sv},
    std::pair{PayloadFormat::kLz4, "\x02\x21\x4c\x18"sv},
    std::pair{PayloadFormat::kXz,
              "\xfd"
              "7zXZ\0"sv},
    std::pair{PayloadFormat::kLzma, "\x5d\0\0"sv},
    std::pair{PayloadFormat::kBzip2, "BZh"sv},
    std::pair{PayloadFormat::kLzo, "\x89LZO"sv},
};

Error damaged(PayloadFormat format, std::string_view how) {
  return make_error(ErrorKind::kCorrupt, "the kernel's {} payload cannot be unpacked: {}",
                    to_string(format), how);
}

uint32_t le32_at(Input bytes, size_t offset) {
  le32 value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// Each decoder fills `out` and returns how many bytes came.

Result<size_t> unpack_gzip(Input in, std::span<uint8_t> out) {
  std::unique_ptr<libdeflate_decompressor, decltype(&libdeflate_free_decompressor)> decoder(
      libdeflate_alloc_decompressor(), &libdeflate_free_decompressor);
  if (!decoder) return make_error(ErrorKind::kResource, "out of memory while unpacking the kernel");
  size_t size = 0;
  switch (libdeflate_gzip_decompress(decoder.get(), in.data(), in.size(), out.data(), out.size(),
                                     &size)) {
    case LIBDEFLATE_SUCCESS:
      return size;
    case LIBDEFLATE_INSUFFICIENT_SPACE:
      return damaged(PayloadFormat::kGzip, "it is larger than it says or than memory");
    default:
      return damaged(PayloadFormat::kGzip, "bad data");
  }
}

Result<size_t> unpack_zstd(Input in, std::span<uint8_t> out) {
  size_t frame = ZSTD_findFrameCompressedSize(in.data(), in.size());
  if (ZSTD_isError(frame)) return damaged(PayloadFormat::kZstd, ZSTD_getErrorName(frame));
  size_t size = ZSTD_decompress(out.data(), out.size(), in.data(), frame);
  if (ZSTD_isError(size)) return damaged(PayloadFormat::kZstd, ZSTD_getErrorName(size));
  return size;
}

// The "legacy" frame: a magic number, then blocks of up to 8 MiB, each after its packed size.
Result<size_t> unpack_lz4(Input in, std::span<uint8_t> out) {
  constexpr uint32_t kBlock = 8 << 20;
  size_t done = 0;
  in = in.subspan(sizeof(le32));      // the magic number
  while (in.size() > sizeof(le32)) {  // the last 4 bytes are the unpacked size
    uint32_t packed = le32_at(in, 0);
    in = in.subspan(sizeof(le32));
    if (packed > in.size()) return damaged(PayloadFormat::kLz4, "it is cut short");
    if (packed > LZ4_COMPRESSBOUND(kBlock)) return damaged(PayloadFormat::kLz4, "bad data");
    std::span<uint8_t> to = out.subspan(done, std::min<size_t>(kBlock, out.size() - done));
    int size = LZ4_decompress_safe(reinterpret_cast<const char*>(in.data()),
                                   reinterpret_cast<char*>(to.data()), static_cast<int>(packed),
                                   static_cast<int>(to.size()));
    if (size < 0) return damaged(PayloadFormat::kLz4, "bad data, or larger than it says");
    done += static_cast<size_t>(size);
    in = in.subspan(packed);
  }
  return done;
}

// xz (with the x86 filter, which liblzma knows) and the older lzma.
Result<size_t> unpack_lzma(PayloadFormat format, Input in, std::span<uint8_t> out) {
  constexpr uint64_t kMemoryLimit = 256 << 20;
  lzma_stream stream = LZMA_STREAM_INIT;
  lzma_ret status = format == PayloadFormat::kXz ? lzma_stream_decoder(&stream, kMemoryLimit, 0)
                                                 : lzma_alone_decoder(&stream, kMemoryLimit);
  if (status == LZMA_OK) {
    stream.next_in = in.data();
    stream.avail_in = in.size();
    stream.next_out = out.data();
    stream.avail_out = out.size();
    status = lzma_code(&stream, LZMA_RUN);
  }
  size_t size = out.size() - stream.avail_out;
  // A decoder that has filled the output may need one more call to see the end mark.
  if (status == LZMA_OK && stream.avail_out == 0) status = lzma_code(&stream, LZMA_RUN);
  lzma_end(&stream);
  switch (status) {
    case LZMA_STREAM_END:
      return size;
    case LZMA_OK:
    case LZMA_BUF_ERROR:
      return damaged(format, "it is cut short, or larger than it says");
    case LZMA_MEM_ERROR:
    case LZMA_MEMLIMIT_ERROR:
      return make_error(ErrorKind::kResource, "unpacking the kernel takes more than {} MiB",
                        kMemoryLimit >> 20);
    default:
      return damaged(format, "bad data");
  }
}

}  // namespace

PayloadFormat payload_format(Input payload) {
  for (auto [format, magic] : kMagics) {
    bool matches = payload.size() >= magic.size() &&
                   std::memcmp(payload.data(), magic.data(), magic.size()) == 0;
    if (matches) return format;
  }
  return PayloadFormat::kUnknown;
}

const char* to_string(PayloadFormat format) {
  switch (format) {
    case PayloadFormat::kUnknown:
      return "unknown";
    case PayloadFormat::kElf:
      return "uncompressed";
    case PayloadFormat::kGzip:
      return "gzip";
    case PayloadFormat::kZstd:
      return "zstd";
    case PayloadFormat::kLz4:
      return "lz4";
    case PayloadFormat::kXz:
      return "xz";
    case PayloadFormat::kLzma:
      return "lzma";
    case PayloadFormat::kBzip2:
      return "bzip2";
    case PayloadFormat::kLzo:
      return "lzo";
  }
  return "unknown";
}

bool can_unpack(PayloadFormat format) {
  switch (format) {
    case PayloadFormat::kGzip:
    case PayloadFormat::kZstd:
    case PayloadFormat::kLz4:
    case PayloadFormat::kXz:
    case PayloadFormat::kLzma:
      return true;
    default:
      return false;
  }
}

void UnpackedBytes::Unmap::operator()(uint8_t* mapping) const {
  ::munmap(mapping, length);
}

Result<UnpackedBytes> UnpackedBytes::allocate(size_t capacity) {
  constexpr size_t kHugePage = 2 << 20;
  size_t length = align_up(capacity, kHugePage) + kHugePage;
  void* mapping = ::mmap(nullptr, length, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    return make_error(ErrorKind::kResource, "no memory for the {} bytes of the unpacked kernel",
                      capacity);
  }
  UnpackedBytes bytes;
  bytes.mapping_ = {static_cast<uint8_t*>(mapping), Unmap{length}};
  auto address = reinterpret_cast<uintptr_t>(mapping);
  bytes.start_ = bytes.mapping_.get() + (align_up(address, kHugePage) - address);
  bytes.capacity_ = capacity;
  // Advice: without it all works the same, only slower.
  ::madvise(bytes.start_, align_up(capacity, kHugePage), MADV_HUGEPAGE);
  return bytes;
}

Result<UnpackedBytes> unpack(Input payload, size_t limit) {
  PayloadFormat format = payload_format(payload);
  if (!can_unpack(format)) {
    return make_error(ErrorKind::kUnsupported, "the kernel's payload ({}) cannot be unpacked here",
                      to_string(format));
  }
  if (payload.size() < 8) return damaged(format, "it is cut short");
  // The size that it claims, in the last four bytes, bounds what comes out.
  size_t claimed = le32_at(payload, payload.size() - sizeof(le32));
  if (claimed == 0 || claimed > limit) {
    return damaged(format, fmt::format("it says that it unpacks to {} bytes, {} are possible",
                                       claimed, limit));
  }
  TRY(UnpackedBytes bytes, UnpackedBytes::allocate(claimed));
  std::span<uint8_t> out = bytes.room();
  Result<size_t> size = format == PayloadFormat::kGzip   ? unpack_gzip(payload, out)
                        : format == PayloadFormat::kZstd ? unpack_zstd(payload, out)
                        : format == PayloadFormat::kLz4  ? unpack_lz4(payload, out)
                                                         : unpack_lzma(format, payload, out);
  if (!size.ok()) return std::move(size.error());
  bytes.set_size(*size);
  return bytes;
}

}  // namespace calf::firmware
