#include "tests/kvm/mini_machine.h"

#include <cstdio>
#include <cstdlib>

#include "vmm/timers.h"

namespace calf::vmm {
namespace {

template <class T>
T must(Result<T> result, const char* what) {
  if (!result.ok()) {
    std::fprintf(stderr, "MiniMachine: %s: %s\n", what, result.error().message().c_str());
    std::abort();
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace

MiniMachine::MiniMachine(unsigned cpus, uint64_t ram_size) {
  loop = must(EventLoop::create(), "event loop");
  map.emplace(must(firmware::MemoryMap::build(ram_size), "memory map"));
  ram = must(Ram::allocate(*map), "memory");
  system.emplace(must(kvm::System::open(), "open"));
  vm.emplace(must(system->create_vm(), "create VM"));
  must(vm->set_tss_address(static_cast<uint32_t>(firmware::kKvmTss.offset)), "TSS");
  must(vm->set_identity_map_address(firmware::kKvmIdentityMap.offset), "identity map");
  irq = must(IrqController::create(*vm), "irqchip");
  must(ram->attach(*vm, *map), "memory slots");
  std::vector<kvm_cpuid_entry2> supported = must(system->supported_cpuid(), "CPUID");
  CpuidRequest request;
  request.topology = {cpus, cpus, 1, 1};
  vcpus.reserve(cpus);
  for (unsigned i = 0; i < cpus; ++i) {
    vcpus.push_back(must(vm->create_vcpu(apic_id(request.topology, i)), "vCPU"));
    must(vcpus[i].set_cpuid(must(build_cpuid(supported, request, i), "CPUID")), "set CPUID");
    if (i == 0) initial.emplace(must(VcpuTemplate::capture(vcpus[0]), "capture"));
    must(finish_power_on(vcpus[i]), "power-on");
  }
  group = std::make_unique<VcpuGroup>(vcpus);
  run_state = std::make_unique<RunState>(*loop, *group, [this](const Request& request_made) {
    ended_ = request_made;
    loop->stop();
  });
  exit_chip_.on_write = [this](uint64_t, std::span<const uint8_t> data) {
    run_state->request_debug_exit(data[0]);
  };
  must(ports.map({kExitPort, 1}, exit_chip_), "exit port");
}

MiniMachine::~MiniMachine() {
  group->quit();
}

void MiniMachine::load(uint64_t address, std::initializer_list<int> bytes) {
  for (int byte : bytes) {
    bool written =
        ram->guest_memory().write_object(devices::Gpa{address++}, static_cast<uint8_t>(byte));
    ASSERT_TRUE(written);
  }
}

void MiniMachine::reset_vcpus() {
  for (unsigned i = 0; i < vcpus.size(); ++i)
    must(reset_vcpu(vcpus[i], *initial, i, i == 0), "reset");
}

std::optional<Request> MiniMachine::run(uint16_t ip, std::chrono::seconds limit) {
  firmware::RealModeRegs regs;
  regs.ip = ip;
  regs.sp.set_all(0x7000);
  must(enter_real_mode(vcpus[0], *initial, regs), "entry");
  return run_until_end(limit);
}

std::optional<Request> MiniMachine::run(const firmware::EntryState& entry,
                                        std::chrono::seconds limit) {
  must(enter(vcpus[0], *initial, entry), "entry");
  return run_until_end(limit);
}

std::optional<Request> MiniMachine::run_until_end(std::chrono::seconds limit) {
  ended_.reset();
  auto timers = must(LoopTimers::create(*loop), "timers");
  auto timer = timers->make_timer([this] {
    group->order_park();
    loop->stop();
  });
  timer->arm(std::chrono::steady_clock::now().time_since_epoch() + limit);
  if (!started_) {
    VcpuContext context{ports, mmio, ram->guest_memory(), *run_state, *group, bios, completer};
    for (unsigned i = 0; i < vcpus.size(); ++i)
      loops.push_back(std::make_unique<VcpuLoop>(vcpus[i], i, context));
    must(group->start([this](unsigned i) { loops[i]->run(); }), "threads");
    started_ = true;
  } else {
    group->release();
  }
  loop->run();
  group->wait_parked();
  return ended_;
}

}  // namespace calf::vmm
