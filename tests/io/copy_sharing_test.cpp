// Which thread copies what goes to the page cache or comes from it (Executor::Copy).
#include <fcntl.h>
#include <gtest/gtest.h>

#include <string>

#include "block/io/executor.h"

namespace calf {
namespace {

using Copy = Executor::Copy;

class CopySharing : public testing::TestWithParam<Executor::Engine> {
 protected:
  // Null, and the test skipped, where the host has no such engine.
  std::unique_ptr<Executor> make(bool alone) {
    Executor::Options options;
    options.engine = GetParam();
    options.alone = alone;
    auto made = Executor::create(options);
    return made.ok() ? std::move(*made) : nullptr;
  }
  void SetUp() override {
    if (!make(false)) GTEST_SKIP() << "no io_uring on this host";
    ASSERT_TRUE(file_.valid());
  }

  Executor::IoAwaiter write(Executor& executor, Copy copy) {
    return executor.writev(file_.get(), &iov_, 1, 0, 0, copy);
  }

  static Task<void> read(Executor* executor, int fd, iovec iov, Copy copy, int64_t* got) {
    *got = co_await executor->readv(fd, &iov, 1, 0, copy);
  }

  Fd file_{::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
  std::string text_ = std::string(4096, 'x');
  iovec iov_{text_.data(), text_.size()};
};

TEST_P(CopySharing, WhoServesOthersHandsEveryWriteOn) {
  auto executor = make(false);
  for (Copy copy : {Copy::kNone, Copy::kSmall, Copy::kLarge}) {
    EXPECT_FALSE(write(*executor, copy).now);
  }
  auto alone = make(true);
  alone->serve_others();
  EXPECT_FALSE(write(*alone, Copy::kSmall).now);
}

TEST_P(CopySharing, AloneAndIdleCopiesHereAndNow) {
  auto executor = make(true);
  EXPECT_TRUE(write(*executor, Copy::kSmall).now);
  EXPECT_TRUE(write(*executor, Copy::kLarge).now);
  // What the device moves is waited for.
  EXPECT_FALSE(write(*executor, Copy::kNone).now);
}

TEST_P(CopySharing, ALargeWriteGoesElsewhereWhileThereIsMoreToDo) {
  auto executor = make(true);
  std::string buffer(4096, '\0');
  int64_t got = -1;
  // Not before the loop runs is the read answered.
  executor->spawn(
      read(executor.get(), file_.get(), {buffer.data(), buffer.size()}, Copy::kSmall, &got));
  EXPECT_FALSE(write(*executor, Copy::kLarge).now);
  EXPECT_TRUE(write(*executor, Copy::kLarge).aside);
  EXPECT_TRUE(write(*executor, Copy::kSmall).now);
  executor->stop();
  executor->run_until_stopped();
  EXPECT_EQ(got, 0);  // the file is empty
  EXPECT_TRUE(write(*executor, Copy::kLarge).now) << "the read is still counted";
}

TEST_P(CopySharing, LargeReadsAreHalved) {
  auto executor = make(true);
  std::string buffer(4096, '\0');
  int64_t got = 0;
  std::string shared;
  for (int i = 0; i < 6; ++i) {
    auto next = executor->readv(file_.get(), &iov_, 1, 0, Copy::kLarge);
    shared += next.aside ? 'a' : 'h';
    executor->spawn(
        read(executor.get(), file_.get(), {buffer.data(), buffer.size()}, Copy::kLarge, &got));
  }
  EXPECT_EQ(shared, "ahahah");
  EXPECT_FALSE(executor->readv(file_.get(), &iov_, 1, 0, Copy::kSmall).aside);
  executor->stop();
  executor->run_until_stopped();
}

INSTANTIATE_TEST_SUITE_P(Engines, CopySharing,
                         testing::Values(Executor::Engine::kUring, Executor::Engine::kThreads),
                         [](const auto& p) {
                           return p.param == Executor::Engine::kUring ? "Uring" : "Threads";
                         });

}  // namespace
}  // namespace calf
