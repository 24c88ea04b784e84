// A guest that writes nonsense into every register, ring and BAR it can reach, while a device works
// on another thread. The process lives, answers, and works again after a reset.
#include <random>

#include "tests/devices/virtio/blk_fixture.h"
#include "tests/support/hostile_access.h"

namespace calf::virtio {
namespace {

class VirtioHostileTest : public BlkFixture {
 protected:
  VirtioHostileTest() : seed(std::random_device{}()), random(seed) {
    std::printf("seed %u\n", seed);
  }
  bool time_is_left() const { return std::chrono::steady_clock::now() < end; }
  void expect_alive() {
    node->release();
    ram_is_new();
    ASSERT_TRUE(bridge->reset().ok());
    start(kAllBlkFeatures);
    std::vector<uint8_t> data = pattern(512, 1);
    EXPECT_EQ(run(BlkType::kWrite, 0, &data), kOk);
    std::vector<uint8_t> back(512);
    EXPECT_EQ(run(BlkType::kRead, 0, &back), kOk);
    EXPECT_EQ(back, data);
  }
  void ram_is_new() { std::memset(ram.at(0), 0, ram.size()); }

  uint32_t seed;
  std::mt19937 random;
  std::chrono::steady_clock::time_point end =
      std::chrono::steady_clock::now() + std::chrono::seconds(3);
};

TEST_F(VirtioHostileTest, RandomRegisters) {
  BlkOptions options;
  options.queues = 3;
  make_disk(options);
  devices::Device* bar = transport->bars()[0]->device;
  while (time_is_left()) {
    // Where a driver would be: negotiated and running, or not.
    if (random() % 2) start(kAllBlkFeatures & random(), 1 + random() % 3, 8u << random() % 4);
    hostile_accesses(*bar, 0x8000, 300, random(), [](uint32_t) {});
    hostile_accesses(*bar, 0x40, 300, random(), [](uint32_t) {});  // the common structure
    for (int i = 0; i < 20; ++i) {
      bridge->write_config({0, 1, 0}, random() % 256 & ~3u, 4, random());
      bridge->read_config({0, 1, 0}, random() % 256 & ~3u, 4);
    }
    ASSERT_TRUE(bridge->reset().ok());
    queues.clear();
    ram.reset_allocator();
  }
  expect_alive();
}

TEST_F(VirtioHostileTest, RandomRings) {
  make_disk();
  while (time_is_left()) {
    start(kAllBlkFeatures | (random() % 2 ? kFeatureEventIndex : 0) |
              (random() % 2 ? kFeatureIndirectDescriptors : 0),
          1, 16);
    if (random() % 4 == 0) node->hold();
    VirtqueueDriver& queue = queues[0];
    uint64_t area = ram.allocate(65536, 4096);
    for (int round = 0; round < 20; ++round) {
      for (uint16_t i = 0; i < 16; ++i) {
        uint64_t address = area + random() % 65536;
        if (random() % 16 == 0) address = uint64_t{random()} << 32 | random();
        uint32_t length = random() % 64 == 0 ? random() : random() % 2048;
        uint16_t flags = random() % 8 == 0 ? random() % 8 : random() % 4;
        queue.write_descriptor(i, address, length, flags,
                               static_cast<uint16_t>(random() % (random() % 32 ? 16 : 65536)));
        // Likely headers in the area.
        BlkRequestHeader header;
        header.type = static_cast<uint32_t>(random() % 16);
        header.sector = random() % 32768;
        std::memcpy(ram.at(area + 4096 * (random() % 15)), &header, sizeof header);
      }
      for (unsigned n = random() % 16; n > 0; --n)
        queue.offer_raw(static_cast<uint16_t>(random() % (random() % 32 ? 16 : 65536)));
      if (random() % 32 == 0) queue.set_available_index(static_cast<uint16_t>(random()));
      queue.publish();
      guest->kick(0);
      if (random() % 4 == 0) thread.settle();
    }
    node->release();
    ASSERT_TRUE(guest->reset());
    queues.clear();
    ram.reset_allocator();
  }
  expect_alive();
}

}  // namespace
}  // namespace calf::virtio
