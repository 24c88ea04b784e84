#include "block/io/lone_transfers.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "block/io/executor.h"

namespace calf {
namespace {

TEST(LoneTransfers, WaitsAfterSomeThatWereAloneAndLooksUpNowAndThen) {
  LoneTransfers lone;
  for (unsigned i = 0; i < LoneTransfers::kStreak; ++i)
    EXPECT_FALSE(lone.begins(false));
  unsigned waited = 0;
  unsigned in_a_row = 0;
  for (unsigned i = 0; i < 1600; ++i) {
    in_a_row = lone.begins(false) ? in_a_row + 1 : 0;
    waited += in_a_row != 0 ? 1 : 0;
    EXPECT_LT(in_a_row, LoneTransfers::kLook);
  }
  EXPECT_EQ(waited, 1500u);
}

TEST(LoneTransfers, CountsAnewWhenOthersCome) {
  LoneTransfers lone;
  for (unsigned i = 0; i <= LoneTransfers::kStreak; ++i)
    lone.begins(false);
  EXPECT_TRUE(lone.begins(false));
  EXPECT_FALSE(lone.begins(true));
  for (unsigned i = 0; i < LoneTransfers::kStreak; ++i)
    EXPECT_FALSE(lone.begins(false));
  EXPECT_TRUE(lone.begins(false));
}

class LoneWritesTest : public testing::TestWithParam<Executor::Engine> {
 protected:
  void start(bool alone) {
    Executor::Options options;
    options.engine = GetParam();
    options.alone = alone;
    auto made = Executor::create(options);
    if (!made.ok()) GTEST_SKIP() << "no io_uring here: " << made.error().message();
    executor_ = std::move(*made);
  }

  // `count` writes one behind the other; how many of them were made by this thread, as long as
  // somebody else has not ended.
  static Task<void> write(Executor* executor, int fd, unsigned count, unsigned* here, bool* ended,
                          const bool* other_ended) {
    char byte = 'x';
    iovec iov{&byte, 1};
    for (unsigned i = 0; i < count; ++i) {
      auto awaiter = executor->writev(fd, &iov, 1, i);
      *here += awaiter.now && !*other_ended ? 1 : 0;
      int64_t written = co_await awaiter;
      EXPECT_EQ(written, 1);
    }
    *ended = true;
  }

  // Writes until this thread makes one itself; then somebody else begins, too.
  Task<void> go_on_with_another(unsigned* later, bool* ended) {
    while (here_ == 0) {
      bool one_ended = false;
      co_await write(executor_.get(), file_.get(), 1, &here_, &one_ended, &one_ended);
    }
    here_ = 0;
    executor_->spawn(write(executor_.get(), file_.get(), 200, later, &ended[1], &ended[0]));
    co_await write(executor_.get(), file_.get(), 200, &here_, &ended[0], &ended[1]);
  }

  static Task<void> turn(Executor* executor) { co_await executor->yield(); }

  std::unique_ptr<Executor> executor_;
  Fd file_{::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
  unsigned here_ = 0;
};

TEST_P(LoneWritesTest, AToolMakesThemItself) {
  start(true);
  if (IsSkipped()) return;
  bool ended = false;
  executor_->run(write(executor_.get(), file_.get(), 160, &here_, &ended, &ended));
  EXPECT_TRUE(ended);
  EXPECT_GT(here_, 130u);
  EXPECT_LT(here_, 160u);
}

TEST_P(LoneWritesTest, WhomOthersWaitForDoesNot) {
  start(false);
  if (IsSkipped()) return;
  bool ended = false;
  executor_->run(write(executor_.get(), file_.get(), 100, &here_, &ended, &ended));
  EXPECT_TRUE(ended);
  EXPECT_EQ(here_, 0u);
}

TEST_P(LoneWritesTest, TwoGoOnSideBySide) {
  start(true);
  if (IsSkipped()) return;
  bool ended[2] = {};
  executor_->spawn(write(executor_.get(), file_.get(), 200, &here_, &ended[0], &ended[1]));
  executor_->run(write(executor_.get(), file_.get(), 200, &here_, &ended[1], &ended[0]));
  EXPECT_EQ(here_, 0u);
  while (!ended[0])
    executor_->run(turn(executor_.get()));
}

// Both are running code when the second one begins, so neither sees the other under way at first.
TEST_P(LoneWritesTest, OneThatComesLaterIsSeenAfterAFew) {
  start(true);
  if (IsSkipped()) return;
  bool ended[2] = {};
  unsigned later = 0;
  executor_->run(go_on_with_another(&later, ended));
  while (!ended[0] || !ended[1])
    executor_->run(turn(executor_.get()));
  EXPECT_LE(here_ + later, LoneTransfers::kLook);
}

INSTANTIATE_TEST_SUITE_P(Engines, LoneWritesTest,
                         testing::Values(Executor::Engine::kUring, Executor::Engine::kThreads),
                         [](const auto& param) {
                           return param.param == Executor::Engine::kUring ? "uring" : "threads";
                         });

}  // namespace
}  // namespace calf
