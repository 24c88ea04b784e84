#include "block/io/batch_wait.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

#include "block/io/executor.h"

namespace calf {
namespace {

TEST(BatchWait, WaitsForAQuarterOfMany) {
  BatchWait wait;
  EXPECT_EQ(wait.wanted(0), 1U);
  EXPECT_EQ(wait.wanted(7), 1U);
  EXPECT_EQ(wait.wanted(8), 2U);
  EXPECT_EQ(wait.wanted(32), 8U);
  EXPECT_EQ(wait.wanted(100000), BatchWait::kMost);
}

// How many waits for one go by before the next for more.
unsigned skipped(BatchWait& wait) {
  unsigned count = 0;
  while (wait.wanted(32) == 1)
    ++count;
  return count;
}

TEST(BatchWait, LeavesASlowDiskAloneForLongerAndLonger) {
  BatchWait wait;
  for (unsigned expected = 1; expected <= BatchWait::kMostSkipped; expected *= 2) {
    wait.waited(false);
    EXPECT_EQ(skipped(wait), expected);
  }
  wait.waited(false);
  EXPECT_EQ(skipped(wait), BatchWait::kMostSkipped);
}

TEST(BatchWait, TrustsADiskAgainThatWasInTime) {
  BatchWait wait;
  for (int i = 0; i < 5; ++i)
    wait.waited(false);
  skipped(wait);
  wait.waited(true);
  EXPECT_EQ(wait.wanted(32), 8U);
  wait.waited(false);
  EXPECT_EQ(skipped(wait), 1U);
}

struct Pipe {
  Pipe() {
    int fds[2];
    EXPECT_EQ(::pipe2(fds, O_CLOEXEC), 0);
    from.reset(fds[0]);
    to.reset(fds[1]);
  }
  Fd from;
  Fd to;
};

// Reads a byte and hands it on.
Task<void> pass_on(Executor& executor, int from, int to, unsigned& passed) {
  char byte = 0;
  iovec iov{&byte, 1};
  EXPECT_EQ(co_await executor.readv(from, &iov, 1, 0), 1);
  ++passed;
  if (to >= 0) {
    EXPECT_EQ(::write(to, &byte, 1), 1);
  }
}

// Of many that are waited for, each ends because the one before was dealt with: no batch of them
// ever comes.
TEST(BatchWait, NobodyIsKeptForABatchThatDoesNotCome) {
  Executor::Options options;
  options.engine = Executor::Engine::kUring;
  auto made = Executor::create(options);
  if (!made.ok()) GTEST_SKIP() << "no io_uring here: " << made.error().message();
  Executor& executor = **made;
  std::array<Pipe, 64> pipes;
  unsigned passed = 0;
  for (size_t i = 0; i + 1 < pipes.size(); ++i)
    executor.spawn(pass_on(executor, pipes[i].from.get(), pipes[i + 1].to.get(), passed));
  ASSERT_EQ(::write(pipes[0].to.get(), "x", 1), 1);
  executor.run(pass_on(executor, pipes.back().from.get(), -1, passed));
  EXPECT_EQ(passed, pipes.size());
}

}  // namespace
}  // namespace calf
