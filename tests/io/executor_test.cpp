#include "block/io/executor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <atomic>
#include <thread>

#include "block/io/sync.h"

namespace calf {
namespace {

using namespace std::chrono_literals;

// Every case runs on both engines.
class ExecutorTest : public testing::TestWithParam<Executor::Engine> {
 protected:
  void SetUp() override {
    Executor::Options options;
    options.engine = GetParam();
    auto made = Executor::create(options);
    if (!made.ok()) GTEST_SKIP() << "no io_uring here: " << made.error().message();
    executor_ = std::move(*made);
  }
  std::unique_ptr<Executor> executor_;
};

Task<int> add(Executor& executor, int a, int b) {
  co_await executor.yield();
  co_return a + b;
}

TEST_P(ExecutorTest, RunsATaskAndReturnsItsValue) {
  EXPECT_EQ(executor_->run(add(*executor_, 2, 3)), 5);
}

Task<int64_t> write_and_read_back(Executor& executor, int fd, std::string* out) {
  char text[] = "hello, disk";
  iovec write_iov{text, 11};
  int64_t written = co_await executor.writev(fd, &write_iov, 1, 4096);
  if (written != 11) co_return written;
  int64_t synced = co_await executor.fdatasync(fd);
  if (synced != 0) co_return synced;
  out->resize(11);
  iovec read_iov{out->data(), 11};
  co_return co_await executor.readv(fd, &read_iov, 1, 4096);
}

TEST_P(ExecutorTest, WritesSyncsAndReads) {
  Fd fd(open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_TRUE(fd.valid());
  std::string out;
  EXPECT_EQ(executor_->run(write_and_read_back(*executor_, fd.get(), &out)), 11);
  EXPECT_EQ(out, "hello, disk");
}

Task<int64_t> read_bad_fd(Executor& executor) {
  char byte = 0;
  iovec iov{&byte, 1};
  co_return co_await executor.readv(-1, &iov, 1, 0);
}

TEST_P(ExecutorTest, ReportsErrnoAsANegativeCount) {
  EXPECT_EQ(executor_->run(read_bad_fd(*executor_)), -EBADF);
}

Task<int64_t> wait_for(Executor& executor, int fd) {
  co_return co_await executor.poll_in(fd);
}

TEST_P(ExecutorTest, PollsAnEventfdSignalledByAnotherThread) {
  Fd event(eventfd(0, EFD_CLOEXEC));
  std::thread signaller([&] { eventfd_write(event.get(), 1); });
  EXPECT_GT(executor_->run(wait_for(*executor_, event.get())), 0);
  signaller.join();
}

Task<bool> sleep_ends_after(Executor& executor, std::chrono::milliseconds time) {
  auto deadline = std::chrono::steady_clock::now() + time;
  int64_t r = co_await executor.sleep_until(deadline);
  co_return r == 0 && std::chrono::steady_clock::now() >= deadline;
}

TEST_P(ExecutorTest, SleepsUntilADeadline) {
  EXPECT_TRUE(executor_->run(sleep_ends_after(*executor_, 20ms)));
}

Task<void> hold_poll(Executor::IoAwaiter* awaiter, int64_t* result) {
  *result = co_await *awaiter;
}

Task<void> cancel_poll(Executor& executor, int fd, int64_t* result) {
  Executor::IoAwaiter awaiter = executor.poll_in(fd);
  executor.spawn(hold_poll(&awaiter, result));
  co_await executor.yield();
  executor.cancel(awaiter.op);
  while (*result == 1)
    co_await executor.yield();
}

TEST_P(ExecutorTest, CancelsAPoll) {
  Fd event(eventfd(0, EFD_CLOEXEC));
  int64_t result = 1;
  executor_->run(cancel_poll(*executor_, event.get(), &result));
  EXPECT_EQ(result, -ECANCELED);
}

Task<std::thread::id> offloaded(Executor& executor) {
  co_return co_await executor.offload([] { return std::this_thread::get_id(); });
}

TEST_P(ExecutorTest, OffloadsToAnotherThread) {
  EXPECT_NE(executor_->run(offloaded(*executor_)), std::this_thread::get_id());
}

Task<void> count_batched(Executor& executor, std::thread::id own, std::atomic<int>* answered) {
  co_await executor.offload_batched([own] { EXPECT_NE(std::this_thread::get_id(), own); });
  EXPECT_EQ(std::this_thread::get_id(), own);
  ++*answered;
  answered->notify_all();
}

Task<void> end_behind_others(Executor& executor, int others, std::atomic<int>* answered,
                             bool* ended) {
  co_await executor.offload_batched([=] {
    for (int now = *answered; now < others; now = *answered)
      answered->wait(now);
  });
  *ended = true;
}

Task<void> turn(Executor& executor) {
  co_await executor.yield();
}

// Answers are taken a few at a time; the last few must not lie until something else ends.
TEST_P(ExecutorTest, AnswersBatchedWorkWhileOneIsNotDone) {
  for (int others : {1, 2, 3, 7, 8, 9, 40}) {
    std::atomic<int> answered = 0;
    bool ended = false;
    executor_->spawn(end_behind_others(*executor_, others, &answered, &ended));
    for (int i = 1; i < others; ++i)
      executor_->spawn(count_batched(*executor_, std::this_thread::get_id(), &answered));
    executor_->run(count_batched(*executor_, std::this_thread::get_id(), &answered));
    while (!ended)
      executor_->run(turn(*executor_));
    EXPECT_EQ(answered, others);
  }
}

TEST_P(ExecutorTest, RunsTasksForOtherThreads) {
  std::thread loop([&] { executor_->run_until_stopped(); });
  std::atomic<int> sum = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&, i] {
      for (int k = 0; k < 50; ++k)
        sum += executor_->run_blocking(add(*executor_, i, k));
    });
  }
  for (auto& caller : callers)
    caller.join();
  executor_->stop();
  loop.join();
  EXPECT_EQ(sum, 4 * (49 * 50 / 2) + 50 * (0 + 1 + 2 + 3));
}

Task<int64_t> many_reads(Executor& executor, int fd, unsigned count) {
  std::vector<Task<int64_t>> tasks;
  for (unsigned i = 0; i < count; ++i) {
    tasks.push_back([](Executor& ex, int f) -> Task<int64_t> {
      char buffer[512];
      iovec iov{buffer, sizeof buffer};
      co_return co_await ex.readv(f, &iov, 1, 0);
    }(executor, fd));
  }
  std::vector<int64_t> results = co_await when_all(executor, std::move(tasks));
  int64_t total = 0;
  for (int64_t r : results)
    total += r;
  co_return total;
}

TEST_P(ExecutorTest, TakesMoreRequestsThanTheRingHasEntries) {
  Fd fd(open("/dev/zero", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(executor_->run(many_reads(*executor_, fd.get(), 3000)), 3000 * 512);
}

INSTANTIATE_TEST_SUITE_P(Engines, ExecutorTest,
                         testing::Values(Executor::Engine::kUring, Executor::Engine::kThreads),
                         [](const auto& param) {
                           return param.param == Executor::Engine::kUring ? "uring" : "threads";
                         });

// What pollers may rely on: looks come between start and stop, and nobody is left looking.
class CountingPoller final : public IdlePoller {
 public:
  void start_looking() override {
    EXPECT_FALSE(looking_);
    looking_ = true;
  }
  bool look() override {
    EXPECT_TRUE(looking_);
    return ++looks_ % 3 == 0;
  }
  bool stop_looking() override {
    EXPECT_TRUE(looking_);
    looking_ = false;
    return false;
  }
  bool end_turn() override {
    EXPECT_FALSE(looking_);
    ++turns_;
    return turns_ % 5 == 0;
  }
  bool looking_ = false;
  uint64_t looks_ = 0;
  uint64_t turns_ = 0;
};

Task<void> sleep_often(Executor& executor, unsigned times) {
  for (unsigned i = 0; i < times; ++i) {
    int64_t slept = co_await executor.sleep_until(std::chrono::steady_clock::now() +
                                                  std::chrono::microseconds(1));
    EXPECT_EQ(slept, 0);
  }
}

TEST_P(ExecutorTest, PollersLookBetweenStartAndStopOnly) {
  CountingPoller poller;
  executor_->add_poller(poller);
  executor_->run(sleep_often(*executor_, 200));
  EXPECT_FALSE(poller.looking_);
  executor_->remove_poller(poller);
  EXPECT_GE(poller.turns_, 200u);
  uint64_t looks = poller.looks_;
  executor_->run(sleep_often(*executor_, 20));
  EXPECT_EQ(poller.looks_, looks);
}

// Sees nothing, so that the executor goes through looking to sleeping each time.
class BlindPoller final : public IdlePoller {
 public:
  void start_looking() override {}
  bool look() override { return false; }
  bool stop_looking() override { return false; }
  bool end_turn() override { return false; }
};

Task<void> nothing() {
  co_return;
}

// Posts come at every moment between a look at what is posted and the sleep. One that was slept
// over would never be answered.
TEST_P(ExecutorTest, NoPostIsSleptOver) {
  BlindPoller poller;
  executor_->add_poller(poller);
  std::thread thread([&] { executor_->run_until_stopped(); });
  for (unsigned i = 0; i < 20000; ++i) {
    auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(i % 97 * 50);
    while (std::chrono::steady_clock::now() < until)
      __builtin_ia32_pause();
    executor_->run_blocking(nothing());
  }
  executor_->stop();
  thread.join();
}

TEST(IdleWindow, GrowsByShortSleepsAndEndsByLongOnes) {
  using std::chrono::microseconds;
  IdleWindow window;
  EXPECT_EQ(window.now(), microseconds(0));
  for (unsigned expected : {4u, 8u, 16u, 32u, 64u, 128u, 128u}) {
    window.slept(microseconds(10));
    EXPECT_EQ(window.now(), microseconds(expected));
  }
  for (unsigned expected : {64u, 32u, 16u, 8u, 4u, 0u, 0u}) {
    window.slept(microseconds(1000));
    EXPECT_EQ(window.now(), microseconds(expected));
  }
}

TEST(IdleWindow, EndsWhenOthersWantTheProcessor) {
  using std::chrono::microseconds;
  IdleWindow window;
  for (int i = 0; i < 10; ++i)
    window.slept(microseconds(10));
  window.looked(window.now() + microseconds(20));
  EXPECT_EQ(window.now(), IdleWindow::kLongest);
  // A time slice of somebody else went by.
  window.looked(microseconds(3000));
  EXPECT_EQ(window.now(), microseconds(0));
}

}  // namespace
}  // namespace calf
