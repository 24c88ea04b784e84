#include "devices/virtio/rng.h"

#include <algorithm>

#include "tests/devices/virtio/virtio_fixture.h"

namespace calf::virtio {
namespace {

class RngTest : public VirtioFixture {
 protected:
  ~RngTest() override {
    if (transport) transport->stop();
  }
  Rng rng{thread.executor()};
};

TEST_F(RngTest, FillsBuffers) {
  plug(rng);
  EXPECT_EQ(bridge->read_config({0, 1, 0}, 0, 4), 0x10441af4u);
  start(kFeatureEventIndex);
  uint64_t at = ram.allocate(256);
  ASSERT_TRUE(queues[0].add({{at, 256, true}}));
  publish_and_kick();
  auto used = next_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, 256u);
  auto bytes = ram.copy(at, 256);
  // 256 equal bytes: once in 2^2040.
  EXPECT_TRUE(std::any_of(bytes.begin(), bytes.end(), [&](uint8_t b) { return b != bytes[0]; }));
}

TEST_F(RngTest, GivesNoMoreThanItsLimit) {
  plug(rng);
  start(0);
  uint64_t at = ram.allocate(65536);
  ASSERT_TRUE(queues[0].add({{at, 3, true}, {at + 3, 60000, true}}));
  publish_and_kick();
  auto used = next_used();
  ASSERT_TRUE(used);
  EXPECT_LE(used->written, Rng::kMaxBytes);
  EXPECT_GT(used->written, 0u);
}

TEST_F(RngTest, NothingToFillIsNothingFilled) {
  plug(rng);
  start(0);
  uint64_t at = ram.allocate(16);
  ASSERT_TRUE(queues[0].add({{at, 16, false}}));
  publish_and_kick();
  auto used = next_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, 0u);
}

}  // namespace
}  // namespace calf::virtio
