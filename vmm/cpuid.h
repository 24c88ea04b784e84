// CPUID: what the guest's processors say about themselves.
//
// Starts from what KVM supports on this host and puts in what belongs to the machine: topology,
// APIC IDs, the hypervisor's leaves, features switched off or on by -cpu. A pure function, with one
// result per vCPU.
//
// APIC ID:   | socket | core (rounded up to a power of two) | thread (likewise) |
//
// Intel SDM volume 2A "CPUID" and volume 3A 9.9; AMD APM volume 3 appendix E.
// Not supported: performance monitoring (leaf 0xA says none), SGX, processor groups.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <vector>

#include "block/base/result.h"
#include "vmm/config.h"

namespace calf::vmm {

// kInvalid unless cpus = sockets * cores * threads lies between 1 and 64.
Result<void> check_topology(const Topology& topology);

// The APIC ID of the vCPU with that number; below 255 for every topology that check_topology()
// lets pass. There may be gaps.
uint32_t apic_id(const Topology& topology, unsigned cpu);

struct CpuidRequest {
  Topology topology;
  std::span<const CpuFeature> features;
  bool tsc_deadline_timer = false;  // KVM's LAPIC has it
};

// kInvalid for a feature that has no name here, or that is switched on and not supported.
Result<std::vector<kvm_cpuid_entry2>> build_cpuid(std::span<const kvm_cpuid_entry2> supported,
                                                  const CpuidRequest& request, unsigned cpu);

// Number of physical address bits that the guest sees.
unsigned physical_address_bits(std::span<const kvm_cpuid_entry2> entries);

}  // namespace calf::vmm
