// One virtual machine: memory slots, interrupt controllers, clocks (api.rst, "VM ioctls").
//
// Every member is one ioctl. All may be called from any thread.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>

#include "block/base/fd.h"
#include "block/base/result.h"
#include "vmm/kvm/vcpu.h"

namespace calf::kvm {

class Vm {
 public:
  Vm(Fd fd, size_t run_size) : fd_(std::move(fd)), run_size_(run_size) {}

  // Gives the virtual machine back to the kernel, which takes milliseconds; its vCPUs are gone.
  // Calls after this fail.
  void close() { fd_.reset(); }

  // ---- Memory ----
  // `host` stays mapped as long as the slot. Writes of the guest to a read-only slot are MMIO
  // exits.
  Result<void> set_memory_slot(uint32_t slot, uint64_t guest_address, std::span<uint8_t> host,
                               bool read_only);
  // Three pages and one page that VT-x without "unrestricted guest" uses; nothing else stands
  // there.
  Result<void> set_tss_address(uint32_t address);
  Result<void> set_identity_map_address(uint64_t address);

  // ---- vCPUs ----
  // After the interrupt controllers were created. `id` is the APIC ID.
  Result<Vcpu> create_vcpu(unsigned id);

  // ---- Interrupts ----
  // PIC, IOAPIC, LAPICs.
  Result<void> create_irqchip();
  // With a port 0x61 that knows no speaker sound.
  Result<void> create_pit();
  Result<void> set_irq_line(uint32_t gsi, bool high);
  // Replaces the whole table.
  Result<void> set_gsi_routing(std::span<const kvm_irq_routing_entry> entries);
  // Signals of `event_fd` pulse `gsi`.
  Result<void> attach_irqfd(uint32_t gsi, int event_fd);
  Result<void> detach_irqfd(uint32_t gsi, int event_fd);
  Result<void> signal_msi(uint64_t address, uint32_t data);

  Result<kvm_irqchip> irqchip(uint32_t which) const;  // KVM_IRQCHIP_PIC_MASTER, _PIC_SLAVE, _IOAPIC
  Result<void> set_irqchip(const kvm_irqchip& state);
  Result<kvm_pit_state2> pit() const;
  Result<void> set_pit(const kvm_pit_state2& state);

  // ---- Doorbells ----
  // Writes of `length` bytes (0: any) at `address` signal `event_fd`.
  enum class Space : uint8_t { kMmio, kPio };
  Result<void> attach_ioeventfd(Space space, uint64_t address, uint32_t length, int event_fd);
  Result<void> detach_ioeventfd(Space space, uint64_t address, uint32_t length, int event_fd);

  // What KVM replaces on its buses (create_irqchip(), doorbells) it frees after a grace period,
  // which is long, since nobody waits for it but the end of the machine. Somebody who waits makes
  // it short: this does, for some milliseconds. On a thread of its own, before close(). Nothing
  // changes for the guest: nothing may stand at `unused_address`, and nothing does afterwards.
  Result<void> hasten_grace_period(uint64_t unused_address);

  // ---- MSRs ----
  // Writes of the guest to MSRs first to last (at most 64) become KVM_EXIT_X86_WRMSR; all others
  // stay KVM's business. Two ioctls, of which the second one waits for a grace period: none has
  // begun, and so none is long, before anything else was done with the machine.
  Result<void> exit_on_msr_writes(uint32_t first, uint32_t last);

  // ---- Clock ----
  Result<kvm_clock_data> clock() const;
  Result<void> set_clock(const kvm_clock_data& clock);

 private:
  Fd fd_;
  size_t run_size_;
};

}  // namespace calf::kvm
