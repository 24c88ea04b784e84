#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tests/bench/limits/limits.h"

namespace calf::bench {

// The process ends right after: the kernel closes what is open, as it does for calf.
int run_kvm_limit() {
  constexpr size_t kMemory = size_t{128} << 20;
  constexpr uint16_t kEntry = 0x7c00;
  constexpr unsigned char kCode[] = {0xb0, 0x10, 0xe6, 0xf4, 0xf4};  // mov al,10h; out 0f4h,al; hlt

  int kvm = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) return errno;
  int vm = ::ioctl(kvm, KVM_CREATE_VM, 0);
  if (vm < 0) return errno;
  void* memory = ::mmap(nullptr, kMemory, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return errno;
  std::memcpy(static_cast<char*>(memory) + kEntry, kCode, sizeof kCode);
  kvm_userspace_memory_region region{};
  region.memory_size = kMemory;
  region.userspace_addr = reinterpret_cast<uint64_t>(memory);
  if (::ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) != 0) return errno;
  if (::ioctl(vm, KVM_CREATE_IRQCHIP, 0) != 0) return errno;
  int vcpu = ::ioctl(vm, KVM_CREATE_VCPU, 0);
  if (vcpu < 0) return errno;
  int page_size = ::ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (page_size < 0) return errno;
  void* page =
      ::mmap(nullptr, static_cast<size_t>(page_size), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (page == MAP_FAILED) return errno;
  kvm_sregs sregs{};
  if (::ioctl(vcpu, KVM_GET_SREGS, &sregs) != 0) return errno;
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  if (::ioctl(vcpu, KVM_SET_SREGS, &sregs) != 0) return errno;
  kvm_regs regs{};
  regs.rip = kEntry;
  regs.rflags = 2;
  if (::ioctl(vcpu, KVM_SET_REGS, &regs) != 0) return errno;
  if (::ioctl(vcpu, KVM_RUN, 0) != 0) return errno;
  auto* run = static_cast<kvm_run*>(page);
  bool as_expected = run->exit_reason == KVM_EXIT_IO && run->io.port == 0xf4;
  return as_expected ? 0 : EPROTO;
}

}  // namespace calf::bench
