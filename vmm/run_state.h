// RunState: what is to become of the guest, as decided by whoever has a say in it.
//
//     chip, vCPU thread, person -> request -> vCPUs stop -> control thread: RunState::Handler
//
// The first request wins until the control thread has dealt with it, except that stop() always
// counts: a person who asks twice gets out.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "block/base/mutex.h"
#include "devices/core/machine_control.h"
#include "vmm/event_loop.h"
#include "vmm/vcpu_group.h"

namespace calf::vmm {

struct Request {
  enum class Kind : uint8_t {
    kReset,
    kPowerOff,
    kDebugExit,
    kPanic,
    kFailure,    // KVM or the guest did something that cannot go on; `text` tells
    kDiskError,  // likewise
    kTimeout,
    kQuit,
  };
  Kind kind;
  devices::ResetReason reset_reason = devices::ResetReason::kUser;
  uint32_t value = 0;
  std::string text;
};

class RunState final : public devices::MachineControl {
 public:
  // Called on the control thread, with a request that was made; vCPUs are parked or about to park.
  using Handler = std::function<void(const Request&)>;

  RunState(EventLoop& loop, VcpuGroup& vcpus, Handler handler)
      : loop_(loop), vcpus_(vcpus), handler_(std::move(handler)) {}

  // ---- Any thread ----
  void request(Request request);
  void request_reset(devices::ResetReason reason) override;
  void request_power_off() override;
  void request_debug_exit(uint32_t value) override;
  void guest_panicked(devices::PanicKind kind) override;
  void fail(std::string text);

  // A request waits for the control thread: nobody lets the vCPUs run.
  bool pending() const;

 private:
  void handle_pending();

  EventLoop& loop_;
  VcpuGroup& vcpus_;
  Handler handler_;
  mutable Mutex mutex_;
  std::optional<Request> pending_ CALF_GUARDED_BY(mutex_);
};

}  // namespace calf::vmm
