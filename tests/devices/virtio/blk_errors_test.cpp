// What fails: the driver's requests, the node below, the driver itself.
#include <condition_variable>
#include <cstring>
#include <mutex>

#include "tests/devices/virtio/blk_fixture.h"

namespace calf::virtio {
namespace {

class BlkErrorsTest : public BlkFixture {
 protected:
  // The VMM's hand: notes that a request wants the machine stopped.
  std::function<void(const Error&)> stopper() {
    return [this](const Error& error) {
      std::lock_guard lock(mutex_);
      ++stops_;
      kind_ = error.kind();
      changed_.notify_all();
    };
  }
  bool wait_for_stop(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return stops_ >= count; });
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  int stops_ = 0;
  ErrorKind kind_{};
};

TEST_F(BlkErrorsTest, BadRequestsGetAStatus) {
  make_disk();
  start(kAllBlkFeatures);
  std::vector<uint8_t> data(512);
  EXPECT_EQ(run(BlkType::kRead, kDiskSize / 512, &data), kIoError);
  EXPECT_EQ(run(BlkType::kWrite, UINT64_MAX, &data), kIoError);
  EXPECT_EQ(run(static_cast<BlkType>(77), 0, &data), kUnsupported);
  EXPECT_EQ(run_segments(BlkType::kDiscard, {segment(kDiskSize / 512, 1)}), kIoError);
  EXPECT_EQ(run(BlkType::kRead, 0, &data), kOk);
  EXPECT_EQ(guest->status() & kStatusNeedsReset, 0);
}

TEST_F(BlkErrorsTest, HostErrorsAreReported) {
  make_disk();
  start(kAllBlkFeatures);
  node->fail_with([](const char*) { return Error::from_errno(EIO); });
  std::vector<uint8_t> data(512);
  EXPECT_EQ(run(BlkType::kRead, 0, &data), kIoError);
  EXPECT_EQ(written, 1u);
  EXPECT_EQ(run(BlkType::kWrite, 0, &data), kIoError);
  EXPECT_EQ(run(BlkType::kFlush, 0), kIoError);
  EXPECT_EQ(run_segments(BlkType::kDiscard, {segment(0, 1)}), kIoError);
  node->fail_with(nullptr);
  EXPECT_EQ(run(BlkType::kRead, 0, &data), kOk);
}

TEST_F(BlkErrorsTest, IgnoredErrorsLookLikeSuccess) {
  BlkOptions options;
  options.on_write_error = ErrorPolicy::kIgnore;
  make_disk(options);
  start(kAllBlkFeatures);
  node->fail_with([](const char*) { return Error::from_errno(EIO); });
  std::vector<uint8_t> data(512);
  EXPECT_EQ(run(BlkType::kWrite, 0, &data), kOk);
  EXPECT_EQ(run(BlkType::kRead, 0, &data), kIoError);
}

TEST_F(BlkErrorsTest, AFullHostDiskStopsTheMachine) {
  BlkOptions options;  // "enospc" is what writes do if nobody says otherwise
  options.on_stop = stopper();
  make_disk(options);
  start(kAllBlkFeatures);
  std::atomic<bool> full = true;
  node->fail_with([&](const char* operation) -> std::optional<Error> {
    if (full && std::string(operation) == "write") return Error::from_errno(ENOSPC);
    return std::nullopt;
  });
  std::vector<uint8_t> data = pattern(512, 3);
  Request r = allocate_request(BlkType::kWrite, 0, 512);
  std::memcpy(ram.at(r.data_at), data.data(), 512);
  add(r, false);
  publish_and_kick();
  ASSERT_TRUE(wait_for_stop(1));
  EXPECT_EQ(kind_, ErrorKind::kNoSpace);
  EXPECT_FALSE(queues[0].collect());
  blk->retry_stopped();  // still full
  ASSERT_TRUE(wait_for_stop(2));
  full = false;
  blk->retry_stopped();
  ASSERT_TRUE(next_used());
  EXPECT_EQ(*ram.at(r.status_at), kOk);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), node->bytes().begin()));
  // Other errors are the driver's.
  node->fail_with([](const char*) { return Error::from_errno(EIO); });
  EXPECT_EQ(run(BlkType::kWrite, 0, &data), kIoError);
}

TEST_F(BlkErrorsTest, AResetLetsGoOfStoppedRequests) {
  BlkOptions options;
  options.on_read_error = ErrorPolicy::kStop;
  options.on_stop = stopper();
  make_disk(options);
  start(kAllBlkFeatures);
  node->fail_with([](const char*) { return Error::from_errno(EIO); });
  Request r = allocate_request(BlkType::kRead, 0, 512);
  add(r, true);
  publish_and_kick();
  ASSERT_TRUE(wait_for_stop(1));
  EXPECT_TRUE(guest->reset());
}

TEST_F(BlkErrorsTest, PoliciesHaveNames) {
  EXPECT_EQ(*parse_error_policy("report"), ErrorPolicy::kReport);
  EXPECT_EQ(*parse_error_policy("ignore"), ErrorPolicy::kIgnore);
  EXPECT_EQ(*parse_error_policy("stop"), ErrorPolicy::kStop);
  EXPECT_EQ(*parse_error_policy("enospc"), ErrorPolicy::kNoSpace);
  EXPECT_FALSE(parse_error_policy("panic").ok());
}

TEST_F(BlkErrorsTest, ABrokenQueueNeedsAReset) {
  BlkOptions options;
  options.queues = 2;
  make_disk(options);
  start(kAllBlkFeatures | kBlkFeatureMultiQueue, 2);
  queues[0].offer_raw(4711);
  publish_and_kick(0);
  ASSERT_TRUE(wait_for_needs_reset());
  // The other queue's requests still end, the machine lives, and a reset heals.
  std::vector<uint8_t> data(512);
  EXPECT_EQ(run(BlkType::kRead, 0, &data, false, 1), kOk);
  start(kAllBlkFeatures | kBlkFeatureMultiQueue, 2);
  EXPECT_EQ(guest->status() & kStatusNeedsReset, 0);
  EXPECT_EQ(run(BlkType::kRead, 0, &data, false, 0), kOk);
}

TEST_F(BlkErrorsTest, ARequestWithoutStatusCannotBeAnswered) {
  make_disk();
  start(kAllBlkFeatures);
  Request r = allocate_request(BlkType::kRead, 0, 0);
  queues[0].add({{r.header_at, 16, false}});
  publish_and_kick();
  EXPECT_TRUE(wait_for_needs_reset());
}

TEST_F(BlkErrorsTest, RingsInTheWrongPlaceNeedAReset) {
  make_disk();
  ASSERT_TRUE(guest->negotiate(kFeatureVersion1));
  guest->enable_msix(true);
  guest->program_vector(0, kMsiAddress, 0);
  guest->set_common(offsetof(CommonConfig, config_vector), 2, 0);
  queues.emplace_back(ram, 8, false);
  guest->set_up_queue(0, queues[0], 1);
  guest->set_driver_ok();
  guest->reset();
  guest->negotiate(kFeatureVersion1);
  guest->set_common(offsetof(CommonConfig, config_vector), 2, 0);
  guest->set_common(offsetof(CommonConfig, queue_used), 8, 0xfee00000);
  guest->set_common(offsetof(CommonConfig, queue_enable), 2, 1);
  guest->set_driver_ok();
  EXPECT_TRUE(wait_for_needs_reset());
}

}  // namespace
}  // namespace calf::virtio
