// Ram: the guest's memory, one host mapping behind several KVM memory slots.
//
//     host:   guard | 0 ........ 3 GiB ........ ram_size | guard     (one mapping, 2 MiB aligned)
//     guest:          0 ........ 3 GiB   4 GiB ...... 4 GiB + rest   (slots of the MemoryMap)
//
// Pages come into being when the guest or a device touches them (MAP_NORESERVE), huge ones where
// the host has them. The guards turn an overrun of ours into a fault instead of silent corruption.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "block/base/result.h"
#include "devices/core/guest_memory.h"
#include "firmware/memory_map.h"
#include "vmm/kvm/vm.h"

namespace calf::vmm {

// kResource if the host has less memory, swap included, than a guest of this size may come to use.
// (The mapping alone would succeed: it reserves nothing.)
Result<void> check_host_memory(uint64_t size);

class Ram {
 public:
  // Errors say how much was asked for and what the host refused.
  static Result<std::unique_ptr<Ram>> allocate(const firmware::MemoryMap& map);
  ~Ram();
  Ram(const Ram&) = delete;
  Ram& operator=(const Ram&) = delete;

  // Makes the slots of `map` (the one that allocate() saw) known to KVM, numbered from 0.
  Result<void> attach(kvm::Vm& vm, const firmware::MemoryMap& map);

  const devices::GuestMemory& guest_memory() const { return guest_memory_; }

 private:
  Ram(void* mapping, size_t mapping_size, std::span<uint8_t> bytes);
  void* mapping_;
  size_t mapping_size_;
  std::span<uint8_t> bytes_;
  devices::GuestMemory guest_memory_;
};

}  // namespace calf::vmm
