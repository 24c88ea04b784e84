// A machine without a processor: memory, ports, disks and a Bios, and a test that plays the guest.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "devices/legacy/rtc_cmos.h"
#include "firmware/bios/areas.h"
#include "firmware/bios/bios.h"
#include "firmware/bios/real_memory.h"
#include "tests/firmware/bios/memory_node.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_irq.h"

namespace calf::firmware {

// Keys that the test types.
class TypedKeys final : public KeySource {
 public:
  std::optional<uint8_t> take() override {
    if (bytes.empty()) return std::nullopt;
    auto byte = static_cast<uint8_t>(bytes.front());
    bytes.erase(0, 1);
    return byte;
  }
  std::string bytes;
};

// Configuration space by mechanism 1: a map of function -> 256 bytes.
class FakePci final : public devices::Device {
 public:
  void read(uint64_t offset, std::span<uint8_t> data) override {
    for (size_t i = 0; i < data.size(); ++i) {
      uint8_t* byte = at(offset + i);
      data[i] = byte ? *byte : 0xFF;
    }
  }
  void write(uint64_t offset, std::span<const uint8_t> data) override {
    if (offset == 0 && data.size() == 4) {
      std::memcpy(&address_, data.data(), 4);
      return;
    }
    for (size_t i = 0; i < data.size(); ++i) {
      if (uint8_t* byte = at(offset + i)) *byte = data[i];
    }
  }
  std::map<uint8_t, std::array<uint8_t, 256>> functions;

 private:
  uint8_t* at(uint64_t offset) {
    if (offset < 4 || offset >= 8 || !(address_ >> 31) || (address_ >> 16 & 0xFF) != 0)
      return nullptr;
    auto found = functions.find(static_cast<uint8_t>(address_ >> 8));
    if (found == functions.end()) return nullptr;
    return &found->second[(address_ & 0xFC) + offset - 4];
  }
  uint32_t address_ = 0;
};

class BiosFixture : public testing::Test {
 protected:
  static constexpr uint64_t kRam = 4 * kOneMiB;
  static constexpr uint16_t kStack = 0x7000;  // SS = 0

  BiosFixture()
      : rtc_(irq_, clock_, clock_),
        log_("test", LogLevel::kDebug, &BiosFixture::keep_line, this),
        host_(kRam, 0),
        guest_(slots()),
        memory(guest_) {
    EXPECT_TRUE(ports_.map({0x70, 2}, rtc_).ok());
    EXPECT_TRUE(ports_.map({0xCF8, 8}, pci_).ok());
  }

  // Adds a disk; before start().
  MemoryNode& add_disk(std::unique_ptr<MemoryNode> node, DiskKind kind = DiskKind::kHardDisk,
                       bool read_only = false) {
    nodes_.push_back(std::move(node));
    config_.boot_sequence.push_back(config_.disks.size());
    BiosDisk disk;
    disk.node = nodes_.back().get();
    disk.executor = executor_.get();
    disk.kind = kind;
    disk.read_only = read_only;
    disk.name = kind == DiskKind::kCdrom ? "test.iso" : "test.qcow2";
    config_.disks.push_back(disk);
    return *nodes_.back();
  }
  MemoryNode& add_disk(size_t size) { return add_disk(std::make_unique<MemoryNode>(size)); }

  void start() {
    auto map = MemoryMap::build(kRam);
    ASSERT_TRUE(map.ok());
    config_.e820.assign(map->e820().begin(), map->e820().end());
    BiosServices services{guest_, ports_, clock_, log_, keys_, [this](std::span<const uint8_t> s) {
                            printed_.append(reinterpret_cast<const char*>(s.data()), s.size());
                          }};
    bios_ = std::make_unique<Bios>(config_, std::move(services));
    ASSERT_TRUE(bios_->install().ok());
  }

  // `int vector`, up to where the guest goes on. Flags are the caller's.
  Outcome call(uint8_t vector, uint16_t flags = kFlagInterrupts) {
    regs.sp.set_word(kStack - 6);
    memory.set_word(0, kStack - 6, 0x1234);
    memory.set_word(0, kStack - 4, 0x0800);
    memory.set_word(0, kStack - 2, flags);
    regs.ss = 0;
    regs.ip = memory.word(devices::Gpa{vector * 4u});
    regs.cs = memory.word(devices::Gpa{vector * 4u + 2});
    return bios_->handle(regs);
  }
  // The guest runs on from a wait: it halts, is woken, and traps again.
  Outcome wake() {
    if (memory.byte(here()) == 0xFB) regs.ip = static_cast<uint16_t>(regs.ip + 2);
    return bios_->handle(regs);
  }
  devices::Gpa here() const { return linear(regs.cs, regs.ip); }
  bool returned() const { return memory.byte(here()) == 0xCF; }
  bool waits() const { return memory.byte(here()) == 0xFB || memory.byte(here()) == 0xE6; }
  uint16_t flags() const { return memory.word(0, kStack - 2); }
  bool carry() const { return flags() & kFlagCarry; }
  bool zero() const { return flags() & kFlagZero; }

  std::string take_printed() { return std::exchange(printed_, {}); }

  devices::FakeClock clock_;
  devices::FakeIrq irq_;
  devices::RtcCmos rtc_;
  devices::Bus ports_;
  FakePci pci_;
  Log log_;
  std::string logged_;
  TypedKeys keys_;
  std::string printed_;
  std::vector<uint8_t> host_;
  devices::GuestMemory guest_;
  RunningExecutor executor_;
  std::deque<std::unique_ptr<MemoryNode>> nodes_;
  BiosConfig config_;
  std::unique_ptr<Bios> bios_;

 public:
  RealMemory memory;
  RealModeRegs regs;

 private:
  std::vector<devices::GuestMemory::Region> slots() {
    std::span<uint8_t> all(host_);
    using devices::Gpa;
    return {{Gpa{0}, all.first(0xA0000)},
            {Gpa{0xC0000}, all.subspan(0xC0000, 0x40000), false},
            {Gpa{0x100000}, all.subspan(0x100000)}};
  }
  static void keep_line(void* self, std::string_view line) {
    static_cast<BiosFixture*>(self)->logged_ += line;
  }
};

}  // namespace calf::firmware
