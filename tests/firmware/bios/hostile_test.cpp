// A guest that calls every service with registers and memory full of nonsense. Nothing may happen
// to the host; under ASan and UBSan this says something.
#include <random>

#include "firmware/bios/stubs.h"
#include "tests/firmware/bios/bios_fixture.h"

namespace calf::firmware {
namespace {

class HostileTest : public BiosFixture {
 protected:
  void SetUp() override {
    add_disk(3 << 20);
    add_disk(std::make_unique<MemoryNode>((1 << 20) + 700), DiskKind::kCdrom);
    add_disk(std::make_unique<MemoryNode>(1 << 20), DiskKind::kHardDisk, true);
    start();
  }

  uint32_t number() {
    // Corners are likelier than chance makes them.
    switch (random_() % 6) {
      case 0:
        return 0;
      case 1:
        return 0xFFFFFFFF;
      case 2:
        return static_cast<uint32_t>(random_() % 256);
      case 3:
        return static_cast<uint32_t>(random_()) & 0xFFFF;
      default:
        return static_cast<uint32_t>(random_());
    }
  }
  void scramble() {
    for (Register* r :
         {&regs.ax, &regs.bx, &regs.cx, &regs.dx, &regs.si, &regs.di, &regs.bp, &regs.sp})
      r->set_all(number());
    for (uint16_t* s : {&regs.ds, &regs.es, &regs.fs, &regs.gs, &regs.ss})
      *s = static_cast<uint16_t>(number());
  }
  void scramble_memory(size_t bytes) {
    for (size_t i = 0; i < bytes; ++i)
      memory.set_byte(devices::Gpa{random_() % 0xA0000}, static_cast<uint8_t>(random_()));
  }
  Outcome trap(uint8_t vector, bool repeated) {
    regs.cs = 0xF000;
    regs.ip = static_cast<uint16_t>(kStubsOffset + vector * 8 + (repeated ? 5 : 0));
    return bios_->handle(regs);
  }

  std::mt19937 random_{20};
};

TEST_F(HostileTest, EveryVectorAndFunction) {
  std::vector<uint8_t> rom(host_.begin() + 0xF0000, host_.begin() + 0x100000);
  for (unsigned vector = 0; vector < 256; ++vector) {
    bool service = vector >= 0x10 && vector <= 0x1A;
    for (unsigned function = 0; function < 256; ++function) {
      unsigned rounds = service ? 8 : function == 0 ? 2 : 0;
      for (unsigned round = 0; round < rounds; ++round) {
        scramble();
        regs.ax.set_high(function);
        if (vector == 0x13 && round % 2 == 0) {
          constexpr uint8_t kDrives[] = {0x80, 0x81, 0xE0, 0x00};
          regs.dx.set_low(kDrives[random_() % 4]);
        }
        keys_.bytes = "\x1b[\xFFz";
        trap(static_cast<uint8_t>(vector), random_() % 4 == 0);
        clock_.advance(std::chrono::milliseconds(random_() % 100));
      }
    }
  }
  EXPECT_TRUE(std::equal(rom.begin(), rom.end(), host_.begin() + 0xF0000))
      << "a service wrote to read-only memory";
  for (auto& node : nodes_)
    EXPECT_FALSE(node->outside);
}

TEST_F(HostileTest, RandomCallsOverRandomMemory) {
  constexpr uint8_t kVectors[] = {0x10, 0x11, 0x12, 0x13, 0x13, 0x14, 0x15, 0x15, 0x16, 0x19, 0x1A};
  for (unsigned i = 0; i < 20000; ++i) {
    if (i % 16 == 0) scramble_memory(64);
    if (i % 64 == 0) {  // the data area too
      for (unsigned at = 0x400; at < 0x500; ++at)
        memory.set_byte(devices::Gpa{at}, static_cast<uint8_t>(number()));
    }
    scramble();
    trap(kVectors[random_() % std::size(kVectors)], random_() % 4 == 0);
  }
  for (auto& node : nodes_)
    EXPECT_FALSE(node->outside);
}

TEST_F(HostileTest, TrapsAnywhere) {
  for (unsigned i = 0; i < 20000; ++i) {
    scramble();
    regs.cs = static_cast<uint16_t>(random_() % 2 ? 0xF000 : number());
    regs.ip = static_cast<uint16_t>(number());
    bios_->handle(regs);
  }
}

}  // namespace
}  // namespace calf::firmware
