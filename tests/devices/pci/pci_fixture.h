// A bus with a bridge and functions that do nothing but remember.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <vector>

#include "devices/pci/host_bridge.h"
#include "tests/support/fake_irq.h"
#include "tests/support/fake_msi.h"

namespace calf::pci {

// Reads as its tag, notes the last write.
class TagDevice final : public devices::Device {
 public:
  explicit TagDevice(uint8_t tag) : tag_(tag) {}
  void read(uint64_t offset, std::span<uint8_t> data) override {
    last_offset = offset;
    std::fill(data.begin(), data.end(), tag_);
  }
  void write(uint64_t offset, std::span<const uint8_t> data) override {
    last_offset = offset;
    last_value = data[0];
    ++writes;
  }
  uint64_t last_offset = 0;
  uint8_t last_value = 0;
  int writes = 0;

 private:
  uint8_t tag_;
};

class TestFunction final : public Function {
 public:
  explicit TestFunction(uint16_t device_id)
      : Function({.vendor = 0x1234,
                  .device = device_id,
                  .subsystem_vendor = 0x5678,
                  .subsystem = 0x9abc,
                  .class_code = 0x018000,
                  .revision = 7}) {}
  using Function::add_bar;
  using Function::add_msix;
  using Function::attach_doorbells;
  using Function::config;
  using Function::msix;
  using Function::set_intx;
  using Function::use_intx;
  int resets = 0;

 private:
  void reset_device() override { ++resets; }
};

inline Bar make_bar(uint8_t index, BarKind kind, uint64_t size, devices::Device& device,
                    std::vector<Doorbell> doorbells = {}) {
  Bar bar;
  bar.index = index;
  bar.kind = kind;
  bar.size = size;
  bar.device = &device;
  bar.doorbells = std::move(doorbells);
  return bar;
}

class PciTest : public ::testing::Test {
 protected:
  static constexpr ByteRange kWindow32{0xc0000000, 0x20000000};
  static constexpr ByteRange kWindow64{0x100000000, 0x100000000};
  static constexpr uint64_t kEcamBase = 0xe0000000;

  PciTest() {
    HostBridge::Options options;
    options.mmio = &mmio;
    options.doorbells = &doorbells;
    options.log = &log;
    options.intx = {{&irq10, 10}, {&irq11, 11}};
    options.reset_control = &reset_control;
    bridge = std::make_unique<HostBridge>(std::move(options));
    EXPECT_TRUE(ports.map({kConfigAddressPort, kConfigPortCount}, bridge->config_ports()).ok());
    EXPECT_TRUE(mmio.map({kEcamBase, kEcamSize}, bridge->ecam()).ok());
  }

  // The guest's instructions.
  uint32_t in(uint16_t port, unsigned size) { return load(ports, port, size); }
  void out(uint16_t port, unsigned size, uint32_t value) { store(ports, port, size, value); }
  uint32_t ecam_read(uint8_t device, unsigned offset, unsigned size) {
    return load(mmio, ecam_at(device, offset), size);
  }
  void ecam_write(uint8_t device, unsigned offset, unsigned size, uint32_t value) {
    store(mmio, ecam_at(device, offset), size, value);
  }
  uint32_t cf8_read(uint8_t device, unsigned offset, unsigned size) {
    out(0xcf8, 4, 0x80000000u | uint32_t{device} << 11 | (offset & 0xfc));
    return in(static_cast<uint16_t>(0xcfc + offset % 4), size);
  }
  void cf8_write(uint8_t device, unsigned offset, unsigned size, uint32_t value) {
    out(0xcf8, 4, 0x80000000u | uint32_t{device} << 11 | (offset & 0xfc));
    out(static_cast<uint16_t>(0xcfc + offset % 4), size, value);
  }
  uint8_t tag_at(uint64_t address) { return static_cast<uint8_t>(load(mmio, address, 1)); }

  static uint64_t ecam_at(uint8_t device, unsigned offset) {
    return kEcamBase + (uint64_t{device} << 15) + offset;
  }
  static uint32_t load(devices::Bus& bus, uint64_t address, unsigned size) {
    std::array<uint8_t, 4> data{};
    bus.read(address, std::span(data).first(size));
    return data[0] | uint32_t{data[1]} << 8 | uint32_t{data[2]} << 16 | uint32_t{data[3]} << 24;
  }
  static void store(devices::Bus& bus, uint64_t address, unsigned size, uint32_t value) {
    std::array<uint8_t, 4> data{static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8),
                                static_cast<uint8_t>(value >> 16),
                                static_cast<uint8_t>(value >> 24)};
    bus.write(address, std::span<const uint8_t>(data).first(size));
  }

  Log log{"test", LogLevel::kError};
  devices::Bus mmio;
  devices::Bus ports;
  devices::FakeDoorbells doorbells;
  devices::FakeMsi msi;
  devices::FakeIrq irq10;
  devices::FakeIrq irq11;
  TagDevice reset_control{0x42};
  std::unique_ptr<HostBridge> bridge;
};

}  // namespace calf::pci
