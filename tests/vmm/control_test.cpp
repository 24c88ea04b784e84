// Event loop, timers, and the order in which disks are booted.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <thread>

#include "vmm/event_loop.h"
#include "vmm/guest_boot.h"
#include "vmm/timers.h"

namespace calf::vmm {
namespace {

using namespace std::chrono_literals;

std::chrono::nanoseconds now() {
  return std::chrono::steady_clock::now().time_since_epoch();
}

std::unique_ptr<EventLoop> make_loop() {
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::create();
  EXPECT_TRUE(loop.ok());
  return std::move(*loop);
}

TEST(EventLoop, RunsWorkOfOtherThreadsInOrder) {
  auto loop = make_loop();
  std::vector<int> seen;
  std::thread other([&] {
    for (int i = 0; i < 100; ++i)
      loop->post([&seen, i] { seen.push_back(i); });
    loop->stop();
  });
  loop->run();
  other.join();
  ASSERT_EQ(seen.size(), 100u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST(EventLoop, ACallbackMayRemoveItselfAndOthers) {
  auto loop = make_loop();
  int first[2];
  int second[2];
  ASSERT_EQ(::pipe(first), 0);
  ASSERT_EQ(::pipe(second), 0);
  int calls = 0;
  auto once = [&](int self, int other) {
    return [&loop, &calls, self, other](uint32_t events) {
      EXPECT_TRUE(events & EPOLLIN);
      ++calls;
      loop->remove(self);
      loop->remove(other);
      loop->stop();
    };
  };
  ASSERT_TRUE(loop->add(first[0], EPOLLIN, once(first[0], second[0])).ok());
  ASSERT_TRUE(loop->add(second[0], EPOLLIN, once(second[0], first[0])).ok());
  ASSERT_EQ(::write(first[1], "x", 1), 1);
  ASSERT_EQ(::write(second[1], "x", 1), 1);
  loop->run();
  EXPECT_EQ(calls, 1);
  for (int fd : {first[0], first[1], second[0], second[1]})
    ::close(fd);
}

TEST(EventLoop, RefusesWhatCannotBePolled) {
  auto loop = make_loop();
  FILE* file = ::tmpfile();
  ASSERT_NE(file, nullptr);
  Result<void> added = loop->add(::fileno(file), EPOLLIN, [](uint32_t) {});
  ASSERT_FALSE(added.ok());
  EXPECT_EQ(added.error().kind(), ErrorKind::kPermission);
  ::fclose(file);
}

TEST(LoopTimers, ExpireInTheOrderOfTheirDeadlines) {
  auto loop = make_loop();
  auto timers = LoopTimers::create(*loop);
  ASSERT_TRUE(timers.ok());
  std::string order;
  auto late = (*timers)->make_timer([&] {
    order += "late";
    loop->stop();
  });
  auto early = (*timers)->make_timer([&] { order += "early "; });
  auto never = (*timers)->make_timer([&] { order += "never "; });
  std::chrono::nanoseconds start = now();
  late->arm(start + 30ms);
  never->arm(start + 10ms);
  early->arm(start + 5ms);
  never->disarm();
  loop->run();
  EXPECT_EQ(order, "early late");
  EXPECT_GE(now() - start, 30ms);
}

TEST(LoopTimers, ADeadlineInThePastExpiresAtOnceAndATimerCanArmItselfAgain) {
  auto loop = make_loop();
  auto timers = LoopTimers::create(*loop);
  ASSERT_TRUE(timers.ok());
  int count = 0;
  std::unique_ptr<devices::Timer> timer;
  timer = (*timers)->make_timer([&] {
    if (++count == 3) return loop->stop();
    timer->arm(now() - 1s);
  });
  std::thread other([&] { timer->arm(std::chrono::nanoseconds(0)); });
  loop->run();
  other.join();
  EXPECT_EQ(count, 3);
}

MachineConfig with_disks(std::initializer_list<DiskMedia> media) {
  MachineConfig config;
  for (DiskMedia medium : media) {
    DiskConfig disk;
    disk.media = medium;
    config.disks.push_back(disk);
  }
  return config;
}

TEST(BootSequence, FollowsTheLetters) {
  MachineConfig config = with_disks({DiskMedia::kCdrom, DiskMedia::kDisk, DiskMedia::kDisk});
  EXPECT_EQ(boot_sequence(config), (std::vector<size_t>{1, 2, 0}));
  config.boot_order = "dc";
  EXPECT_EQ(boot_sequence(config), (std::vector<size_t>{0, 1, 2}));
  config.boot_order = "d";
  EXPECT_EQ(boot_sequence(config), (std::vector<size_t>{0}));
  config.boot_order = "n";
  EXPECT_TRUE(boot_sequence(config).empty());
}

TEST(BootSequence, BootIndicesComeFirst) {
  MachineConfig config = with_disks({DiskMedia::kDisk, DiskMedia::kDisk, DiskMedia::kCdrom});
  config.disks[1].boot_index = 5;
  config.disks[2].boot_index = 1;
  EXPECT_EQ(boot_sequence(config), (std::vector<size_t>{2, 1, 0}));
}

}  // namespace
}  // namespace calf::vmm
