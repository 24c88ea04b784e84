// What a person needs to see when a vCPU cannot go on: registers, the bytes at RIP, KVM's reason.
#pragma once

#include <string>

#include "devices/core/guest_memory.h"
#include "vmm/kvm/vcpu.h"

namespace calf::vmm {

// `index` is the vCPU's number. Several lines, no final newline. Belongs to the vCPU's thread.
std::string describe_exit(kvm::Vcpu& vcpu, unsigned index, const devices::GuestMemory& memory);

// Registers and the bytes at RIP of a vCPU that stands still, for a guest that did not end in time.
std::string describe_state(kvm::Vcpu& vcpu, unsigned index, const devices::GuestMemory& memory);

}  // namespace calf::vmm
