// BiosTrap: carries a BIOS call from the vCPU to the service and back.
//
//     out kTrapPort  ->  finish the `out`  ->  registers  ->  Bios::handle()  ->  registers
#pragma once

#include "firmware/bios/bios.h"
#include "vmm/run_state.h"
#include "vmm/vcpu_loop.h"

namespace calf::vmm {

class BiosTrap final : public ExitHandler {
 public:
  // Both outlive the trap.
  BiosTrap(firmware::Bios& bios, RunState& run_state) : bios_(bios), run_state_(run_state) {}
  Result<Verdict> handle(kvm::Vcpu& vcpu, unsigned index) override;

 private:
  firmware::Bios& bios_;
  RunState& run_state_;
};

}  // namespace calf::vmm
