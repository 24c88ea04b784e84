// Kernels made by hand, and a guest's memory to load them into.
#pragma once

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "block/base/endian.h"
#include "devices/core/guest_memory.h"
#include "firmware/boot/bzimage.h"
#include "firmware/boot/decompress.h"
#include "firmware/memory_map.h"

namespace calf::firmware::testing_support {

using Bytes = std::vector<uint8_t>;

template <class T>
void append(Bytes& out, const T& object) {
  auto bytes = reinterpret_cast<const uint8_t*>(&object);
  out.insert(out.end(), bytes, bytes + sizeof object);
}

template <class T>
T object_at(std::span<const uint8_t> bytes, uint64_t offset) {
  T object{};
  EXPECT_LE(offset + sizeof object, bytes.size());
  if (offset + sizeof object <= bytes.size()) {
    std::memcpy(&object, bytes.data() + offset, sizeof object);
  }
  return object;
}

// Bytes that compress somewhat and contain x86 calls, for the x86 filter to change.
Bytes sample_text(size_t size);

// An ELF with one segment of text (zero-filled to memory_size), entered at entry_offset in it.
struct ElfSpec {
  bool is_64bit = true;
  uint64_t physical = 0x1000000;
  uint64_t virtual_address = 0xFFFFFFFF81000000;
  Bytes text = sample_text(10000);
  uint64_t memory_size = 0x8000;
  uint64_t entry_offset = 0x40;
  bool pvh_note = false;
  uint32_t pvh_entry_offset = 0x80;
};
Bytes make_elf(const ElfSpec& spec);

// A payload as the kernel's build makes it: packed data and, but for gzip, its size.
Bytes pack(PayloadFormat format, std::span<const uint8_t> data);

struct BzImageSpec {
  Bytes payload;
  uint16_t version = 0x20F;
  uint16_t xloadflags = kHas64BitEntry;
  uint8_t setup_sects = 7;
  uint64_t pref_address = 0x1000000;
  uint32_t init_size = 0x100000;
  uint32_t cmdline_size = 2047;
  uint32_t initrd_addr_max = 0x7FFFFFFF;
};
Bytes make_bzimage(const BzImageSpec& spec);

// The map's slots over one anonymous mapping; pages that nobody touches cost nothing.
class TestGuest {
 public:
  explicit TestGuest(uint64_t ram_size);
  ~TestGuest() { munmap(ram_, map_.ram_size()); }
  TestGuest(const TestGuest&) = delete;
  TestGuest& operator=(const TestGuest&) = delete;

  const MemoryMap& map() const { return map_; }
  const devices::GuestMemory& memory() const { return memory_; }
  template <class T>
  T at(uint64_t address) const {
    auto object = memory_.read_object<T>(devices::Gpa{address});
    EXPECT_TRUE(object.has_value()) << std::hex << address;
    return object.value_or(T{});
  }
  std::span<const uint8_t> bytes(uint64_t address, uint64_t length) const {
    auto found = memory_.translate(devices::Gpa{address}, length);
    EXPECT_TRUE(found.has_value()) << std::hex << address;
    return found.value_or(std::span<uint8_t>{});
  }
  void fill(uint8_t value) { std::memset(ram_, value, map_.ram_size()); }

 private:
  MemoryMap map_;
  uint8_t* ram_;
  devices::GuestMemory memory_;
};

}  // namespace calf::firmware::testing_support
