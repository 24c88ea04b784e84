#include "tests/bench/limits/kvm_machine.h"

#include <fcntl.h>
#include <sys/mman.h>

namespace calf::bench {

int KvmMachine::create(size_t memory_bytes) {
  const int kvm = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) return errno;
  vm_ = ::ioctl(kvm, KVM_CREATE_VM, 0);
  if (vm_ < 0) return errno;
  void* memory = ::mmap(nullptr, memory_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return errno;
  memory_ = static_cast<uint8_t*>(memory);
  kvm_userspace_memory_region region{};
  region.memory_size = memory_bytes;
  region.userspace_addr = reinterpret_cast<uint64_t>(memory);
  if (::ioctl(vm_, KVM_SET_USER_MEMORY_REGION, &region) != 0) return errno;
  if (::ioctl(vm_, KVM_CREATE_IRQCHIP, 0) != 0) return errno;
  vcpu_ = ::ioctl(vm_, KVM_CREATE_VCPU, 0);
  if (vcpu_ < 0) return errno;
  const int page_size = ::ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (page_size < 0) return errno;
  void* page =
      ::mmap(nullptr, static_cast<size_t>(page_size), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_, 0);
  if (page == MAP_FAILED) return errno;
  run_ = static_cast<kvm_run*>(page);
  return 0;
}

int KvmMachine::run_to_exit() {
  if (::ioctl(vcpu_, KVM_RUN, 0) != 0) return errno;
  const bool as_expected = run_->exit_reason == KVM_EXIT_IO && run_->io.port == 0xf4;
  return as_expected ? 0 : EPROTO;
}

}  // namespace calf::bench
