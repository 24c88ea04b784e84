#include "vmm/vcpu_loop.h"

#include <algorithm>

#include "firmware/bios/bios.h"
#include "vmm/vcpu_report.h"

namespace calf::vmm {
namespace {

// One writer per counter: no locked instruction needed.
void count(std::atomic<uint64_t>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace

void VcpuLoop::run() {
  while (true) {
    vcpu_.clear_interrupt();
    if (!context_.group.may_run()) {
      // Who looks at a standing vCPU, or resets it, finds whole instructions only.
      if (half_done_) {
        Result<void> completed = vcpu_.complete_exit();
        if (!completed.ok()) context_.run_state.fail(completed.error().message());
        half_done_ = false;
      }
      if (!context_.group.stand_still()) return;
      continue;
    }
    Result<kvm::RunStatus> status = vcpu_.run();
    half_done_ = false;
    if (!status.ok()) {
      context_.run_state.fail(status.error().message());
      continue;
    }
    if (*status == kvm::RunStatus::kInterrupted) continue;
    count(counters_.exits);
    dispatch();
  }
}

void VcpuLoop::dispatch() {
  switch (vcpu_.run_page().exit_reason) {
    case KVM_EXIT_IO:
      return handle_io();
    case KVM_EXIT_MMIO:
      return handle_mmio();
    case KVM_EXIT_SHUTDOWN:
      return context_.run_state.request_reset(devices::ResetReason::kTripleFault);
    case KVM_EXIT_SYSTEM_EVENT:
      return handle_system_event();
    case KVM_EXIT_INTERNAL_ERROR:
    case KVM_EXIT_DEBUG:
      count(counters_.completed);
      return ask(context_.completer);
    case KVM_EXIT_X86_WRMSR:
      half_done_ = true;
      count(counters_.completed);
      return ask(context_.completer);
    case KVM_EXIT_HLT:   // only with a LAPIC of ours
    case KVM_EXIT_INTR:  // a signal
    case KVM_EXIT_IRQ_WINDOW_OPEN:
      return;
    default:
      return die();
  }
}

void VcpuLoop::handle_io() {
  count(counters_.io);
  kvm_run& page = vcpu_.run_page();
  half_done_ = true;
  uint16_t port = page.io.port;
  bool out = page.io.direction == KVM_EXIT_IO_OUT;
  if (out && port == firmware::kTrapPort && context_.bios != nullptr) {
    half_done_ = false;  // the handler completes it
    count(counters_.bios);
    return ask(context_.bios);
  }
  std::span<uint8_t> data = vcpu_.io_data();
  size_t size = page.io.size;
  // `rep ins` and `rep outs` come as several values for one port.
  for (size_t done = 0; size != 0 && done + size <= data.size(); done += size) {
    std::span<uint8_t> value = data.subspan(done, size);
    if (out) {
      context_.ports.write(port, value);
    } else {
      context_.ports.read(port, value);
    }
  }
}

void VcpuLoop::handle_mmio() {
  count(counters_.mmio);
  kvm_run& page = vcpu_.run_page();
  half_done_ = true;
  std::span<uint8_t> data(page.mmio.data, std::min<size_t>(page.mmio.len, sizeof page.mmio.data));
  if (page.mmio.is_write) {
    context_.mmio.write(page.mmio.phys_addr, data);
  } else {
    context_.mmio.read(page.mmio.phys_addr, data);
  }
}

void VcpuLoop::handle_system_event() {
  switch (vcpu_.run_page().system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
      return context_.run_state.request_power_off();
    case KVM_SYSTEM_EVENT_RESET:
      return context_.run_state.request_reset(devices::ResetReason::kUser);
    case KVM_SYSTEM_EVENT_CRASH:
      return context_.run_state.guest_panicked(devices::PanicKind::kPanicked);
    default:
      return die();
  }
}

void VcpuLoop::ask(ExitHandler* handler) {
  if (handler == nullptr) return die();
  Result<ExitHandler::Verdict> verdict = handler->handle(vcpu_, index_);
  if (!verdict.ok()) return context_.run_state.fail(verdict.error().message());
  if (*verdict != ExitHandler::Verdict::kResume) return die();
}

void VcpuLoop::die() {
  context_.run_state.fail(describe_exit(vcpu_, index_, context_.memory));
}

}  // namespace calf::vmm
