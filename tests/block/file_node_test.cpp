#include "block/file_node.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <random>

#include "tests/block/test_files.h"

namespace calf::block {
namespace {

using testing::HasSubstr;

struct Mode {
  Executor::Engine engine;
  bool direct;
};

class FileNodeTest : public testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    executor_ = make_executor(GetParam().engine);
    if (!executor_) GTEST_SKIP() << "no io_uring on this host";
    if (GetParam().direct) {
      folder_.write("probe", "x");
      if (!open("probe", {}).ok()) GTEST_SKIP() << "no O_DIRECT in " << folder_.path();
    }
  }

  Result<std::unique_ptr<FileNode>> open(const std::string& name, FileOptions options) {
    options.cache.direct = GetParam().direct;
    return executor_->run(FileNode::open(*executor_, folder_.file(name), options));
  }
  std::unique_ptr<FileNode> open_writable(const std::string& name) {
    auto node = open(name, {.writable = true, .discard = true});
    EXPECT_TRUE(node.ok()) << node.error().message();
    return node.ok() ? std::move(*node) : nullptr;
  }
  Result<std::string> read(Node& node, uint64_t offset, size_t size) {
    std::string bytes(size, '?');
    FlatIo io(std::span(reinterpret_cast<uint8_t*>(bytes.data()), size));
    auto r = executor_->run(node.read(offset, io.slice()));
    if (!r.ok()) return r.error();
    return bytes;
  }
  Result<void> write(Node& node, uint64_t offset, std::string bytes, WriteFlags flags = {}) {
    FlatIo io(std::span(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()));
    return executor_->run(node.write(offset, io.slice(), flags));
  }

  TestFolder folder_;
  std::unique_ptr<Executor> executor_;
};

TEST_P(FileNodeTest, ReadsWhatIsThereAndZeroesBehindTheEnd) {
  folder_.write("f", std::string(1000, 'a'));
  auto node = open("f", {});
  ASSERT_TRUE(node.ok());
  EXPECT_EQ((*node)->size(), 1000);
  EXPECT_EQ(*read(**node, 990, 20), std::string(10, 'a') + std::string(10, '\0'));
  EXPECT_EQ(*read(**node, 5000, 3), std::string(3, '\0'));
  EXPECT_EQ(*read(**node, 0, 8192), std::string(1000, 'a') + std::string(7192, '\0'));
}

// Direct writes find the file long enough; what was too much goes at the end.
TEST_P(FileNodeTest, AFileThatGrowsIsAsLongAsItSaysWhenClosed) {
  folder_.write("f", "");
  auto node = open_writable("f");
  ASSERT_NE(node, nullptr);
  auto host_size = [&] {
    struct stat st {};
    EXPECT_EQ(::stat(folder_.file("f").c_str(), &st), 0);
    return static_cast<uint64_t>(st.st_size);
  };
  ASSERT_TRUE(write(*node, 0, std::string(5000, 'a')).ok());
  ASSERT_TRUE(write(*node, 5000, std::string(3000, 'b')).ok());
  EXPECT_EQ(node->size(), 8000u);
  EXPECT_EQ(host_size() > 8000, GetParam().direct);
  ASSERT_TRUE(executor_->run(node->write_zeroes({8000, 1000}, {})).ok());
  EXPECT_EQ(node->size(), 9000u);
  EXPECT_EQ(*read(*node, 7999, 3000), "b" + std::string(2999, '\0'));
  // Far away: no space is reserved in between.
  ASSERT_TRUE(write(*node, uint64_t{1} << 30, std::string(4096, 'c')).ok());
  struct stat st {};
  ASSERT_EQ(::stat(folder_.file("f").c_str(), &st), 0);
  EXPECT_LT(st.st_blocks * 512, 64 << 20);
  ASSERT_TRUE(executor_->run(node->truncate(8500, Preallocation::kOff)).ok());
  ASSERT_TRUE(write(*node, 8500, std::string(10, 'd')).ok());
  ASSERT_TRUE(executor_->run(node->close()).ok());
  EXPECT_EQ(host_size(), 8510u);
  auto again = open("f", {});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(*read(**again, 0, 9000), std::string(5000, 'a') + std::string(3000, 'b') +
                                         std::string(500, '\0') + std::string(10, 'd') +
                                         std::string(490, '\0'));
}

TEST_P(FileNodeTest, AFileThatGoesOnGrowingIsMadeLongerAheadOfTheWrites) {
  constexpr size_t kPart = 256 << 10;
  constexpr size_t kParts = 16;
  folder_.write("f", "");
  auto node = open_writable("f");
  ASSERT_NE(node, nullptr);
  unsigned longer = 0;
  for (size_t i = 0; i < kParts; ++i) {
    ASSERT_TRUE(write(*node, i * kPart, std::string(kPart, static_cast<char>('a' + i))).ok());
    if (std::filesystem::file_size(folder_.file("f")) > node->size()) ++longer;
  }
  EXPECT_EQ(node->size(), kParts * kPart);
  EXPECT_GT(longer, kParts / 2);
  EXPECT_EQ(*read(*node, kParts * kPart, 4096), std::string(4096, '\0'));
  ASSERT_TRUE(executor_->run(node->close()).ok());
  EXPECT_EQ(std::filesystem::file_size(folder_.file("f")), kParts * kPart);
  const std::string all = folder_.read("f");
  for (size_t i = 0; i < kParts; ++i)
    EXPECT_EQ(all[i * kPart], static_cast<char>('a' + i));
}

// A limit stands for the full disk: no space is reserved ahead, and then the write itself fails.
TEST_P(FileNodeTest, AFileThatCannotGrowIsAnError) {
  folder_.write("f", std::string(1 << 20, 'a'));
  auto node = open_writable("f");
  ASSERT_NE(node, nullptr);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{(1 << 20) + 65536, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  const Result<void> inside = write(*node, 1 << 20, std::string(65536, 'b'));
  const Result<void> beyond = write(*node, (1 << 20) + 65536, std::string(65536, 'c'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, handler);
  EXPECT_TRUE(inside.ok());
  ASSERT_FALSE(beyond.ok());
  EXPECT_EQ(beyond.error().sys_errno(), EFBIG);
}

TEST_P(FileNodeTest, WritesAnyRangeAndKeepsTheNeighbours) {
  folder_.write("f", std::string(10000, 'a'));
  auto node = open_writable("f");
  ASSERT_TRUE(write(*node, 511, "bcd").ok());
  ASSERT_TRUE(write(*node, 4096, std::string(4096, 'e'), {.fua = true}).ok());
  ASSERT_TRUE(write(*node, 9999, "fg").ok());
  EXPECT_EQ(node->size(), 10001);
  ASSERT_TRUE(executor_->run(node->close()).ok());
  std::string expected(10000, 'a');
  expected.replace(511, 3, "bcd").replace(4096, 4096, std::string(4096, 'e'));
  expected.replace(9999, 1, "fg");
  EXPECT_EQ(folder_.read("f"), expected);
}

TEST_P(FileNodeTest, DoesNotPadTheFile) {
  folder_.write("f", "");
  auto node = open_writable("f");
  ASSERT_TRUE(write(*node, 70000, std::string(5, 'x')).ok());
  EXPECT_EQ(node->size(), 70005u);
  ASSERT_TRUE(executor_->run(node->close()).ok());
  EXPECT_EQ(std::filesystem::file_size(folder_.file("f")), 70005);
}

Task<void> write_byte(FileNode& node, uint64_t offset, uint8_t value, int* failures) {
  FlatIo io(std::span(&value, 1));
  Result<void> r = co_await node.write(offset, io.slice(), {});
  if (!r.ok()) ++*failures;
}

Task<void> write_bytes_at_once(Executor& executor, FileNode& node, unsigned count, int* failures) {
  std::vector<Async<>> tasks;
  for (unsigned i = 0; i < count; ++i) {
    tasks.push_back([](FileNode& n, unsigned at, int* bad) -> Async<> {
      co_await write_byte(n, at, static_cast<uint8_t>('A' + at % 26), bad);
      co_return Result<void>();
    }(node, i, failures));
  }
  Result<void> all = co_await all_succeed(executor, std::move(tasks));
  if (!all.ok()) ++*failures;
}

// Each is a read-modify-write of the same block under O_DIRECT: none may undo another.
TEST_P(FileNodeTest, ManySmallWritesAtOnceInOneBlock) {
  folder_.write("f", "");
  auto node = open_writable("f");
  int failures = 0;
  executor_->run(write_bytes_at_once(*executor_, *node, 600, &failures));
  EXPECT_EQ(failures, 0);
  std::string expected;
  for (unsigned i = 0; i < 600; ++i)
    expected += static_cast<char>('A' + i % 26);
  EXPECT_EQ(*read(*node, 0, 600), expected);
}

TEST_P(FileNodeTest, RandomWritesAgainstAModel) {
  folder_.write("f", "");
  auto node = open_writable("f");
  std::string model(300000, '\0');
  std::mt19937 random(7);
  for (int i = 0; i < 120; ++i) {
    uint64_t offset = random() % 200000;
    size_t size = 1 + random() % (i % 10 == 0 ? 100000 : 3000);
    switch (random() % 3) {
      case 0: {
        std::string bytes(size, static_cast<char>(random()));
        ASSERT_TRUE(write(*node, offset, bytes).ok());
        model.replace(offset, size, bytes);
        break;
      }
      case 1: {
        ZeroFlags flags{.may_unmap = random() % 2 == 0};
        ASSERT_TRUE(executor_->run(node->write_zeroes({offset, size}, flags)).ok());
        model.replace(offset, size, std::string(size, '\0'));
        break;
      }
      default: {
        auto bytes = read(*node, offset, size);
        ASSERT_TRUE(bytes.ok());
        ASSERT_EQ(*bytes, model.substr(offset, size)) << "at " << offset << " + " << size;
      }
    }
  }
  EXPECT_EQ(*read(*node, 0, model.size()), model);
}

TEST_P(FileNodeTest, ScatteredMemory) {
  folder_.write("f", std::string(8192, 'z'));
  auto node = open_writable("f");
  std::vector<std::string> pieces(40, "0123456");
  std::vector<iovec> vectors;
  for (auto& piece : pieces)
    vectors.push_back({piece.data(), piece.size()});
  IoSlice slice{std::span<const iovec>(vectors)};
  ASSERT_TRUE(executor_->run(node->write(100, slice, {})).ok());
  for (auto& piece : pieces)
    piece.assign(7, '?');
  ASSERT_TRUE(executor_->run(node->read(100, slice)).ok());
  for (auto& piece : pieces)
    EXPECT_EQ(piece, "0123456");
}

TEST_P(FileNodeTest, MapsDataAndHoles) {
  folder_.write("f", "");
  auto node = open_writable("f");
  ASSERT_TRUE(executor_->run(node->truncate(1 << 20, Preallocation::kOff)).ok());
  ASSERT_TRUE(write(*node, 262144, std::string(65536, 'x')).ok());
  auto hole = executor_->run(node->map({0, 1 << 20}));
  ASSERT_TRUE(hole.ok());
  if (hole->data) GTEST_SKIP() << "the file system of " << folder_.path() << " has no holes";
  EXPECT_EQ(hole->range, (ByteRange{0, 262144}));
  EXPECT_TRUE(hole->zero);
  auto data = executor_->run(node->map({262144, 786432}));
  EXPECT_EQ(data->range, (ByteRange{262144, 65536}));
  EXPECT_TRUE(data->data);
  EXPECT_EQ(data->host_offset, 262144);
  EXPECT_EQ(*data->host_file, folder_.file("f"));
  auto tail = executor_->run(node->map({400000, 600000}));
  EXPECT_EQ(tail->range, (ByteRange{400000, 600000}));
  EXPECT_TRUE(tail->zero);
  // What was found is kept, but not beyond a change.
  ASSERT_TRUE(write(*node, 524288, std::string(4096, 'y')).ok());
  EXPECT_TRUE(executor_->run(node->map({524288, 4096}))->data);
  ASSERT_TRUE(executor_->run(node->write_zeroes({524288, 4096}, {.may_unmap = true})).ok());
  EXPECT_TRUE(executor_->run(node->map({524288, 4096}))->zero);
}

TEST_P(FileNodeTest, DiscardPunchesOnlyWhenAsked) {
  folder_.write("f", std::string(1 << 20, 'x'));
  auto plain = open("f", {.writable = true});
  ASSERT_TRUE(executor_->run((*plain)->discard({0, 1 << 20})).ok());
  EXPECT_EQ(*read(**plain, 0, 4096), std::string(4096, 'x'));
  auto node = open_writable("f");
  ASSERT_TRUE(executor_->run(node->discard({0, 524288})).ok());
  EXPECT_EQ(*read(*node, 0, 4096), std::string(4096, '\0'));
  EXPECT_EQ(*read(*node, 524288, 4096), std::string(4096, 'x'));
}

TEST_P(FileNodeTest, Preallocates) {
  folder_.write("f", "");
  auto node = open_writable("f");
  ASSERT_TRUE(executor_->run(node->truncate(1 << 20, Preallocation::kFalloc)).ok());
  struct stat st {};
  ASSERT_EQ(::stat(folder_.file("f").c_str(), &st), 0);
  EXPECT_EQ(st.st_size, 1 << 20);
  EXPECT_GE(st.st_blocks * 512, 1 << 20);
  ASSERT_TRUE(executor_->run(node->truncate((1 << 20) + 70000, Preallocation::kFull)).ok());
  ASSERT_EQ(::stat(folder_.file("f").c_str(), &st), 0);
  EXPECT_GE(st.st_blocks * 512, (1 << 20) + 70000);
}

TEST_P(FileNodeTest, RefusesWritesWhenReadOnly) {
  folder_.write("f", "abc");
  auto node = open("f", {});
  auto r = write(**node, 0, "x");
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().kind(), ErrorKind::kReadOnly);
}

TEST_P(FileNodeTest, RefusesWhatIsNoFile) {
  ASSERT_EQ(::mkfifo(folder_.file("fifo").c_str(), 0600), 0);
  auto fifo = open("fifo", {});
  ASSERT_FALSE(fifo.ok());
  EXPECT_THAT(fifo.error().message(), HasSubstr("to be a regular file"));
  EXPECT_FALSE(open(".", {}).ok());
  auto missing = open("none", {});
  EXPECT_EQ(missing.error().kind(), ErrorKind::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr("none': No such file or directory"));
  auto zero = executor_->run(FileNode::open(*executor_, "/dev/zero", FileOptions{}));
  ASSERT_FALSE(zero.ok());
  EXPECT_EQ(zero.error().message(), "'file' driver requires '/dev/zero' to be a regular file");
}

TEST_P(FileNodeTest, CreateEmptiesAFileOnlyWhenItIsFree) {
  folder_.write("f", "content");
  FileOptions options{.cache = {.direct = GetParam().direct}};
  auto holder = open_writable("f");
  ASSERT_TRUE(holder->lock(kLockFormatWriter).ok());
  auto refused = executor_->run(FileNode::create(*executor_, folder_.file("f"), options));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::kLocked);
  EXPECT_EQ(folder_.read("f"), "content");
  holder.reset();
  auto made = executor_->run(FileNode::create(*executor_, folder_.file("f"), options));
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_EQ(folder_.read("f"), "");
}

// The kernel may hold a file for a while after it was closed (a request of io_uring that it has not
// put away, a file registered there). A second descriptor stands for that here.
TEST_P(FileNodeTest, WhoIsDoneWithAFileLeavesNoLock) {
  folder_.write("f", std::string(8192, 'x'));
  auto other = open_writable("f");
  for (bool closed : {true, false}) {
    auto node = open_writable("f");
    ASSERT_TRUE(node->lock(kLockFormatWriter).ok());
    Fd held(::dup(node->fd()));
    ASSERT_FALSE(other->lock(kLockFormatReader).ok());
    if (closed) {
      ASSERT_TRUE(executor_->run(node->close()).ok());
    }
    node.reset();
    EXPECT_TRUE(other->lock(kLockFormatReader).ok());
    ASSERT_TRUE(other->lock(LockRequest{}).ok());
  }
}

TEST_P(FileNodeTest, AFileInMuchUseReadsTheSameAndIsFreeWhenClosed) {
  std::mt19937 random(7);
  std::string content(1 << 20, '\0');
  for (char& c : content)
    c = static_cast<char>(random());
  folder_.write("f", content);
  auto other = open_writable("f");
  for (int round = 0; round < 3; ++round) {
    auto node = open_writable("f");
    ASSERT_TRUE(node->lock(kLockFormatWriter).ok());
    for (unsigned i = 0; i < KeptFile::kWorthIt + 200; ++i) {
      const size_t offset = random() % (content.size() - 5000);
      if (i % 3 == 0) {
        const std::string text(1 + random() % 5000, static_cast<char>(i));
        ASSERT_TRUE(write(*node, offset, text).ok());
        content.replace(offset, text.size(), text);
        if (i % 50 == 0) {
          ASSERT_TRUE(executor_->run(node->flush()).ok());
        }
      } else {
        EXPECT_EQ(*read(*node, offset, 5000), content.substr(offset, 5000));
      }
    }
    ASSERT_TRUE(executor_->run(node->close()).ok());
    EXPECT_TRUE(other->lock(kLockFormatWriter).ok());
    ASSERT_TRUE(other->lock(LockRequest{}).ok());
  }
  EXPECT_EQ(folder_.read("f"), content);
}

TEST_P(FileNodeTest, CopiesFromAnotherFileInTheKernel) {
  const std::string content(100000, 'c');
  folder_.write("from", content);
  auto source = open("from", {});
  ASSERT_TRUE(source.ok());
  folder_.write("to", "");
  auto target = open_writable("to");
  std::optional<HostBytes> from = (*source)->host_bytes(10);
  if (GetParam().direct) {
    EXPECT_FALSE(from);
    const ByteRange range{0, 512};
    EXPECT_FALSE(executor_->run(target->copy_in(range, HostBytes{(*source)->fd(), 0})).ok());
    return;
  }
  ASSERT_TRUE(from);
  const ByteRange range{5, 90000};
  auto copied = executor_->run(target->copy_in(range, *from));
  ASSERT_TRUE(copied.ok()) << copied.error().message();
  EXPECT_EQ(target->size(), range.end());
  EXPECT_EQ(folder_.read("to"), std::string(5, '\0') + content.substr(10, 90000));
  // Behind the end of the source there is nothing to copy.
  const ByteRange beyond{0, 100000};
  EXPECT_FALSE(executor_->run(target->copy_in(beyond, *from)).ok());
  // A file that is not open for writing stays as it is.
  EXPECT_FALSE(executor_->run((*source)->copy_in(range, *from)).ok());
  EXPECT_EQ(folder_.read("from"), content);
}

INSTANTIATE_TEST_SUITE_P(
    Modes, FileNodeTest,
    testing::Values(Mode{Executor::Engine::kUring, false}, Mode{Executor::Engine::kUring, true},
                    Mode{Executor::Engine::kThreads, false},
                    Mode{Executor::Engine::kThreads, true}),
    [](const auto& param) {
      return std::string(param.param.engine == Executor::Engine::kUring ? "uring" : "threads") +
             (param.param.direct ? "Direct" : "Cached");
    });

}  // namespace
}  // namespace calf::block
