// The state in which a vCPU begins: as the processor leaves it at power-on, then as the boot
// protocol wants the first one.
//
//     all:        CPUID, MSRs, LAPIC (wires LINT0 to the PIC, LINT1 to NMI)
//     first:      runs, in real, protected or long mode
//     the others: wait for the startup interrupt, which KVM handles
//
// Intel SDM volume 3A, table 9-1.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>

#include "block/base/result.h"
#include "firmware/bios/regs.h"
#include "firmware/boot/entry_state.h"
#include "vmm/kvm/vcpu.h"

namespace calf::vmm {

// What KVM gave the first vCPU when it made it; the others' differs in known places.
struct VcpuTemplate {
  kvm_sregs sregs;
  kvm_lapic_state lapic;
  kvm_xcrs xcrs;  // none on a processor without XSAVE

  // Of the first vCPU, right after its creation.
  static Result<VcpuTemplate> capture(const kvm::Vcpu& vcpu);
};

// The part of power-on that KVM_CREATE_VCPU leaves to us. CPUID was set.
Result<void> finish_power_on(kvm::Vcpu& vcpu);

// Back to power-on from any state. The vCPU stands still. `apic_id` is what it was made with.
Result<void> reset_vcpu(kvm::Vcpu& vcpu, const VcpuTemplate& initial, uint32_t apic_id,
                        bool is_first);

// Lets the first vCPU begin in real mode with these registers.
Result<void> enter_real_mode(kvm::Vcpu& vcpu, const VcpuTemplate& initial,
                             const firmware::RealModeRegs& regs);

// Lets the first vCPU begin as a boot protocol wants it.
Result<void> enter(kvm::Vcpu& vcpu, const VcpuTemplate& initial, const firmware::EntryState& state);

// Segment base 16 * selector, limit 64 KiB.
kvm_segment real_mode_segment(uint16_t selector, bool code);

}  // namespace calf::vmm
