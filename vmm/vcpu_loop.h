// VcpuLoop: one vCPU's life. Runs the guest, and answers what KVM cannot answer itself.
//
//     KVM_RUN -> I/O, MMIO      -> bus -> chip
//             -> trap port      -> BIOS service
//             -> triple fault   -> reset
//             -> internal error -> instruction completer, or a report and the end
#pragma once

#include <atomic>
#include <cstdint>

#include "block/base/log.h"
#include "devices/core/bus.h"
#include "devices/core/guest_memory.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/run_state.h"
#include "vmm/vcpu_group.h"

namespace calf::vmm {

// Finishes exits that are not a chip's business. Called on the vCPU's thread.
class ExitHandler {
 public:
  virtual ~ExitHandler() = default;
  enum class Verdict : uint8_t {
    kNotMine,  // the next handler is asked, or the exit is fatal
    kResume,
    kFatal,  // nobody else can help: report and end
  };
  // `index` is the vCPU's number; run_page() holds the exit.
  virtual Result<Verdict> handle(kvm::Vcpu& vcpu, unsigned index) = 0;
};

// Everything outlives the loop.
struct VcpuContext {
  devices::Bus& ports;
  devices::Bus& mmio;
  const devices::GuestMemory& memory;
  RunState& run_state;
  VcpuGroup& group;
  // Answers an `out` to the BIOS trap port; null: no such port.
  ExitHandler* bios = nullptr;
  // Answers KVM_EXIT_INTERNAL_ERROR, _DEBUG and _X86_WRMSR; null: those are fatal.
  ExitHandler* completer = nullptr;
};

class VcpuLoop {
 public:
  // Counted by the vCPU's thread, read by any.
  struct Counters {
    std::atomic<uint64_t> exits{0};
    std::atomic<uint64_t> io{0};
    std::atomic<uint64_t> mmio{0};
    std::atomic<uint64_t> bios{0};       // calls, part of `io`
    std::atomic<uint64_t> completed{0};  // exits that the completer was asked about
  };

  VcpuLoop(kvm::Vcpu& vcpu, unsigned index, VcpuContext context)
      : vcpu_(vcpu), index_(index), context_(context) {}

  // Returns when the group quits.
  void run();
  const Counters& counters() const { return counters_; }

 private:
  void dispatch();
  void handle_io();
  void handle_mmio();
  void handle_system_event();
  void ask(ExitHandler* handler);
  void die();

  kvm::Vcpu& vcpu_;
  const unsigned index_;
  const VcpuContext context_;
  // The last exit was an access whose second half KVM_RUN still owes to the guest.
  bool half_done_ = false;
  Counters counters_;
};

}  // namespace calf::vmm
