// One access of a guest to the ports of the 8254 timer and of the speaker, as a change of the state
// that KVM keeps of them. For accesses that come before KVM has the ports (late_pit.h): the
// counters have just started, so their counts are what they were loaded with.
//
// Intel 8254 data sheet; KVM's form of the state: Documentation/virt/kvm/api.rst, KVM_GET_PIT2.
#pragma once

#include <linux/kvm.h>

#include <cstdint>

namespace calf::vmm {

// Registers of the 8254: 0 to 2 are the counters, 3 is the control word.
uint8_t read_pit(kvm_pit_state2& state, unsigned index);
void write_pit(kvm_pit_state2& state, unsigned index, uint8_t value);

// The speaker's port, which also opens the gate of counter 2.
uint8_t read_speaker(const kvm_pit_state2& state);
void write_speaker(kvm_pit_state2& state, uint8_t value);

}  // namespace calf::vmm
