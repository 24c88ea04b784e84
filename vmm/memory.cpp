#include "vmm/memory.h"

#include <sys/mman.h>
#include <sys/sysinfo.h>

#include <cerrno>

namespace calf::vmm {
namespace {

constexpr uint64_t kHugePage = uint64_t{2} << 20;
constexpr uint64_t kGuard = kHugePage;

Error refused(uint64_t size, int sys_errno) {
  return Error::from_errno(
      sys_errno, fmt::format("The host refuses {} MiB of guest memory; use a smaller -m, or see "
                             "'ulimit -v' and vm.overcommit_memory",
                             size / firmware::kOneMiB));
}

}  // namespace

Result<void> check_host_memory(uint64_t size) {
  struct sysinfo info {};
  if (::sysinfo(&info) < 0) return Error::from_errno(errno, "sysinfo");
  uint64_t available = (uint64_t{info.totalram} + info.totalswap) * info.mem_unit;
  if (size <= available) return {};
  return make_error(ErrorKind::kResource,
                    "{} MiB for the guest, but this host has {} MiB of memory and swap; use a "
                    "smaller -m",
                    size / firmware::kOneMiB, available / firmware::kOneMiB);
}

Result<std::unique_ptr<Ram>> Ram::allocate(const firmware::MemoryMap& map) {
  uint64_t size = map.ram_size();
  // Room to align, and to leave at least one guard page range on both sides.
  uint64_t mapping_size = align_up(size, kHugePage) + 2 * kGuard + kHugePage;
  void* mapping =
      ::mmap(nullptr, mapping_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return refused(size, errno);
  uint64_t start = align_up(reinterpret_cast<uintptr_t>(mapping) + kGuard, kHugePage);
  auto* bytes = reinterpret_cast<uint8_t*>(start);
  std::unique_ptr<Ram> ram(new Ram(mapping, mapping_size, {bytes, size}));
  if (::mprotect(bytes, size, PROT_READ | PROT_WRITE) < 0) return refused(size, errno);
  // Advice: a host without huge pages, or one that does not dump less, runs the guest all the same.
  ::madvise(bytes, size, MADV_HUGEPAGE);
  ::madvise(bytes, size, MADV_DONTDUMP);

  std::vector<devices::GuestMemory::Region> regions;
  for (const firmware::MemorySlot& slot : map.slots()) {
    regions.push_back(
        {slot.start, ram->bytes_.subspan(slot.backing_offset, slot.length), slot.writable});
  }
  ram->guest_memory_ = devices::GuestMemory(std::move(regions));
  return ram;
}

Ram::Ram(void* mapping, size_t mapping_size, std::span<uint8_t> bytes)
    : mapping_(mapping), mapping_size_(mapping_size), bytes_(bytes) {}

Ram::~Ram() {
  ::munmap(mapping_, mapping_size_);
}

Result<void> Ram::attach(kvm::Vm& vm, const firmware::MemoryMap& map) {
  uint32_t number = 0;
  for (const firmware::MemorySlot& slot : map.slots()) {
    TRY_VOID(vm.set_memory_slot(number++, devices::raw(slot.start),
                                bytes_.subspan(slot.backing_offset, slot.length), !slot.writable));
  }
  return {};
}

}  // namespace calf::vmm
