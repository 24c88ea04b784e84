// A kernel file is the input: whatever it says, loading it ends in an error or in an entry that
// lies in the guest's RAM, and nothing outside of RAM is written.
//
//     byte 0: how it is to be entered, and whether there is an initrd     then the file
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "firmware/boot/kernel.h"

namespace calf::firmware {
namespace {

constexpr uint64_t kRamSize = 24 * kOneMiB;

// One allocation for each slot, so that AddressSanitizer sees a step out of it.
struct Guest {
  MemoryMap map = *MemoryMap::build(kRamSize);
  std::vector<std::unique_ptr<uint8_t[]>> slots;
  devices::GuestMemory memory;

  Guest() {
    std::vector<devices::GuestMemory::Region> regions;
    for (const MemorySlot& slot : map.slots()) {
      slots.push_back(std::make_unique<uint8_t[]>(slot.length));
      regions.push_back({slot.start, {slots.back().get(), slot.length}, slot.writable});
    }
    memory = devices::GuestMemory(std::move(regions));
  }
};

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

void run(std::span<const uint8_t> input) {
  static const Guest guest;
  static const std::vector<uint8_t> initrd(5000, 0x5A);
  constexpr uint8_t kKinds = static_cast<uint8_t>(KernelEntry::kLinux) + 1;
  if (input.empty()) return;
  KernelSource source;
  source.kernel = input.subspan(1);
  source.command_line = "console=ttyS0";
  source.entry = static_cast<KernelEntry>((input[0] & 0x7F) % kKinds);
  if (input[0] & 0x80) source.initrd = initrd;

  constexpr uint64_t kMost = uint64_t{64} << 20;
  Result<UnpackedBytes> unpacked = unpack_kernel(source.kernel, source.entry, kMost);
  if (unpacked.ok()) source.unpacked = unpacked->span();
  Result<LoadedKernel> loaded = load_kernel(source, guest.map, guest.memory);
  if (!loaded.ok()) {
    require(!loaded.error().message().empty(), "an error says something");
    return;
  }
  const EntryState& state = loaded->state;
  bool real = state.mode == CpuMode::kReal16;
  uint64_t entry = state.rip + (real ? uint64_t{state.code_segment} << 4 : 0);
  require(guest.map.is_usable_ram({entry, 1}), "the entry is in RAM");
  require(loaded->needs_bios == real, "the BIOS is for real mode");
}

}  // namespace
}  // namespace calf::firmware

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  calf::firmware::run({data, size});
  return 0;
}
