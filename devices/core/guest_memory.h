// Guest-physical memory as the devices see it: a list of RAM ranges, each one host mapping.
//
// Every address and length comes from the guest, so every access is checked; nothing outside RAM is
// reachable. The guest may change memory at any moment from another vCPU: read a structure once
// into a local copy, check the copy, use the copy.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

namespace calf::devices {

// A guest-physical address. Not an offset, not a host pointer.
enum class Gpa : uint64_t {};
constexpr uint64_t raw(Gpa a) {
  return static_cast<uint64_t>(a);
}
// Wraps like the address bus does; translate() is what refuses bad addresses.
constexpr Gpa operator+(Gpa a, uint64_t n) {
  return Gpa{raw(a) + n};
}

class GuestMemory {
 public:
  struct Region {
    Gpa start;
    std::span<uint8_t> host;  // mapped by the owner of the guest's memory, outlives this object
    bool writable = true;  // for the guest; the VMM itself fills read-only regions through `host`
  };

  // What a device is about to do with memory.
  enum class Access : uint8_t { kRead, kWrite };

  GuestMemory() = default;
  // Regions do not overlap. At most a handful.
  explicit GuestMemory(std::vector<Region> regions) : regions_(std::move(regions)) {}

  const std::vector<Region>& regions() const { return regions_; }

  // The host bytes of [start, start + length) if they lie in one region (a writable one for
  // Access::kWrite); nothing otherwise. Length 0 gives nothing.
  std::optional<std::span<uint8_t>> translate(Gpa start, uint64_t length,
                                              Access access = Access::kRead) const {
    uint64_t address = raw(start);
    for (const Region& region : regions_) {
      uint64_t begin = raw(region.start);
      if (address < begin || address - begin >= region.host.size()) continue;
      uint64_t offset = address - begin;
      if (length == 0 || length > region.host.size() - offset) return std::nullopt;
      if (access == Access::kWrite && !region.writable) return std::nullopt;
      return region.host.subspan(offset, length);
    }
    return std::nullopt;
  }

  // Appends the pieces of [start, start + length), which may span adjacent regions. False if any
  // byte is not RAM, or is to be written and stands in a read-only region.
  bool append_iovecs(Gpa start, uint64_t length, std::vector<iovec>& out,
                     Access access = Access::kRead) const;

  // Copies between a local object and guest memory; false, and nothing usable, if a byte is not
  // RAM.
  [[nodiscard]] bool read(Gpa start, std::span<uint8_t> to) const;
  [[nodiscard]] bool write(Gpa start, std::span<const uint8_t> from) const;

  template <class T>
  std::optional<T> read_object(Gpa start) const {
    static_assert(std::is_trivially_copyable_v<T>);
    T object;
    if (!read(start, {reinterpret_cast<uint8_t*>(&object), sizeof object})) return std::nullopt;
    return object;
  }
  template <class T>
  [[nodiscard]] bool write_object(Gpa start, const T& object) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return write(start, {reinterpret_cast<const uint8_t*>(&object), sizeof object});
  }

 private:
  std::vector<Region> regions_;
};

}  // namespace calf::devices
