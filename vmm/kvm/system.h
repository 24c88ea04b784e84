// /dev/kvm itself: is it there, what can it do (Documentation/virt/kvm/api.rst, "System ioctls").
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <string>
#include <vector>

#include "block/base/fd.h"
#include "block/base/result.h"
#include "vmm/kvm/vm.h"

namespace calf::kvm {

class System {
 public:
  // Fails with a text that tells what to do: load the module, join the group kvm, use another
  // kernel. Checks the API version and every capability that the machine cannot do without.
  static Result<System> open(const std::string& path = "/dev/kvm");

  // The value of KVM_CHECK_EXTENSION; 0: not there.
  int capability(int number) const;
  unsigned max_vcpus() const;

  Result<Vm> create_vm() const;

  // What the host's processor and KVM can do, as leaves for Vcpu::set_cpuid().
  Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;
  // The indices of the MSRs that make up a vCPU's state.
  Result<std::vector<uint32_t>> msr_indices() const;

 private:
  explicit System(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

}  // namespace calf::kvm
