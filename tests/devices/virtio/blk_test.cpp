#include "devices/virtio/blk.h"

#include <algorithm>

#include "tests/devices/virtio/blk_fixture.h"

namespace calf::virtio {
namespace {

class BlkTest : public BlkFixture {};

TEST_F(BlkTest, ConfigurationSpace) {
  BlkOptions options;
  options.queues = 4;
  options.physical_block_size = 4096;
  block::Limits limits;
  limits.discard_granularity = 65536;
  make_disk(options, limits);
  auto field = [&](size_t offset, unsigned size) { return guest->read_device(offset, size); };
  EXPECT_EQ(field(offsetof(BlkConfig, capacity), 4), kDiskSize / 512);
  EXPECT_EQ(field(offsetof(BlkConfig, capacity) + 4, 4), 0u);
  EXPECT_EQ(field(offsetof(BlkConfig, seg_max), 4), 254u);
  EXPECT_GE(field(offsetof(BlkConfig, size_max), 4), 4096u);  // Linux refuses less
  EXPECT_EQ(field(offsetof(BlkConfig, blk_size), 4), 512u);
  EXPECT_EQ(field(offsetof(BlkConfig, physical_block_exp), 1), 3u);
  EXPECT_EQ(field(offsetof(BlkConfig, min_io_size), 2), 8u);
  EXPECT_EQ(field(offsetof(BlkConfig, num_queues), 2), 4u);
  EXPECT_EQ(field(offsetof(BlkConfig, writeback), 1), 1u);
  EXPECT_EQ(field(offsetof(BlkConfig, discard_sector_alignment), 4), 128u);
  EXPECT_EQ(field(offsetof(BlkConfig, write_zeroes_may_unmap), 1), 1u);
  EXPECT_EQ(field(sizeof(BlkConfig), 4), 0u);
  EXPECT_EQ(field(0xffc, 4), 0u);
  EXPECT_NE(guest->device_features() & kBlkFeatureMultiQueue, 0u);
  // Only the cache mode is writable.
  for (uint64_t offset = 0; offset < sizeof(BlkConfig); ++offset)
    guest->write_device(offset, 1, 0xff);
  EXPECT_EQ(field(offsetof(BlkConfig, capacity), 4), kDiskSize / 512);
  EXPECT_EQ(field(offsetof(BlkConfig, writeback), 1), 1u);
}

TEST_F(BlkTest, OptionsAreChecked) {
  node = std::make_unique<block::MemoryNode>(thread.executor(), kDiskSize);
  auto refused = [&](auto change) {
    BlkOptions options;
    change(options);
    return !Blk::create(thread.executor(), *node, std::move(options), log).ok();
  };
  EXPECT_FALSE(refused([](BlkOptions&) {}));
  EXPECT_TRUE(refused([](BlkOptions& o) { o.queues = 0; }));
  EXPECT_TRUE(refused([](BlkOptions& o) { o.queues = Blk::kMaxQueues + 1; }));
  EXPECT_TRUE(refused([](BlkOptions& o) { o.queue_size = 100; }));
  EXPECT_TRUE(refused([](BlkOptions& o) { o.serial = "123456789012345678901"; }));
  EXPECT_TRUE(refused([](BlkOptions& o) { o.logical_block_size = 1000; }));
  EXPECT_TRUE(refused([](BlkOptions& o) {
    o.logical_block_size = 4096;
    o.physical_block_size = 512;
  }));
}

TEST_F(BlkTest, ReadsAndWrites) {
  make_disk();
  start(kAllBlkFeatures);
  std::vector<uint8_t> data = pattern(64 * 1024, 1);
  EXPECT_EQ(run(BlkType::kWrite, 100, &data), kOk);
  EXPECT_EQ(written, 1u);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), node->bytes().begin() + 100 * 512));
  std::vector<uint8_t> back(64 * 1024);
  EXPECT_EQ(run(BlkType::kRead, 100, &back), kOk);
  EXPECT_EQ(written, back.size() + 1);
  EXPECT_EQ(back, data);
  EXPECT_EQ(node->fua_writes, 0);
}

TEST_F(BlkTest, ReadsAndWritesIndirectly) {
  make_disk();
  start(kAllBlkFeatures | kFeatureIndirectDescriptors | kFeatureEventIndex);
  std::vector<uint8_t> data = pattern(4096, 9);
  EXPECT_EQ(run(BlkType::kWrite, 8, &data, true), kOk);
  std::vector<uint8_t> back(4096);
  EXPECT_EQ(run(BlkType::kRead, 8, &back, true), kOk);
  EXPECT_EQ(back, data);
}

TEST_F(BlkTest, FlushAndIdentity) {
  BlkOptions options;
  options.serial = "overlay-1";
  make_disk(options);
  start(kAllBlkFeatures);
  EXPECT_EQ(run(BlkType::kFlush, 0), kOk);
  EXPECT_EQ(node->flushes, 1);
  std::vector<uint8_t> id(20, 0xff);
  EXPECT_EQ(run(BlkType::kGetId, 0, &id), kOk);
  EXPECT_EQ(std::string(id.begin(), id.begin() + 9), "overlay-1");
  EXPECT_TRUE(std::all_of(id.begin() + 9, id.end(), [](uint8_t b) { return b == 0; }));
  std::vector<uint8_t> little(4);
  EXPECT_EQ(run(BlkType::kGetId, 0, &little), kOk);
  EXPECT_EQ(little[3], 'r');
  EXPECT_EQ(written, 5u);
}

TEST_F(BlkTest, DiscardAndWriteZeroes) {
  make_disk();
  start(kAllBlkFeatures);
  std::fill(node->bytes().begin(), node->bytes().end(), uint8_t{0x55});
  EXPECT_EQ(run_segments(BlkType::kDiscard, {segment(0, 8), segment(16, 8)}), kOk);
  EXPECT_EQ(node->discards, 2);
  EXPECT_EQ(node->bytes()[0], 0);
  EXPECT_EQ(node->bytes()[8 * 512], 0x55);
  EXPECT_EQ(run_segments(BlkType::kWriteZeroes, {segment(100, 4)}), kOk);
  EXPECT_EQ(node->unmaps, 0);
  EXPECT_EQ(node->bytes()[100 * 512], 0);
  EXPECT_EQ(node->bytes()[104 * 512], 0x55);
  EXPECT_EQ(run_segments(BlkType::kWriteZeroes, {segment(200, 4, kBlkSegmentUnmap)}), kOk);
  EXPECT_EQ(node->unmaps, 1);
}

TEST_F(BlkTest, DiscardCanBeSwitchedOff) {
  BlkOptions options;
  options.discard = false;
  make_disk(options);
  EXPECT_EQ(guest->device_features() & kBlkFeatureDiscard, 0u);
  start(kAllBlkFeatures & ~kBlkFeatureDiscard);
  EXPECT_EQ(run_segments(BlkType::kDiscard, {segment(0, 8)}), kUnsupported);
  EXPECT_EQ(run_segments(BlkType::kWriteZeroes, {segment(0, 8, kBlkSegmentUnmap)}), kOk);
  EXPECT_EQ(node->unmaps, 0);
}

TEST_F(BlkTest, ReadOnlyDisksTakeNoWrites) {
  make_disk({}, {}, true);
  EXPECT_NE(guest->device_features() & kBlkFeatureReadOnly, 0u);
  start(kBlkFeatureReadOnly | kBlkFeatureFlush);
  std::vector<uint8_t> data(512);
  EXPECT_EQ(run(BlkType::kRead, 0, &data), kOk);
  EXPECT_EQ(run(BlkType::kWrite, 0, &data), kIoError);
  EXPECT_EQ(node->writes, 0);
}

TEST_F(BlkTest, TheNodesUnitIsThePhysicalBlock) {
  block::Limits limits;
  limits.write_unit = 4096;
  make_disk({}, limits);
  start(kAllBlkFeatures);
  EXPECT_EQ(guest->read_device(offsetof(BlkConfig, blk_size), 4), 512u);
  EXPECT_EQ(guest->read_device(offsetof(BlkConfig, physical_block_exp), 1), 3u);
  std::vector<uint8_t> data(512);
  EXPECT_EQ(run(BlkType::kRead, 1, &data), kOk);
}

TEST_F(BlkTest, WriteThroughByConfiguration) {
  make_disk();
  start(kAllBlkFeatures);
  std::vector<uint8_t> data(512);
  guest->write_device(offsetof(BlkConfig, writeback), 1, 0);
  EXPECT_EQ(guest->read_device(offsetof(BlkConfig, writeback), 1), 0u);
  EXPECT_EQ(run(BlkType::kWrite, 0, &data), kOk);
  EXPECT_EQ(node->fua_writes, 1);
  guest->write_device(offsetof(BlkConfig, writeback), 1, 1);
  EXPECT_EQ(run(BlkType::kWrite, 0, &data), kOk);
  EXPECT_EQ(node->fua_writes, 1);
}

TEST_F(BlkTest, WriteThroughForDriversThatCannotFlush) {
  make_disk();
  start(0);
  std::vector<uint8_t> data(512);
  EXPECT_EQ(run(BlkType::kWrite, 0, &data), kOk);
  EXPECT_EQ(node->fua_writes, 1);
}

TEST_F(BlkTest, ResizeIsAConfigurationChange) {
  make_disk();
  start(kAllBlkFeatures);
  uint64_t generation = guest->common(offsetof(CommonConfig, config_generation), 1);
  EXPECT_TRUE(thread.executor()
                  .run_blocking(node->truncate(kDiskSize * 2, block::Preallocation::kOff))
                  .ok());
  blk->resized();
  ASSERT_TRUE(msi.wait([](const auto& sent) { return sent.count({kMsiAddress, 0}) != 0; }));
  EXPECT_NE(guest->common(offsetof(CommonConfig, config_generation), 1), generation);
  EXPECT_EQ(guest->read_device(offsetof(BlkConfig, capacity), 4), 2 * kDiskSize / 512);
  std::vector<uint8_t> data(512);
  EXPECT_EQ(run(BlkType::kRead, 2 * kDiskSize / 512 - 1, &data), kOk);
}

TEST_F(BlkTest, AnyFraming) {
  make_disk();
  start(kAllBlkFeatures);
  node->bytes()[512] = 0x77;
  // The header in three pieces; data and status in one.
  Request r = allocate_request(BlkType::kRead, 1, 513);
  std::vector<VirtqueueDriver::Piece> pieces = {{r.header_at, 1, false},
                                                {r.header_at + 1, 7, false},
                                                {r.header_at + 8, 8, false},
                                                {r.data_at, 513, true}};
  ASSERT_TRUE(queues[0].add(pieces));
  publish_and_kick();
  auto used = next_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, 513u);
  EXPECT_EQ(*ram.at(r.data_at), 0x77);
  EXPECT_EQ(*ram.at(r.data_at + 512), kOk);
}

}  // namespace
}  // namespace calf::virtio
