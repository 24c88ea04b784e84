// The machine while it runs, and how it ends. How it is made: machine_build.cpp.
#include "vmm/machine.h"

#include "vmm/cpuid.h"
#include "vmm/machine_parts.h"
#include "vmm/vcpu_report.h"

namespace calf::vmm {

const char* to_string(EndReason reason) {
  switch (reason) {
    case EndReason::kPowerOff:
      return "power-off";
    case EndReason::kReset:
      return "reset";
    case EndReason::kTripleFault:
      return "triple-fault";
    case EndReason::kDebugExit:
      return "debug-exit";
    case EndReason::kPanic:
      return "panic";
    case EndReason::kQuit:
      return "quit";
    case EndReason::kTimeout:
      return "timeout";
    case EndReason::kDiskError:
      return "disk-error";
    case EndReason::kInternalError:
      break;
  }
  return "internal-error";
}

Result<void> Machine::Parts::start() {
  VcpuContext context{
      ports, mmio, ram->guest_memory(), *run_state, *group, boot->bios_handler(), cpu_assist.get()};
  for (unsigned i = 0; i < vcpus.size(); ++i)
    loops.push_back(std::make_unique<VcpuLoop>(vcpus[i], i, context));
  if (config.timeout) {
    time_limit = timers->make_timer([this] { run_state->request({Request::Kind::kTimeout}); });
    time_limit->arm(monotonic_now() + *config.timeout);
  }
  if (paused) group->order_park();
  result.phases.reach("first-entry");
  // There is no firmware to run before it.
  if (boot->starts_boot_sector()) result.phases.reach("boot-sector");
  return group->start([this](unsigned i) { loops[i]->run(); });
}

void Machine::Parts::on_request(const Request& request) {
  switch (request.kind) {
    case Request::Kind::kReset:
      if (powered_off) return;
      if (!config.no_reboot) return reset_in_place(request.reset_reason);
      return end(request.reset_reason == devices::ResetReason::kTripleFault
                     ? EndReason::kTripleFault
                     : EndReason::kReset);
    case Request::Kind::kPowerOff:
      if (!config.no_shutdown) return end(EndReason::kPowerOff);
      powered_off = true;
      return;
    case Request::Kind::kDebugExit:
      result.debug_exit_value = request.value;
      return end(EndReason::kDebugExit);
    case Request::Kind::kPanic:
      return end(EndReason::kPanic);
    case Request::Kind::kFailure:
      return end(EndReason::kInternalError, request.text);
    case Request::Kind::kDiskError:
      return end(EndReason::kDiskError, request.text);
    case Request::Kind::kTimeout:
      return end(EndReason::kTimeout, describe_vcpus());
    case Request::Kind::kQuit:
      return end(powered_off ? EndReason::kPowerOff : EndReason::kQuit);
  }
}

void Machine::Parts::reset_in_place(devices::ResetReason reason) {
  if (reason == devices::ResetReason::kTripleFault && triple_fault_log.allow()) {
    host.log.warning("the guest triple-faulted and starts again (-no-reboot ends it instead)");
  }
  ++result.statistics.resets;
  auto again = [this]() -> Result<void> {
    TRY_VOID(pci->reset());
    chipset->reset();
    TRY_VOID(irq->reset());
    for (unsigned i = 0; i < vcpus.size(); ++i)
      TRY_VOID(reset_vcpu(vcpus[i], *vcpu_template, apic_id(config.topology, i), i == 0));
    TRY_VOID(cpu_assist->reset());
    return boot->power_on(vcpus[0], *vcpu_template);
  };
  Result<void> done = again();
  if (!done.ok()) return end(EndReason::kInternalError, "reset: " + done.error().message());
  if (!paused) group->release();
}

void Machine::Parts::end(EndReason reason, std::string text) {
  if (ended) return;
  ended = true;
  result.phases.reach("ended");
  result.reason = reason;
  result.text = std::move(text);
  host.loop.stop();
}

std::string Machine::Parts::describe_vcpus() {
  std::string text;
  for (unsigned i = 0; i < vcpus.size(); ++i) {
    if (i != 0) text += '\n';
    text += describe_state(vcpus[i], i, ram->guest_memory());
  }
  return text;
}

void Machine::Parts::collect_statistics() {
  for (const auto& loop : loops) {
    const VcpuLoop::Counters& counters = loop->counters();
    result.statistics.exits += counters.exits;
    result.statistics.io_exits += counters.io;
    result.statistics.mmio_exits += counters.mmio;
    result.statistics.bios_calls += counters.bios;
    result.statistics.completed_instructions += counters.completed;
  }
}

void Machine::Parts::shut_down() {
  if (group) group->quit();
  collect_statistics();
  if (pci) {
    pci->stop();
    result.statistics.disk_queues = pci->disk_counters();
  }
  // The kernel needs as long for this as the disks for their last writes.
  std::thread kvm_closer([this] {
    if (hastening.joinable()) hastening.join();
    vcpus.clear();
    vm->close();
  });
  if (chipset) chipset->flush();
  for (auto& disk : disks) {
    Result<void> closed = disk->close();
    result.statistics.disk_entries += disk->executor().entries();
    if (closed.ok()) continue;
    // Lost data outranks what the guest had to say.
    result.reason = EndReason::kDiskError;
    if (!result.text.empty()) result.text += '\n';
    result.text += closed.error().message();
  }
  result.phases.reach("disks-closed");
  kvm_closer.join();
  result.phases.reach("kvm-closed");
}

Machine::Parts::~Parts() {
  if (group) group->quit();
  if (hastening.joinable()) hastening.join();
  if (pci) pci->stop();
  for (auto& disk : disks) {
    Result<void> opened = disk->finish_opening();
    Result<void> closed = disk->close();
    if (opened.ok() && !closed.ok()) host.log.write(LogLevel::kError, closed.error().message());
  }
}

Machine::Machine(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Machine::~Machine() = default;

RunResult Machine::run() {
  Result<void> started = parts_->start();
  if (started.ok()) {
    parts_->host.loop.run();
  } else {
    parts_->end(EndReason::kInternalError, started.error().message());
  }
  parts_->shut_down();
  return parts_->result;
}

void Machine::press_power_button() {
  parts_->chipset->power().press_power_button();
}

void Machine::reset() {
  parts_->run_state->request_reset(devices::ResetReason::kUser);
}

void Machine::pause() {
  parts_->paused = true;
  parts_->group->order_park();
}

void Machine::resume() {
  parts_->paused = false;
  // On the control thread, where resets and ends are dealt with too: a machine that waits for one
  // of them goes on, or not, when that is done.
  parts_->host.loop.post([parts = parts_.get()] {
    bool over = parts->ended || parts->powered_off;
    if (!over && !parts->paused && !parts->run_state->pending()) parts->group->release();
  });
}

bool Machine::paused() const {
  return parts_->paused;
}

void Machine::stop() {
  parts_->run_state->request({Request::Kind::kQuit});
}

}  // namespace calf::vmm
