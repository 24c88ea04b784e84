// A guest that writes nonsense into every register, ring and BAR it can reach, while a device works
// on another thread. The process lives, answers, and works again after a reset.
#include <cstring>
#include <random>

#include "devices/virtio/ring_memory.h"
#include "tests/devices/virtio/blk_fixture.h"
#include "tests/support/hostile_access.h"
#include "tests/support/seed.h"

namespace calf::virtio {
namespace {

class VirtioHostileTest : public BlkFixture {
 protected:
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
  void write_request(uint16_t slot, uint64_t at) {
    static constexpr uint32_t kTypes[] = {0, 1, 4, 8, 11, 13, 2, 99};
    uint32_t type = kTypes[random() % 8];
    BlkRequestHeader header;
    header.type = type;
    header.sector = random() % 16 ? random() % 16000 : random();
    std::memcpy(ram.at(at), &header, sizeof header);
    bool segments = type == 11 || type == 13;
    if (segments) {
      BlkRangeSegment s = segment(random() % 17000, random() % 200, random() % 2);
      std::memcpy(ram.at(at + 4096), &s, sizeof s);
    }
    uint32_t length = segments ? 16 : 512 * (random() % 16);
    if (random() % 16 == 0) length = random() % 70000;
    uint16_t data_flags = kDescriptorNext;
    if (type == 0 || type == 8) data_flags |= kDescriptorWrite;
    uint16_t first = static_cast<uint16_t>(3 * slot);
    VirtqueueDriver& queue = queues[0];
    queue.write_descriptor(first, at, 16, kDescriptorNext, static_cast<uint16_t>(first + 1));
    queue.write_descriptor(static_cast<uint16_t>(first + 1), at + 4096, length, data_flags,
                           static_cast<uint16_t>(first + 2));
    queue.write_descriptor(static_cast<uint16_t>(first + 2), at + 64, 1, kDescriptorWrite, 0);
  }
  void spoil_descriptor(uint16_t index) {
    uint8_t* at = ram.at(queues[0].descriptors() + 16u * index);
    switch (random() % 4) {
      case 0:
        return store_shared<uint64_t>(at, uint64_t{random()} << 32 | random());
      case 1:
        return store_shared<uint32_t>(at + 8, static_cast<uint32_t>(random()));
      case 2:
        return store_shared<uint16_t>(at + 12, static_cast<uint16_t>(random() % 8));
      default:
        return store_shared<uint16_t>(at + 14, static_cast<uint16_t>(random()));
    }
  }
  void ram_is_new() { std::memset(ram.at(0), 0, ram.size()); }

  std::mt19937 random{test_seed()};
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

// Requests that are nearly right get deepest: three descriptors each, now and then one field of
// one of them is anything.
TEST_F(VirtioHostileTest, RandomRings) {
  make_disk();
  int rounds = 0;
  while (time_is_left() || rounds < 20) {
    start(kAllBlkFeatures | (random() % 2 ? kFeatureEventIndex : 0) |
              (random() % 2 ? kFeatureIndirectDescriptors : 0),
          1, 16);
    if (random() % 16 == 0) node->hold();
    uint64_t area = ram.allocate(5 * 65536, 4096);
    for (int round = 0; round < 20; ++round) {
      for (uint16_t slot = 0; slot < 5; ++slot)
        write_request(slot, area + 65536u * slot);
      if (random() % 8 == 0) spoil_descriptor(static_cast<uint16_t>(random() % 16));
      VirtqueueDriver& queue = queues[0];
      for (unsigned n = random() % 12; n > 0; --n)
        queue.offer_raw(static_cast<uint16_t>(random() % 128 ? 3 * (random() % 5) : random()));
      if (random() % 128 == 0) queue.set_available_index(static_cast<uint16_t>(random()));
      queue.publish();
      guest->kick(0);
      // Mostly the driver waits for what it offered; else the ring overflows.
      bool patient = random() % 64 != 0;
      for (int i = 0; patient && i < 100; ++i) {
        bool idle = queue.used_index() == queue.available_index() || node->waiting != 0;
        if (idle || (guest->status() & kStatusNeedsReset) != 0) break;
        thread.settle();
      }
      if ((guest->status() & kStatusNeedsReset) != 0) break;
    }
    node->release();
    ASSERT_TRUE(guest->reset());
    queues.clear();
    ram.reset_allocator();
    ++rounds;
  }
  std::printf("%d rounds: %d reads, %d writes, %d discards, %d zeroes, %d flushes\n", rounds,
              node->reads.load(), node->writes.load(), node->discards.load(), node->zeroes.load(),
              node->flushes.load());
  // The test reaches the node, or it is worth nothing.
  EXPECT_GT(node->reads, 0);
  EXPECT_GT(node->writes, 0);
  EXPECT_GT(node->zeroes, 0);
  expect_alive();
}

}  // namespace
}  // namespace calf::virtio
