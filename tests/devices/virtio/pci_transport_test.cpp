#include "devices/virtio/pci_transport.h"

#include "tests/devices/virtio/blk_fixture.h"

namespace calf::virtio {
namespace {

class PciTransportTest : public BlkFixture {
 protected:
  uint32_t config(unsigned offset, unsigned size) {
    return bridge->read_config({0, 1, 0}, offset, size);
  }
  void set_config(unsigned offset, unsigned size, uint32_t value) {
    bridge->write_config({0, 1, 0}, offset, size, value);
  }
};

TEST_F(PciTransportTest, IsAModernDevice) {
  make_disk();
  EXPECT_EQ(config(0, 4), 0x10421af4u);
  EXPECT_GE(config(pci::kRegRevision, 1), 1u);
  EXPECT_TRUE(guest->has(kPciCapCommon));
  EXPECT_TRUE(guest->has(kPciCapNotify));
  EXPECT_TRUE(guest->has(kPciCapIsr));
  EXPECT_TRUE(guest->has(kPciCapDevice));
  EXPECT_TRUE(guest->has(kPciCapPciCfg));
  EXPECT_EQ(guest->common(offsetof(CommonConfig, queue_count), 2), 1u);
  EXPECT_EQ(guest->common(offsetof(CommonConfig, queue_size), 2), 256u);
  EXPECT_EQ(guest->status(), 0);
}

TEST_F(PciTransportTest, FeaturesAreNegotiated) {
  make_disk();
  uint64_t offered = guest->device_features();
  EXPECT_EQ(offered,
            kAllBlkFeatures | kFeatureVersion1 | kFeatureEventIndex | kFeatureIndirectDescriptors);
  guest->set_common(offsetof(CommonConfig, device_feature_select), 4, 2);
  EXPECT_EQ(guest->common(offsetof(CommonConfig, device_feature), 4), 0u);
  EXPECT_TRUE(guest->negotiate(offered));
  EXPECT_FALSE(guest->negotiate(kBlkFeatureFlush));                        // no VERSION_1
  EXPECT_FALSE(guest->negotiate(kFeatureVersion1 | kBlkFeatureReadOnly));  // not offered
  EXPECT_FALSE(guest->negotiate(kFeatureVersion1 | feature_bit(63)));
  // What was refused cannot be used.
  guest->set_driver_ok();
  EXPECT_EQ(guest->status() & (kStatusDriverOk | kStatusFeaturesOk), 0);
  EXPECT_TRUE(guest->negotiate(kFeatureVersion1));
}

TEST_F(PciTransportTest, QueueRegisters) {
  BlkOptions options;
  options.queues = 2;
  options.queue_size = 128;
  make_disk(options);
  ASSERT_TRUE(guest->negotiate(kFeatureVersion1));
  auto set = [&](size_t field, uint64_t value) { guest->set_common(field, 2, value); };
  auto get = [&](size_t field) { return guest->common(field, 2); };
  set(offsetof(CommonConfig, queue_select), 1);
  EXPECT_EQ(get(offsetof(CommonConfig, queue_size)), 128u);
  set(offsetof(CommonConfig, queue_size), 32);
  EXPECT_EQ(get(offsetof(CommonConfig, queue_size)), 32u);
  set(offsetof(CommonConfig, queue_size), 256);  // more than offered
  EXPECT_EQ(get(offsetof(CommonConfig, queue_size)), 32u);
  set(offsetof(CommonConfig, queue_vector), 2);
  EXPECT_EQ(get(offsetof(CommonConfig, queue_vector)), 2u);
  set(offsetof(CommonConfig, queue_vector), 3);  // three vectors: 0, 1, 2
  EXPECT_EQ(get(offsetof(CommonConfig, queue_vector)), kNoVector);
  set(offsetof(CommonConfig, queue_enable), 1);
  set(offsetof(CommonConfig, queue_size), 16);  // fixed now
  EXPECT_EQ(get(offsetof(CommonConfig, queue_size)), 32u);
  set(offsetof(CommonConfig, queue_select), 2);  // there is none
  EXPECT_EQ(get(offsetof(CommonConfig, queue_size)), 0u);
  set(offsetof(CommonConfig, queue_enable), 1);
  EXPECT_EQ(get(offsetof(CommonConfig, queue_enable)), 0u);
}

TEST_F(PciTransportTest, ConfigurationAccessThroughPciSpace) {
  make_disk();
  unsigned cap = guest->cfg_capability();
  auto select = [&](uint32_t offset, uint32_t length) {
    set_config(cap + kPciCfgBar, 1, 0);
    set_config(cap + kPciCfgOffset, 4, offset);
    set_config(cap + kPciCfgLength, 4, length);
  };
  select(0x2000, 4);  // capacity
  EXPECT_EQ(config(cap + kPciCfgData, 4), kDiskSize / 512);
  select(offsetof(CommonConfig, status), 1);
  set_config(cap + kPciCfgData, 1, kStatusAcknowledge);
  EXPECT_EQ(guest->status(), kStatusAcknowledge);
  EXPECT_EQ(config(cap + kPciCfgData, 1), kStatusAcknowledge);
  // What does not exist is not reached.
  for (auto [offset, length] : {std::pair{0x8000u, 4u}, {0xfffffffcu, 4u}, {2u, 4u}, {0u, 3u}}) {
    select(offset, length);
    set_config(cap + kPciCfgData, 4, 0xffffffff);
    (void)config(cap + kPciCfgData, 4);
  }
  set_config(cap + kPciCfgBar, 1, 4);
  set_config(cap + kPciCfgData, 4, 0);
  EXPECT_EQ(guest->status(), kStatusAcknowledge);
}

TEST_F(PciTransportTest, DoorbellsFollowTheBar) {
  make_disk();
  start(kAllBlkFeatures);
  std::vector<uint8_t> data(512);
  EXPECT_TRUE(doorbells.attached().empty()) << "before anybody rings one";
  EXPECT_EQ(run(BlkType::kRead, 0, &data), kOk);
  EXPECT_EQ(doorbells.attached().size(), 1u);
  guest->move_bar(0xd0000000);
  EXPECT_EQ(guest->bar(), 0xd0000000u);
  EXPECT_EQ(run(BlkType::kRead, 0, &data), kOk);
  guest->move_bar(kWindow64.offset + 0x10000);
  EXPECT_EQ(std::get<0>(*doorbells.attached().begin()) >> 12, (kWindow64.offset + 0x13000) >> 12);
  EXPECT_EQ(run(BlkType::kRead, 0, &data), kOk);
}

TEST_F(PciTransportTest, KicksWorkAsExitsToo) {
  doorbells.refuse(true);
  make_disk();
  start(kAllBlkFeatures);
  EXPECT_TRUE(doorbells.attached().empty());
  std::vector<uint8_t> data(512);
  EXPECT_EQ(run(BlkType::kRead, 0, &data), kOk);
}

TEST_F(PciTransportTest, MaskedVectorsAreDeliveredLater) {
  make_disk();
  start(kAllBlkFeatures);
  guest->mask_vector(1, true);
  Request r = allocate_request(BlkType::kFlush, 0, 0);
  add(r, false);
  publish_and_kick();
  while (!queues[0].collect())
    std::this_thread::yield();
  thread.settle();
  EXPECT_TRUE(guest->vector_pending(1));
  EXPECT_EQ(msi.total(), 0);
  guest->mask_vector(1, false);
  EXPECT_EQ(msi.count(kMsiAddress, 1), 1);
  EXPECT_FALSE(guest->vector_pending(1));
}

TEST_F(PciTransportTest, InterruptPinForGuestsWithoutMessages) {
  make_disk();
  ASSERT_TRUE(guest->negotiate(kFeatureVersion1));
  queues.emplace_back(ram, 8, false);
  guest->set_up_queue(0, queues[0], kNoVector);
  guest->set_driver_ok();
  Request r = allocate_request(BlkType::kFlush, 0, 0);
  add(r, false);
  publish_and_kick();
  while (!queues[0].collect())
    std::this_thread::yield();
  thread.settle();
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(guest->read_isr(), kIsrQueue);
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(guest->read_isr(), 0);
  blk->resized();
  thread.settle();
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(guest->read_isr(), kIsrConfig);
}

TEST_F(PciTransportTest, VectorlessQueuesStaySilent) {
  make_disk();
  ASSERT_TRUE(guest->negotiate(kFeatureVersion1));
  guest->enable_msix(true);
  queues.emplace_back(ram, 8, false);
  guest->set_up_queue(0, queues[0], kNoVector);
  guest->set_driver_ok();
  Request r = allocate_request(BlkType::kFlush, 0, 0);
  add(r, false);
  publish_and_kick();
  while (!queues[0].collect())
    std::this_thread::yield();
  thread.settle();
  EXPECT_EQ(msi.total(), 0);
  EXPECT_FALSE(irq.level());
}

TEST_F(PciTransportTest, AMachineResetStopsTheDevice) {
  make_disk();
  start(kAllBlkFeatures);
  std::vector<uint8_t> data(512);
  EXPECT_EQ(run(BlkType::kRead, 0, &data), kOk);
  guest->move_bar(0xd0000000);
  ASSERT_TRUE(bridge->reset().ok());
  EXPECT_EQ(guest->status(), 0);
  EXPECT_EQ(guest->bar(), 0xc0000000u);
  start(kAllBlkFeatures);
  EXPECT_EQ(run(BlkType::kRead, 0, &data), kOk);
}

}  // namespace
}  // namespace calf::virtio
