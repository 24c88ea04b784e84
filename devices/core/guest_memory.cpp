#include "devices/core/guest_memory.h"

#include <algorithm>
#include <cstring>

namespace calf::devices {
namespace {

// Calls fn(host bytes) for the pieces of [start, start + length); false at the first byte that is
// not RAM.
template <class Fn>
bool for_each_piece(const std::vector<GuestMemory::Region>& regions, Gpa start, uint64_t length,
                    GuestMemory::Access access, Fn&& fn) {
  uint64_t address = raw(start);
  if (length > UINT64_MAX - address) return false;
  while (length > 0) {
    auto region = std::find_if(regions.begin(), regions.end(), [&](const auto& r) {
      return address >= raw(r.start) && address - raw(r.start) < r.host.size();
    });
    if (region == regions.end()) return false;
    if (access == GuestMemory::Access::kWrite && !region->writable) return false;
    uint64_t offset = address - raw(region->start);
    uint64_t n = std::min<uint64_t>(length, region->host.size() - offset);
    fn(region->host.subspan(offset, n));
    address += n;
    length -= n;
  }
  return true;
}

}  // namespace

bool GuestMemory::append_iovecs(Gpa start, uint64_t length, std::vector<iovec>& out,
                                Access access) const {
  return for_each_piece(regions_, start, length, access, [&](std::span<uint8_t> piece) {
    out.push_back({piece.data(), piece.size()});
  });
}

bool GuestMemory::read(Gpa start, std::span<uint8_t> to) const {
  return for_each_piece(regions_, start, to.size(), Access::kRead, [&](std::span<uint8_t> piece) {
    std::memcpy(to.data(), piece.data(), piece.size());
    to = to.subspan(piece.size());
  });
}

bool GuestMemory::write(Gpa start, std::span<const uint8_t> from) const {
  // Firmware fills read-only regions this way.
  return for_each_piece(regions_, start, from.size(), Access::kRead, [&](std::span<uint8_t> piece) {
    std::memcpy(piece.data(), from.data(), piece.size());
    from = from.subspan(piece.size());
  });
}

}  // namespace calf::devices
