// Machine: one guest, from power-on to power-off.
//
//     control thread:  build() -> run() [event loop] -> result
//     per vCPU:        KVM_RUN -> exit -> bus -> device
//     per disk:        executor with the image graph
//
// build() makes everything that can fail before the guest starts; run() starts the threads and ends
// with all of them joined and all images closed.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "block/base/log.h"
#include "block/base/result.h"
#include "devices/core/byte_channel.h"
#include "devices/core/clock.h"
#include "devices/virtio/device.h"
#include "vmm/config.h"
#include "vmm/event_loop.h"

namespace calf::vmm {

enum class EndReason : uint8_t {
  kPowerOff,     // by the guest
  kReset,        // by the guest, with no_reboot
  kTripleFault,  // with no_reboot
  kDebugExit,    // RunResult::debug_exit_value
  kPanic,        // pvpanic
  kQuit,         // stop()
  kTimeout,
  kDiskError,      // an image could not be written back, or an error with werror=stop
  kInternalError,  // KVM gave up, or the guest did what we cannot run; RunResult::text says it
};
const char* to_string(EndReason reason);

inline std::chrono::nanoseconds monotonic_now() {
  return std::chrono::steady_clock::now().time_since_epoch();
}

// How far the run came, in order: the ends of the steps of Machine::build(), then the guest's first
// instruction, its end and what came after it.
struct Phases {
  struct Phase {
    const char* name;
    std::chrono::nanoseconds at;  // monotonic clock
  };
  std::chrono::nanoseconds build_started{0};
  std::vector<Phase> reached;

  void reach(const char* name) { reached.push_back({name, monotonic_now()}); }
};

struct Statistics {
  uint64_t exits = 0;
  uint64_t io_exits = 0;
  uint64_t mmio_exits = 0;
  uint64_t bios_calls = 0;
  uint64_t completed_instructions = 0;  // exits at which KVM's emulator was helped out
  uint64_t resets = 0;
  virtio::QueueCounters disk_queues;
  uint64_t disk_entries = 0;  // of the kernel by the disks' threads (Executor::entries())
};

struct RunResult {
  EndReason reason = EndReason::kPowerOff;
  uint32_t debug_exit_value = 0;  // as the guest wrote it
  std::string text;               // for people; lines of a report for kInternalError and kDiskError
  Phases phases;
  Statistics statistics;
};

// What the machine uses of the process around it. Everything outlives the machine.
struct HostServices {
  Log& log;
  // run() drives it; serial channels and signal handling hang there too.
  EventLoop& loop;
  devices::Clock& clock;
  // COM1 to COM4; null: the guest finds no such port.
  std::array<devices::ByteChannel*, 4> serial{};
  // 0xE9; null: bytes are lost.
  devices::ByteChannel* debug_port = nullptr;
};

class Machine {
 public:
  // Errors name the option or the host's shortcoming, and what to do about it.
  static Result<std::unique_ptr<Machine>> build(const MachineConfig& config, HostServices host);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Called once, on the control thread. Returns when the guest has ended.
  RunResult run();

  // ---- Any thread, before or during run() ----
  // ACPI power button; the guest decides what to do about it.
  void press_power_button();
  // The guest starts again from power-on (with no_reboot: the run ends).
  void reset();
  // vCPUs stand still until resume().
  void pause();
  void resume();
  bool paused() const;
  // Ends the run with kQuit: images are flushed and closed.
  void stop();

 private:
  struct Parts;
  explicit Machine(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace calf::vmm
