#include "devices/virtio/queue.h"

#include <gtest/gtest.h>

#include "tests/support/virtqueue_driver.h"

namespace calf::virtio {
namespace {

using devices::FakeRam;
using devices::Gpa;

class QueueTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kBoth = kFeatureEventIndex | kFeatureIndirectDescriptors;

  void make(uint16_t size = 8, uint64_t features = kFeatureIndirectDescriptors) {
    driver.emplace(ram, size, (features & kFeatureEventIndex) != 0);
    queue.emplace(std::move(*Queue::create(ram.memory(), setup(), features)));
    data = ram.allocate(65536, 4096);
  }
  QueueSetup setup() {
    QueueSetup s;
    s.size = driver->size();
    s.descriptors = Gpa{driver->descriptors()};
    s.available = Gpa{driver->available()};
    s.used = Gpa{driver->used()};
    return s;
  }
  Chain pop_one() {
    Result<std::optional<Chain>> chain = queue->pop();
    EXPECT_TRUE(chain.ok()) << chain.error().message();
    EXPECT_TRUE(chain->has_value());
    return chain.ok() && chain->has_value() ? std::move(**chain) : Chain();
  }
  bool pop_fails() {
    driver->publish();
    return !queue->pop().ok();
  }

  FakeRam ram;
  std::optional<VirtqueueDriver> driver;
  std::optional<Queue> queue;
  uint64_t data = 0;
};

TEST_F(QueueTest, AChainIsTranslated) {
  make();
  EXPECT_FALSE((*queue->pop()).has_value());
  auto head = driver->add({{data, 16, false}, {data + 64, 100, false}, {data + 4096, 512, true}});
  EXPECT_FALSE((*queue->pop()).has_value());  // not visible before the index moves
  driver->publish();
  Chain chain = pop_one();
  EXPECT_EQ(chain.head, *head);
  EXPECT_EQ(chain.readable_bytes, 116u);
  EXPECT_EQ(chain.writable_bytes, 512u);
  ASSERT_EQ(chain.iovecs.size(), 3u);
  EXPECT_EQ(chain.readable_iovecs, 2u);
  EXPECT_EQ(chain.iovecs[1].iov_base, ram.at(data + 64));
  EXPECT_EQ(chain.writable().size(), 512u);
  EXPECT_FALSE((*queue->pop()).has_value());
}

TEST_F(QueueTest, IndirectTables) {
  make();
  driver->add({{data, 16, false}, {data + 64, 100, true}, {data + 4096, 512, true}}, true);
  driver->publish();
  Chain chain = pop_one();
  EXPECT_EQ(chain.readable_bytes, 16u);
  EXPECT_EQ(chain.writable_bytes, 612u);
}

TEST_F(QueueTest, IndirectTablesMayBeLongerThanTheRing) {
  make();
  std::vector<VirtqueueDriver::Piece> pieces(256, {data, 16, true});
  driver->add(pieces, true);
  driver->publish();
  EXPECT_EQ(pop_one().iovecs.size(), 256u);
  pieces.resize(Queue::kMaxChainDescriptors + 1, {data, 16, true});
  driver->add(pieces, true);
  EXPECT_TRUE(pop_fails());
}

TEST_F(QueueTest, IndirectTablesAreRefusedWhenNotNegotiated) {
  make(8, 0);
  driver->add({{data, 16, false}}, true);
  EXPECT_TRUE(pop_fails());
}

TEST_F(QueueTest, EmptyDescriptorsAreHarmless) {
  make();
  driver->add({{data, 16, false}, {0, 0, false}, {UINT64_MAX, 0, true}, {data, 1, true}});
  driver->publish();
  Chain chain = pop_one();
  EXPECT_EQ(chain.iovecs.size(), 2u);
}

TEST_F(QueueTest, IndicesWrapAround) {
  for (uint64_t features : {uint64_t{0}, kBoth}) {
    make(8, features);
    for (int i = 0; i < 70000; ++i) {
      auto head = driver->add({{data, 16, false}});
      ASSERT_TRUE(head);
      driver->publish();
      ASSERT_EQ(pop_one().head, *head);
      queue->push(*head, static_cast<uint32_t>(i));
      queue->publish();
      auto used = driver->collect();
      ASSERT_TRUE(used);
      ASSERT_EQ(used->written, static_cast<uint32_t>(i));
    }
  }
}

TEST_F(QueueTest, UsedElementsShowOnlyWhenPublished) {
  make();
  for (int i = 0; i < 3; ++i)
    driver->add({{data, 16, true}});
  driver->publish();
  for (int i = 0; i < 3; ++i) {
    Chain chain = pop_one();
    queue->push(chain.head, 16);
  }
  EXPECT_EQ(driver->used_index(), 0);
  EXPECT_TRUE(queue->publish());
  EXPECT_EQ(driver->used_index(), 3);
  EXPECT_FALSE(queue->publish());  // nothing new, no interrupt
}

TEST_F(QueueTest, TheDriverMaySuppressInterrupts) {
  make();
  driver->disable_interrupts();
  queue->push(0, 0);
  EXPECT_FALSE(queue->publish());
  driver->enable_interrupts();
  queue->push(0, 0);
  EXPECT_TRUE(queue->publish());
}

TEST_F(QueueTest, EventIndexInterruptsWhereItIsAsked) {
  make(8, kBoth);
  driver->enable_interrupts(2);  // at the third
  queue->push(0, 0);
  EXPECT_FALSE(queue->publish());
  queue->push(0, 0);
  EXPECT_FALSE(queue->publish());
  queue->push(0, 0);
  queue->push(0, 0);
  EXPECT_TRUE(queue->publish());  // passed inside the batch
  queue->push(0, 0);
  EXPECT_FALSE(queue->publish());
}

TEST_F(QueueTest, KicksAreSuppressedWhileProcessing) {
  for (uint64_t features : {uint64_t{0}, kBoth}) {
    make(8, features);
    driver->add({{data, 16, true}});
    EXPECT_TRUE(driver->publish());  // the first one kicks
    queue->suppress_kicks();
    pop_one();
    driver->add({{data, 16, true}});
    EXPECT_FALSE(driver->publish());
    EXPECT_TRUE(queue->allow_kicks());  // and is not lost
    pop_one();
    EXPECT_FALSE(queue->allow_kicks());
    driver->add({{data, 16, true}});
    EXPECT_TRUE(driver->publish());
  }
}

// ---- What a driver must not do ----

TEST_F(QueueTest, RingsOutsideOfRamOrMisaligned) {
  make();
  auto create = [&](auto change) {
    QueueSetup s = setup();
    change(s);
    return Queue::create(ram.memory(), s, 0).ok();
  };
  EXPECT_TRUE(create([](QueueSetup&) {}));
  EXPECT_FALSE(create([](QueueSetup& s) { s.size = 0; }));
  EXPECT_FALSE(create([](QueueSetup& s) { s.size = 24; }));
  EXPECT_FALSE(create([](QueueSetup& s) { s.size = 65535; }));
  EXPECT_FALSE(create([](QueueSetup& s) { s.descriptors = s.descriptors + 8; }));
  EXPECT_FALSE(create([](QueueSetup& s) { s.available = s.available + 1; }));
  EXPECT_FALSE(create([](QueueSetup& s) { s.used = s.used + 2; }));
  EXPECT_FALSE(create([](QueueSetup& s) { s.used = Gpa{UINT64_MAX - 3}; }));
  EXPECT_FALSE(create([&](QueueSetup& s) { s.available = Gpa{ram.size() - 8}; }));
  EXPECT_FALSE(create([](QueueSetup& s) { s.used = Gpa{FakeRam::kRomStart}; }));
  EXPECT_TRUE(create([](QueueSetup& s) { s.available = Gpa{FakeRam::kRomStart}; }));
}

TEST_F(QueueTest, AnAvailableIndexThatRanAhead) {
  make();
  driver->set_available_index(9);
  EXPECT_FALSE(queue->pop().ok());
}

TEST_F(QueueTest, AHeadOutsideTheTable) {
  make();
  driver->offer_raw(8);
  EXPECT_TRUE(pop_fails());
}

TEST_F(QueueTest, LoopsOfDescriptors) {
  make();
  driver->write_descriptor(0, data, 16, kDescriptorNext, 1);
  driver->write_descriptor(1, data, 16, kDescriptorNext, 0);
  driver->offer_raw(0);
  EXPECT_TRUE(pop_fails());
  make();
  driver->write_descriptor(3, data, 16, kDescriptorNext, 3);
  driver->offer_raw(3);
  EXPECT_TRUE(pop_fails());
}

TEST_F(QueueTest, ANextOutsideTheTable) {
  make();
  driver->write_descriptor(0, data, 16, kDescriptorNext, 8);
  driver->offer_raw(0);
  EXPECT_TRUE(pop_fails());
}

TEST_F(QueueTest, BadIndirectTables) {
  uint64_t table = ram.allocate(4096);
  auto fails = [&](uint64_t at, uint32_t length, uint16_t extra_flags = 0) {
    make();
    driver->write_descriptor(0, at, length, kDescriptorIndirect | extra_flags, 1);
    driver->write_descriptor(1, data, 16, 0, 0);
    driver->offer_raw(0);
    return pop_fails();
  };
  VirtqueueDriver scratch(ram, 8, false);
  scratch.write_descriptor_at(table, 0, 4096, 16, 0, 0);
  EXPECT_FALSE(fails(table, 16));
  EXPECT_TRUE(fails(table, 0));
  EXPECT_TRUE(fails(table, 24));
  EXPECT_TRUE(fails(table, 0xfffffff0));
  EXPECT_TRUE(fails(table, 16, kDescriptorNext));
  EXPECT_TRUE(fails(ram.size() - 8, 16));
  EXPECT_TRUE(fails(UINT64_MAX - 7, 16));
  scratch.write_descriptor_at(table, 0, 4096, 16, kDescriptorNext, 2);  // leaves the table
  EXPECT_TRUE(fails(table, 32));
  scratch.write_descriptor_at(table, 0, 4096, 16, kDescriptorNext, 0);  // loops
  EXPECT_TRUE(fails(table, 32));
  scratch.write_descriptor_at(table, 0, table, 16, kDescriptorIndirect, 0);  // nested
  EXPECT_TRUE(fails(table, 16));
}

TEST_F(QueueTest, AnIndirectTableInTheMiddleOfAChain) {
  make();
  driver->write_descriptor(0, data, 16, kDescriptorNext, 1);
  driver->write_descriptor(1, data, 16, kDescriptorIndirect, 0);
  driver->offer_raw(0);
  EXPECT_TRUE(pop_fails());
}

TEST_F(QueueTest, ReadableAfterWritable) {
  make();
  driver->add({{data, 16, true}, {data, 16, false}});
  EXPECT_TRUE(pop_fails());
}

TEST_F(QueueTest, BuffersOutsideOfRam) {
  for (bool writable : {false, true}) {
    for (auto [address, length] : {std::pair<uint64_t, uint32_t>{ram.size() - 8, 16},
                                   {UINT64_MAX, 2},
                                   {UINT64_MAX - 15, 16},
                                   {0xfee00000, 4},
                                   {0, UINT32_MAX}}) {
      make();
      driver->add({{address, length, writable}});
      EXPECT_TRUE(pop_fails()) << address;
    }
  }
}

TEST_F(QueueTest, ReadOnlyMemoryIsNotWritten) {
  make();
  driver->add({{FakeRam::kRomStart, 16, false}, {data, 16, true}});
  driver->publish();
  EXPECT_EQ(pop_one().readable_bytes, 16u);
  driver->add({{FakeRam::kRomStart, 16, true}});
  EXPECT_TRUE(pop_fails());
}

TEST_F(QueueTest, ChainsOfMoreThan4GiB) {
  make(8);
  // The same memory again and again.
  uint32_t length = static_cast<uint32_t>(ram.size());
  std::vector<VirtqueueDriver::Piece> pieces(1023, {0, length, true});
  driver->add(pieces, true);
  driver->publish();
  EXPECT_EQ(pop_one().writable_bytes, uint64_t{1023} * length);
  pieces.push_back({0, length, true});
  driver->add(pieces, true);
  EXPECT_TRUE(pop_fails());
}

}  // namespace
}  // namespace calf::virtio
