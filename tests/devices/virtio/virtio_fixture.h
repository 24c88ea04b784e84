// A machine around one virtio device: memory, buses, bridge, interrupts, an executor's thread. The
// test is the vCPU.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/pci/host_bridge.h"
#include "devices/virtio/pci_transport.h"
#include "tests/support/executor_thread.h"
#include "tests/support/fake_irq.h"
#include "tests/support/fake_msi.h"
#include "tests/support/fake_ram.h"
#include "tests/support/virtio_pci_guest.h"
#include "tests/support/virtqueue_driver.h"

namespace calf::virtio {

class VirtioFixture : public ::testing::Test {
 protected:
  static constexpr ByteRange kWindow32{0xc0000000, 0x20000000};
  static constexpr ByteRange kWindow64{uint64_t{8} << 30, uint64_t{1} << 30};
  static constexpr uint64_t kMsiAddress = 0xfee00000;

  VirtioFixture() {
    pci::HostBridge::Options options;
    options.mmio = &mmio;
    options.doorbells = &doorbells;
    options.log = &log;
    options.intx = {{&irq, 11}};
    bridge = std::make_unique<pci::HostBridge>(std::move(options));
  }
  ~VirtioFixture() override {
    if (transport) transport->stop();
  }

  // Puts the device on the bus and a guest's driver in front of it. `device` outlives the fixture's
  // use of it.
  void plug(Device& device, bool msix = true) {
    PciTransport::Options options;
    options.device = &device;
    options.memory = &ram.memory();
    options.msi = msix ? &msi : nullptr;
    options.log = &log;
    options.id = "test0";
    transport = std::move(*PciTransport::create(std::move(options)));
    pci::Address address = *bridge->add(*transport);
    ASSERT_TRUE(bridge->assign_resources(kWindow32, kWindow64).ok());
    guest = std::make_unique<VirtioPciGuest>(mmio, *bridge, address, doorbells);
  }

  // Negotiates and starts `count` queues of `size`; queue i interrupts with data i + 1, the
  // configuration with data 0.
  void start(uint64_t features, uint16_t count = 1, uint16_t size = 64) {
    ASSERT_TRUE(guest->negotiate(features | kFeatureVersion1));
    queues.clear();
    guest->enable_msix(true);
    guest->program_vector(0, kMsiAddress, 0);
    guest->set_common(offsetof(CommonConfig, config_vector), 2, 0);
    for (uint16_t i = 0; i < count; ++i) {
      queues.emplace_back(ram, size, (features & kFeatureEventIndex) != 0);
      uint16_t vector = static_cast<uint16_t>(i + 1);
      guest->program_vector(vector, kMsiAddress, vector);
      guest->set_up_queue(i, queues.back(), vector);
    }
    guest->set_driver_ok();
  }

  void publish_and_kick(uint16_t queue = 0) {
    if (queues[queue].publish()) guest->kick(queue);
  }

  // Waits for the next used buffer as a driver does, by interrupt. Nothing after ten seconds.
  std::optional<VirtqueueDriver::Used> next_used(uint16_t queue = 0) {
    VirtqueueDriver& q = queues[queue];
    for (;;) {
      if (auto used = q.collect()) return used;
      int before = msi.total();
      if (q.enable_interrupts()) continue;
      if (!msi.wait_for_total(before + 1)) return std::nullopt;
    }
  }

  // Waits until the device says NEEDS_RESET, by its configuration interrupt.
  bool wait_for_needs_reset() {
    bool told = msi.wait([](const auto& sent) { return sent.count({kMsiAddress, 0}) != 0; });
    return told && (guest->status() & kStatusNeedsReset) != 0;
  }

  Log log{"test", LogLevel::kError};
  devices::FakeRam ram{16u << 20};
  devices::Bus mmio;
  devices::FakeDoorbells doorbells;
  devices::FakeMsi msi;
  devices::FakeIrq irq;
  ExecutorThread thread;
  std::unique_ptr<pci::HostBridge> bridge;
  std::unique_ptr<PciTransport> transport;
  std::unique_ptr<VirtioPciGuest> guest;
  std::vector<VirtqueueDriver> queues;
};

}  // namespace calf::virtio
