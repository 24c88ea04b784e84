// MiniMachine: KVM, memory, interrupt controllers and vCPU loops, with chips that a test brings.
// For guests of a few hand-assembled bytes; the real thing is vmm/machine.h.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <vector>

#include "devices/core/bus.h"
#include "vmm/cpuid.h"
#include "vmm/event_loop.h"
#include "vmm/irq.h"
#include "vmm/kvm/system.h"
#include "vmm/memory.h"
#include "vmm/run_state.h"
#include "vmm/vcpu_group.h"
#include "vmm/vcpu_loop.h"
#include "vmm/vcpu_setup.h"

namespace calf::vmm {

// Skips the test, loudly, on a host without KVM.
#define CALF_NEED_KVM()                                                       \
  do {                                                                        \
    auto calf_kvm_probe = ::calf::kvm::System::open();                        \
    if (!calf_kvm_probe.ok())                                                 \
      GTEST_SKIP() << "needs /dev/kvm: " << calf_kvm_probe.error().message(); \
  } while (false)

// A chip whose registers are functions.
class FakeChip final : public devices::Device {
 public:
  std::function<void(uint64_t offset, std::span<uint8_t>)> on_read;
  std::function<void(uint64_t offset, std::span<const uint8_t>)> on_write;
  void read(uint64_t offset, std::span<uint8_t> data) override {
    if (on_read) on_read(offset, data);
  }
  void write(uint64_t offset, std::span<const uint8_t> data) override {
    if (on_write) on_write(offset, data);
  }
};

class MiniMachine {
 public:
  static constexpr uint16_t kExitPort = 0xF4;  // a byte written here ends run()

  // Ends the test process on any error: a host that has KVM can do this.
  explicit MiniMachine(unsigned cpus = 1, uint64_t ram = uint64_t{4} << 20);
  ~MiniMachine();

  void load(uint64_t address, std::initializer_list<int> bytes);
  template <class T>
  T peek(uint64_t address) {
    return *ram->guest_memory().read_object<T>(devices::Gpa{address});
  }
  // Starts the first vCPU at 0:`ip` in real mode and returns the first request that ends it, or
  // nothing after `limit`.
  std::optional<Request> run(uint16_t ip, std::chrono::seconds limit = std::chrono::seconds(20));
  // The same with any entry state.
  std::optional<Request> run(const firmware::EntryState& entry,
                             std::chrono::seconds limit = std::chrono::seconds(20));
  // All vCPUs back to power-on; for use between two run() calls.
  void reset_vcpus();

  std::unique_ptr<EventLoop> loop;
  std::optional<firmware::MemoryMap> map;
  std::unique_ptr<Ram> ram;
  std::optional<kvm::System> system;
  std::optional<kvm::Vm> vm;
  std::unique_ptr<IrqController> irq;
  std::vector<kvm::Vcpu> vcpus;
  std::optional<VcpuTemplate> initial;
  devices::Bus ports;
  devices::Bus mmio;
  std::unique_ptr<VcpuGroup> group;
  std::unique_ptr<RunState> run_state;
  std::vector<std::unique_ptr<VcpuLoop>> loops;
  ExitHandler* bios = nullptr;
  ExitHandler* completer = nullptr;

 private:
  std::optional<Request> run_until_end(std::chrono::seconds limit);

  FakeChip exit_chip_;
  std::optional<Request> ended_;
  bool started_ = false;
};

}  // namespace calf::vmm
