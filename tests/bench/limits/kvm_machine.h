// The least of a virtual machine: one vCPU, memory from 0 on, KVM's interrupt controllers.
#pragma once

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace calf::bench {

// All functions return 0 or an errno.
class KvmMachine {
 public:
  KvmMachine() = default;
  KvmMachine(const KvmMachine&) = delete;
  KvmMachine& operator=(const KvmMachine&) = delete;
  // Closed while the process still has its memory, which KVM is told of the end of otherwise: twice
  // as long.
  ~KvmMachine();

  int create(size_t memory_bytes);
  // Returns when the guest has written to port F4h; EPROTO when it does anything else.
  int run_to_exit();

  template <class T>
  int vm_call(unsigned long request, T* argument) {
    return ::ioctl(vm_, request, argument) < 0 ? errno : 0;
  }
  template <class T>
  int vcpu_call(unsigned long request, T* argument) {
    return ::ioctl(vcpu_, request, argument) < 0 ? errno : 0;
  }
  uint8_t* memory() { return memory_; }

 private:
  int make_vcpu(int kvm);

  int vm_ = -1;
  int vcpu_ = -1;
  uint8_t* memory_ = nullptr;
  kvm_run* run_ = nullptr;
  size_t run_bytes_ = 0;
};

}  // namespace calf::bench
