// Many requests at once: several queues, full rings, batches.
#include <cstring>
#include <random>

#include "tests/devices/virtio/blk_fixture.h"

namespace calf::virtio {
namespace {

class BlkQueuesTest : public BlkFixture {};

TEST_F(BlkQueuesTest, EveryQueueWorksAndInterruptsByItsVector) {
  BlkOptions options;
  options.queues = 4;
  make_disk(options);
  start(kAllBlkFeatures | kBlkFeatureMultiQueue | kFeatureEventIndex, 4);
  for (uint16_t q = 0; q < 4; ++q) {
    std::vector<uint8_t> data = pattern(4096, static_cast<uint8_t>(q));
    EXPECT_EQ(run(BlkType::kWrite, 64u * q, &data, false, q), kOk);
    std::vector<uint8_t> back(4096);
    EXPECT_EQ(run(BlkType::kRead, 64u * q, &back, false, static_cast<uint16_t>(3 - q)), kOk);
    EXPECT_EQ(back, data);
  }
  thread.settle();
  for (uint32_t vector = 1; vector <= 4; ++vector)
    EXPECT_GE(msi.count(kMsiAddress, vector), 1);
}

TEST_F(BlkQueuesTest, QueuesThatAreNotEnabledAreLeftAlone) {
  BlkOptions options;
  options.queues = 4;
  make_disk(options);
  start(kAllBlkFeatures | kBlkFeatureMultiQueue, 2);
  guest->kick(3);
  std::vector<uint8_t> data(512);
  EXPECT_EQ(run(BlkType::kRead, 0, &data, false, 1), kOk);
}

TEST_F(BlkQueuesTest, ABatchCostsOneInterrupt) {
  make_disk();
  for (uint64_t extra : {uint64_t{0}, kFeatureEventIndex}) {
    start(kAllBlkFeatures | extra, 1, 256);
    node->hold();
    for (int i = 0; i < 64; ++i) {
      Request r = allocate_request(BlkType::kRead, 0, 512);
      ASSERT_TRUE(add(r, true));
    }
    queues[0].enable_interrupts();
    int before = msi.total();
    publish_and_kick();
    while (node->waiting < 64)
      std::this_thread::yield();
    node->release();
    for (int i = 0; i < 64; ++i)
      ASSERT_TRUE(next_used());
    thread.settle();
    EXPECT_EQ(msi.total() - before, 1) << extra;
  }
}

TEST_F(BlkQueuesTest, TheFirstAnswersDoNotWaitForTheLastRequests) {
  make_disk();
  start(kAllBlkFeatures, 1, 256);
  for (int i = 0; i < 64; ++i) {
    Request r = allocate_request(BlkType::kRead, 0, 512);
    ASSERT_TRUE(add(r, true));
  }
  queues[0].enable_interrupts();
  const int before = msi.total();
  publish_and_kick();
  for (int i = 0; i < 64; ++i)
    ASSERT_TRUE(next_used());
  thread.settle();
  // One interrupt for each part of the ring.
  EXPECT_EQ(msi.total() - before, 6);
}

TEST_F(BlkQueuesTest, RingsStayFullThroughWrapAround) {
  // More than 65536 requests through a small ring: both indices wrap, with event index on.
  make_disk();
  start(kAllBlkFeatures | kFeatureEventIndex | kFeatureIndirectDescriptors, 1, 64);
  struct Slot {
    Request request;
    uint32_t sector;
  };
  // Memory is set up once per slot; each round changes the sector.
  std::vector<Slot> slots;
  std::vector<std::optional<uint16_t>> slot_of_head(64);
  for (uint32_t i = 0; i < 21; ++i) {
    slots.push_back({allocate_request(BlkType::kRead, 0, 512), 0});
  }
  for (size_t sector = 0; sector < 1024; ++sector)
    node->bytes()[sector * 512] = static_cast<uint8_t>(sector * 13 + 5);
  std::mt19937 random(1);
  std::vector<uint16_t> idle;
  for (uint16_t i = 0; i < slots.size(); ++i)
    idle.push_back(i);
  int done = 0;
  constexpr int kTotal = 70000;
  int submitted = 0;
  while (done < kTotal) {
    while (!idle.empty() && submitted < kTotal) {
      uint16_t index = idle.back();
      idle.pop_back();
      Slot& slot = slots[index];
      slot.sector = static_cast<uint32_t>(random() % 1024);
      BlkRequestHeader header;
      header.sector = slot.sector;
      std::memcpy(ram.at(slot.request.header_at), &header, sizeof header);
      auto head = add(slot.request, true);
      ASSERT_TRUE(head);
      slot_of_head[*head] = index;
      ++submitted;
    }
    publish_and_kick();
    auto used = next_used();
    ASSERT_TRUE(used) << "lost after " << done;
    do {
      uint16_t index = slot_of_head[used->head].value();
      ASSERT_EQ(*ram.at(slots[index].request.status_at), kOk);
      ASSERT_EQ(*ram.at(slots[index].request.data_at),
                static_cast<uint8_t>(slots[index].sector * 13 + 5));
      idle.push_back(index);
      ++done;
      used = queues[0].collect();
    } while (used);
  }
}

TEST_F(BlkQueuesTest, AFullRingGoesOn) {
  // As many requests in flight as the ring has entries: kicks are suppressed then, and the device
  // must come back by itself when one has ended.
  make_disk();
  for (uint64_t extra : {uint64_t{0}, kFeatureEventIndex}) {
    start(kAllBlkFeatures | kFeatureIndirectDescriptors | extra, 1, 8);
    node->hold();
    for (int i = 0; i < 8; ++i) {
      Request r = allocate_request(BlkType::kRead, 0, 512);
      ASSERT_TRUE(add(r, true, 0, true));
    }
    publish_and_kick();
    while (node->waiting < 8)
      std::this_thread::yield();
    thread.settle();
    node->release();
    for (int i = 0; i < 100; ++i) {
      ASSERT_TRUE(next_used()) << i;
      Request r = allocate_request(BlkType::kRead, 0, 512);
      ASSERT_TRUE(add(r, true, 0, true));
      publish_and_kick();
    }
  }
}

TEST_F(BlkQueuesTest, BuffersOfferedTwiceAreBounded) {
  make_disk();
  start(kAllBlkFeatures, 1, 8);
  node->hold();
  Request r = allocate_request(BlkType::kRead, 0, 512);
  auto head = add(r, true);
  publish_and_kick();
  // The driver offers the same chain over and over without waiting for it.
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 7; ++i)
      queues[0].offer_raw(*head);
    publish_and_kick();
    thread.settle();
    thread.settle();
    EXPECT_LE(node->waiting, 8);
  }
  node->release();
  EXPECT_TRUE(guest->reset());
}

}  // namespace
}  // namespace calf::virtio
