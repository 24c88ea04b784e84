#include "tests/bench/limits/kvm_machine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <thread>

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
  // KVM waits for a grace period before it takes the first memory, and the processor can be made
  // meanwhile.
  int memory_error = 0;
  std::thread attaching([&] {
    kvm_userspace_memory_region region{};
    region.memory_size = memory_bytes;
    region.userspace_addr = reinterpret_cast<uint64_t>(memory);
    memory_error = vm_call(KVM_SET_USER_MEMORY_REGION, &region);
  });
  const int vcpu_error = make_vcpu(kvm);
  attaching.join();
  return memory_error != 0 ? memory_error : vcpu_error;
}

int KvmMachine::make_vcpu(int kvm) {
  if (::ioctl(vm_, KVM_CREATE_IRQCHIP, 0) != 0) return errno;
  vcpu_ = ::ioctl(vm_, KVM_CREATE_VCPU, 0);
  if (vcpu_ < 0) return errno;
  const int page_size = ::ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (page_size < 0) return errno;
  run_bytes_ = static_cast<size_t>(page_size);
  void* page = ::mmap(nullptr, run_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_, 0);
  if (page == MAP_FAILED) return errno;
  run_ = static_cast<kvm_run*>(page);
  return 0;
}

KvmMachine::~KvmMachine() {
  if (run_ != nullptr) ::munmap(run_, run_bytes_);
  if (vcpu_ >= 0) ::close(vcpu_);
  if (vm_ >= 0) ::close(vm_);
}

int KvmMachine::run_to_exit() {
  if (::ioctl(vcpu_, KVM_RUN, 0) != 0) return errno;
  const bool as_expected = run_->exit_reason == KVM_EXIT_IO && run_->io.port == 0xf4;
  return as_expected ? 0 : EPROTO;
}

}  // namespace calf::bench
