#include "block/ops/host_compare.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "block/io/io_slice.h"

namespace calf::ops {
namespace {

constexpr size_t kSector = 512;

bool read_all(block::HostBytes from, std::span<uint8_t> to) {
  while (!to.empty()) {
    const ssize_t n = ::pread(from.fd, to.data(), to.size(), static_cast<off_t>(from.offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    from.offset += static_cast<uint64_t>(n);
    to = to.subspan(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

std::optional<uint64_t> first_difference(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  if (std::memcmp(a.data(), b.data(), a.size()) == 0) return std::nullopt;
  auto [where, ignored] = std::mismatch(a.begin(), a.end(), b.begin());
  return align_down(static_cast<uint64_t>(where - a.begin()), kSector);
}

std::optional<uint64_t> first_nonzero(std::span<const uint8_t> bytes) {
  for (size_t at = 0; at < bytes.size(); at += kSector) {
    if (!is_all_zero(bytes.subspan(at, std::min(kSector, bytes.size() - at)))) return at;
  }
  return std::nullopt;
}

HostComparison compare_on_host(std::span<const block::HostBytes> files, uint64_t length,
                               std::span<uint8_t> buffer) {
  const size_t step = buffer.size() / files.size();
  HostComparison out;
  for (uint64_t at = 0; at < length; at += step) {
    const size_t size = static_cast<size_t>(std::min<uint64_t>(step, length - at));
    for (size_t i = 0; i < files.size(); ++i) {
      if (!read_all({files[i].fd, files[i].offset + at}, buffer.subspan(i * step, size)))
        return out;
    }
    out.where = files.size() == 2 ? first_difference(buffer.first(size), buffer.subspan(step, size))
                                  : first_nonzero(buffer.first(size));
    if (out.where) {
      *out.where += at;
      break;
    }
  }
  out.complete = true;
  return out;
}

}  // namespace calf::ops
