#include "block/image_lock.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <sstream>

#include "block/base/fd.h"
#include "block/lock_holders.h"
#include "tests/block/test_files.h"

namespace calf::block {
namespace {

using testing::HasSubstr;
using testing::Not;

class ImageLockTest : public testing::Test {
 protected:
  void SetUp() override { path_ = folder_.write("disk", "content"); }
  Fd open() const { return Fd(::open(path_.c_str(), O_RDWR | O_CLOEXEC)); }

  // The bytes that `fd` has locked, as the kernel shows them.
  static std::set<int> locked_bytes(int fd) {
    std::set<int> bytes;
    std::ifstream in("/proc/self/fdinfo/" + std::to_string(fd));
    std::string line;
    while (std::getline(in, line)) {
      if (!line.starts_with("lock:")) continue;
      std::istringstream words(line);
      std::vector<std::string> w{std::istream_iterator<std::string>(words), {}};
      EXPECT_EQ(w[2], "OFDLCK");
      EXPECT_EQ(w[4], "READ");
      for (int b = std::stoi(w[7]); b <= std::stoi(w[8]); ++b)
        bytes.insert(b);
    }
    return bytes;
  }

  TestFolder folder_;
  std::string path_;
};

// As seen in /proc while qemu-io of QEMU 7.2 had a qcow2 image open.
TEST_F(ImageLockTest, TakesTheBytesThatQemuTakes) {
  Fd fd = open();
  ASSERT_TRUE(lock_image(fd.get(), kLockFormatWriter, "disk").ok());
  EXPECT_EQ(locked_bytes(fd.get()), (std::set<int>{100, 101, 103, 201, 203}));
  ASSERT_TRUE(lock_image(fd.get(), kLockFormatReader, "disk").ok());
  EXPECT_EQ(locked_bytes(fd.get()), (std::set<int>{100, 201, 203}));
  ASSERT_TRUE(lock_image(fd.get(), kLockSharedWriter, "disk").ok());
  EXPECT_EQ(locked_bytes(fd.get()), (std::set<int>{100, 101}));
  ASSERT_TRUE(lock_image(fd.get(), LockRequest{}, "disk").ok());
  EXPECT_TRUE(locked_bytes(fd.get()).empty());
}

TEST_F(ImageLockTest, ReadersShareAndAWriterIsRefused) {
  Fd first = open();
  Fd second = open();
  Fd third = open();
  ASSERT_TRUE(lock_image(first.get(), kLockFormatReader, "disk").ok());
  ASSERT_TRUE(lock_image(second.get(), kLockFormatReader, "disk").ok());
  auto writer = lock_image(third.get(), kLockFormatWriter, "disk");
  ASSERT_FALSE(writer.ok());
  EXPECT_EQ(writer.error().kind(), ErrorKind::kLocked);
  EXPECT_THAT(
      writer.error().message(),
      HasSubstr("Failed to get \"write\" lock\nIs another process using the image [disk]?"));
}

TEST_F(ImageLockTest, AReaderIsRefusedWhileSomebodyWrites) {
  Fd first = open();
  Fd second = open();
  ASSERT_TRUE(lock_image(first.get(), kLockFormatWriter, "disk").ok());
  auto reader = lock_image(second.get(), kLockFormatReader, "disk");
  ASSERT_FALSE(reader.ok());
  EXPECT_THAT(reader.error().message(), HasSubstr("Failed to get shared \"write\" lock"));
  // One that shares everything gets in.
  LockRequest sharing = kLockFormatReader;
  sharing.refuses = 0;
  EXPECT_TRUE(lock_image(second.get(), sharing, "disk").ok());
}

TEST_F(ImageLockTest, EndsWithTheDescriptor) {
  Fd first = open();
  ASSERT_TRUE(lock_image(first.get(), kLockFormatWriter, "disk").ok());
  first.reset();
  Fd second = open();
  EXPECT_TRUE(lock_image(second.get(), kLockFormatWriter, "disk").ok());
}

TEST_F(ImageLockTest, NamesTheProcessThatHoldsIt) {
  int ready[2];
  int stop[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  ASSERT_EQ(::pipe2(stop, O_CLOEXEC), 0);
  pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Fd held(::open(path_.c_str(), O_RDWR));
    bool ok = lock_image(held.get(), kLockFormatWriter, "disk").ok();
    char byte = ok ? 'y' : 'n';
    ssize_t n = ::write(ready[1], &byte, 1);
    ::close(stop[1]);
    n = ::read(stop[0], &byte, 1);
    ::_exit(n == 0 ? 0 : 1);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  Fd fd = open();
  auto refused = lock_image(fd.get(), kLockFormatWriter, "disk");
  std::vector<LockHolder> holders = find_lock_holders(fd.get(), 201);
  ::close(stop[1]);
  ::waitpid(child, nullptr, 0);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(),
              HasSubstr("(PID " + std::to_string(child) + ") has it open"));
  ASSERT_EQ(holders.size(), 1);
  EXPECT_EQ(holders[0].pid, child);
}

TEST_F(ImageLockTest, SaysSoWhenWeHoldItOurselves) {
  Fd first = open();
  Fd second = open();
  ASSERT_TRUE(lock_image(first.get(), kLockFormatWriter, "disk").ok());
  auto refused = lock_image(second.get(), kLockFormatWriter, "disk");
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(), HasSubstr("This very program has it open already"));
  EXPECT_THAT(refused.error().message(), Not(HasSubstr("PID")));
}

}  // namespace
}  // namespace calf::block
