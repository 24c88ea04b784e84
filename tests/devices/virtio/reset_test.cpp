// Reset with requests in flight: the driver writes 0, polls, and until it reads 0 the device may
// still write to memory; afterwards never.
#include "tests/devices/virtio/blk_fixture.h"

namespace calf::virtio {
namespace {

class ResetTest : public BlkFixture {
 protected:
  // `count` reads that wait inside the node.
  void hold_reads(int count) {
    node->hold();
    for (int i = 0; i < count; ++i) {
      requests.push_back(allocate_request(BlkType::kRead, 0, 512));
      ASSERT_TRUE(add(requests.back(), true));
    }
    publish_and_kick();
    while (node->waiting < count)
      std::this_thread::yield();
  }
  std::vector<Request> requests;
};

TEST_F(ResetTest, WaitsForWhatIsInFlightWithoutBlockingTheDriver) {
  make_disk();
  start(kAllBlkFeatures);
  hold_reads(10);
  guest->set_status(0);  // returns at once
  thread.settle();
  EXPECT_NE(guest->status(), 0);
  // Nothing else the driver writes meanwhile has an effect.
  guest->set_status(kStatusAcknowledge);
  guest->set_common(offsetof(CommonConfig, queue_select), 2, 3);
  guest->set_status(0);
  EXPECT_NE(guest->status(), 0);
  node->release();
  while (guest->status() != 0)
    std::this_thread::yield();
  EXPECT_EQ(guest->common(offsetof(CommonConfig, queue_select), 2), 0u);
  EXPECT_EQ(guest->common(offsetof(CommonConfig, queue_enable), 2), 0u);
  // Memory belongs to the driver again.
  std::vector<uint8_t> before = ram.copy(0, ram.size());
  std::fill(node->bytes().begin(), node->bytes().end(), uint8_t{0x99});
  guest->kick(0);
  thread.settle();
  thread.settle();
  EXPECT_EQ(ram.copy(0, ram.size()), before);
}

TEST_F(ResetTest, TheDeviceWorksAgainAfterwards) {
  make_disk();
  std::vector<uint8_t> data(512);
  for (int round = 0; round < 20; ++round) {
    start(kAllBlkFeatures | (round % 2 ? kFeatureEventIndex : 0));
    EXPECT_EQ(run(BlkType::kRead, 0, &data), kOk);
    hold_reads(3);
    guest->set_status(0);
    node->release();
    ASSERT_TRUE(guest->reset());
  }
}

TEST_F(ResetTest, StopWaits) {
  make_disk();
  start(kAllBlkFeatures);
  hold_reads(5);
  std::thread other([&] { node->release(); });
  transport->stop();
  EXPECT_EQ(node->waiting, 0);
  other.join();
  transport->stop();  // again is fine
  EXPECT_EQ(guest->status(), 0);
}

TEST_F(ResetTest, ResetRacesWithNewRequests) {
  make_disk();
  for (int round = 0; round < 50; ++round) {
    start(kAllBlkFeatures, 1, 32);
    for (int i = 0; i < 8; ++i) {
      Request r = allocate_request(BlkType::kRead, static_cast<uint64_t>(i), 512);
      add(r, true);
      publish_and_kick();
    }
    ASSERT_TRUE(guest->reset()) << round;
  }
}

}  // namespace
}  // namespace calf::virtio
