// Finishes an instruction on which KVM's emulator gave up.
//
// On hosts without hardware virtualisation KVM interprets the guest's kernel and does not know
// every instruction. complete() reads the one at RIP, carries it out on the vCPU's registers and
// the guest's memory, and the vCPU goes on. Where the processor virtualises, it is never called.
//
// Independent of KVM: CpuAccess is the processor.
#pragma once

#include <string>
#include <variant>

#include "devices/core/guest_memory.h"
#include "vmm/insn_completer/cpu_access.h"

namespace calf::insn {

// The vCPU can go on: the instruction is done, or the guest has its exception.
struct Completed {};
// The instruction is none that the completer knows, or is used in a way it does not know.
struct CannotComplete {
  std::string why;
};
using Outcome = std::variant<Completed, CannotComplete>;

// An error is the hypervisor's: registers could not be read or set. Belongs to the vCPU's thread.
Result<Outcome> complete(CpuAccess& cpu, const devices::GuestMemory& memory);

}  // namespace calf::insn
