#include "block/io/kept_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <list>
#include <set>

namespace calf {
namespace {

class KeptFileTest : public testing::Test {
 protected:
  void SetUp() override {
    Executor::Options options;
    options.engine = Executor::Engine::kUring;
    auto made = Executor::create(options);
    if (!made.ok()) GTEST_SKIP() << "no io_uring here: " << made.error().message();
    executor_ = std::move(*made);
    if (int slot = executor_->keep_file(STDIN_FILENO); slot >= 0) {
      executor_->drop_file(slot);
    } else {
      GTEST_SKIP() << "this kernel's io_uring keeps no files (Linux 5.19 is needed)";
    }
  }

  static Fd file_with(char byte) {
    Fd fd(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    EXPECT_EQ(::pwrite(fd.get(), &byte, 1, 0), 1);
    return fd;
  }

  // The first byte, or a negative errno.
  int64_t first_byte(IoFile file) {
    char byte = 0;
    iovec iov{&byte, 1};
    int64_t n = executor_->run(read(*executor_, file, &iov));
    return n == 1 ? byte : n;
  }

  static Task<int64_t> read(Executor& executor, IoFile file, const iovec* iov) {
    co_return co_await executor.readv(file, iov, 1, 0);
  }

  std::unique_ptr<Executor> executor_;
};

// Which of the two a request goes to shows in what it reads.
TEST_F(KeptFileTest, RequestsGoToTheFileInTheSlot) {
  Fd a = file_with('a');
  Fd b = file_with('b');
  const int slot = executor_->keep_file(a.get());
  ASSERT_GE(slot, 0);
  EXPECT_EQ(first_byte({b.get(), slot}), 'a');
  a.reset();
  EXPECT_EQ(first_byte({b.get(), slot}), 'a');
  executor_->drop_file(slot);
  EXPECT_EQ(first_byte({b.get(), slot}), -EBADF);
  EXPECT_EQ(executor_->keep_file(b.get()), slot);
  EXPECT_EQ(first_byte({-1, slot}), 'b');
}

TEST_F(KeptFileTest, OnlyWhatIsUsedMuchIsKept) {
  Fd fd = file_with('a');
  KeptFile file(*executor_, fd.get());
  for (unsigned i = 1; i < KeptFile::kWorthIt; ++i)
    EXPECT_EQ(file.for_transfer().slot, -1);
  EXPECT_GE(file.for_transfer().slot, 0);
  EXPECT_GE(file.now().slot, 0);
  EXPECT_EQ(first_byte(file.for_transfer()), 'a');
  file.let_go();
  EXPECT_EQ(file.now().slot, -1);
  EXPECT_EQ(file.for_transfer().slot, -1);
  EXPECT_EQ(first_byte(file.for_transfer()), 'a');
}

TEST_F(KeptFileTest, MoreFilesThanThereAreSlots) {
  std::vector<Fd> fds;
  std::list<KeptFile> files;
  std::set<int> slots;
  for (int i = 0; i < 100; ++i) {
    fds.push_back(file_with(static_cast<char>(i)));
    KeptFile& file = files.emplace_back(*executor_, fds.back().get());
    for (unsigned k = 0; k < KeptFile::kWorthIt; ++k)
      file.for_transfer();
    if (file.now().slot >= 0) {
      EXPECT_TRUE(slots.insert(file.now().slot).second);
    }
  }
  EXPECT_LT(slots.size(), files.size());
  EXPECT_GE(slots.size(), 16u);
  int i = 0;
  for (KeptFile& file : files)
    EXPECT_EQ(first_byte(file.now()), i++);
  files.clear();
  EXPECT_GE(executor_->keep_file(fds[0].get()), 0);
}

}  // namespace
}  // namespace calf
