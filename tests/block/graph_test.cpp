#include "block/graph.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "block/file_node.h"
#include "block/formats/known_formats.h"
#include "block/formats/scratch_overlay.h"
#include "block/node_name.h"
#include "block/open_gate.h"
#include "block/probe.h"
#include "block/qcow2/create.h"
#include "tests/block/test_files.h"

namespace calf::block {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class GraphTest : public testing::Test {
 protected:
  void SetUp() override { executor_ = make_executor(); }

  // A new qcow2 file in the folder; `backing` and its format as they go into the header.
  std::string make_qcow2(const std::string& name, uint64_t size,
                         std::optional<std::string> backing = std::nullopt,
                         std::optional<std::string> format = std::nullopt) {
    qcow2::CreateOptions options;
    options.size = size;
    options.backing_name = std::move(backing);
    options.backing_format = std::move(format);
    auto file = executor_->run(FileNode::create(*executor_, folder_.file(name), FileOptions{}));
    EXPECT_TRUE(file.ok());
    auto made = executor_->run(qcow2::create(*executor_, **file, options));
    EXPECT_TRUE(made.ok()) << made.error().message();
    EXPECT_TRUE(executor_->run((*file)->close()).ok());
    return folder_.file(name);
  }

  // By options, as json: names and --image-opts give them.
  OpenSpec described(const std::string& name) {
    OpenSpec s = spec(name, std::nullopt);
    s.node = *parse_node_name(name);
    return s;
  }
  OpenSpec spec(const std::string& path, std::optional<std::string> format = "qcow2") {
    OpenSpec s;
    s.filename = path;
    s.format = std::move(format);
    s.message = [this](std::string_view line) { messages_.emplace_back(line); };
    return s;
  }
  Result<std::unique_ptr<Node>> open(OpenSpec s) {
    return executor_->run(open_chain(*executor_, formats_, std::move(s)));
  }
  std::string error_of(OpenSpec s) {
    auto opened = open(std::move(s));
    return opened.ok() ? "(opened)" : opened.error().message();
  }
  std::string read(Node& node, uint64_t offset, size_t size) {
    std::string bytes(size, '?');
    FlatIo io(std::span(reinterpret_cast<uint8_t*>(bytes.data()), size));
    auto r = executor_->run(node.read(offset, io.slice()));
    return r.ok() ? bytes : r.error().message();
  }
  Result<void> write(Node& node, uint64_t offset, std::string bytes) {
    FlatIo io(std::span(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()));
    return executor_->run(node.write(offset, io.slice(), {}));
  }

  TestFolder folder_;
  std::unique_ptr<Executor> executor_;
  FormatTable formats_ = known_formats();
  std::vector<std::string> messages_;
};

TEST_F(GraphTest, ReadsThroughThreeLayers) {
  folder_.write("base.raw", std::string(1 << 20, 'b'));
  make_qcow2("mid.qcow2", 1 << 20, "base.raw", "raw");
  std::string top = make_qcow2("top.qcow2", 1 << 20, "mid.qcow2", "qcow2");
  OpenSpec s = spec(top);
  s.writable = true;
  auto node = open(s);
  ASSERT_TRUE(node.ok()) << node.error().message();
  EXPECT_EQ(read(**node, 70000, 4), "bbbb");
  ASSERT_TRUE(write(**node, 70001, "xy").ok());
  EXPECT_EQ(read(**node, 70000, 4), "bxyb");
  ASSERT_NE((*node)->backing(), nullptr);
  EXPECT_TRUE((*node)->backing()->read_only());
  EXPECT_STREQ((*node)->backing()->backing()->format(), "raw");
  ASSERT_TRUE(executor_->run((*node)->close()).ok());
  EXPECT_EQ(folder_.read("base.raw"), std::string(1 << 20, 'b'));
}

TEST_F(GraphTest, NamesAreRelativeToTheOverlay) {
  std::filesystem::create_directory(folder_.file("sub"));
  folder_.write("sub/base.raw", std::string(65536, 's'));
  std::string top = make_qcow2("sub/top.qcow2", 65536, "base.raw", "raw");
  auto node = open(spec(top));
  ASSERT_TRUE(node.ok()) << node.error().message();
  EXPECT_EQ(read(**node, 0, 2), "ss");
  EXPECT_EQ(*resolve_recorded_name("a/b/c.qcow2", "d"), "a/b/d");
  EXPECT_EQ(*resolve_recorded_name("c.qcow2", "d"), "d");
  EXPECT_EQ(*resolve_recorded_name("a/c.qcow2", "/d"), "/d");
}

TEST_F(GraphTest, NamesInImagesAreNoProtocols) {
  folder_.write("nbd:host:1", std::string(65536, 'n'));
  std::string top = make_qcow2("top.qcow2", 65536, "nbd:host:1", "raw");
  auto node = open(spec(top));
  ASSERT_TRUE(node.ok()) << node.error().message();
  EXPECT_EQ(read(**node, 0, 1), "n");
  EXPECT_FALSE(resolve_recorded_name("x", "").ok());
  EXPECT_FALSE(resolve_recorded_name("x", std::string_view("a\0b", 3)).ok());
  EXPECT_FALSE(resolve_recorded_name("x", std::string(1024, 'a')).ok());
}

TEST_F(GraphTest, ABackingFileWithoutFormatIsRefusedWithTheCure) {
  folder_.write("base.raw", std::string(65536, 'b'));
  std::string top = make_qcow2("top.qcow2", 65536, "base.raw");
  EXPECT_THAT(
      error_of(spec(top)),
      AllOf(StartsWith("Could not open '" + top + "': Could not open backing file: "),
            HasSubstr("calf-img rebase -u -f qcow2 -F FORMAT -b 'base.raw' '" + top + "'")));
  // Nothing below is needed to look at the overlay itself.
  OpenSpec alone = spec(top);
  alone.open_backing = false;
  EXPECT_TRUE(open(alone).ok());
}

TEST_F(GraphTest, LoopsAreFound) {
  make_qcow2("a.qcow2", 65536, "b.qcow2", "qcow2");
  std::string b = make_qcow2("b.qcow2", 65536, "a.qcow2", "qcow2");
  EXPECT_THAT(error_of(spec(b)), HasSubstr("b.qcow2' creates an infinite loop."));
  std::string self = make_qcow2("self.qcow2", 65536, "./self.qcow2", "qcow2");
  OpenSpec s = spec(self);
  s.writable = true;
  EXPECT_THAT(error_of(s), HasSubstr("creates an infinite loop."));
  // Whatever the names are.
  std::filesystem::create_symlink(self, folder_.file("link"));
  make_qcow2("self.qcow2", 65536, "link", "qcow2");
  EXPECT_THAT(error_of(spec(self)), HasSubstr("creates an infinite loop."));
}

TEST_F(GraphTest, DepthIsLimited) {
  make_qcow2("0", 65536);
  for (unsigned i = 1; i <= kMaxChainDepth; ++i)
    make_qcow2(std::to_string(i), 65536, std::to_string(i - 1), "qcow2");
  EXPECT_TRUE(open(spec(folder_.file(std::to_string(kMaxChainDepth - 1)))).ok());
  EXPECT_THAT(error_of(spec(folder_.file(std::to_string(kMaxChainDepth)))),
              HasSubstr("longer than 200"));
}

TEST_F(GraphTest, AShorterBackingFileReadsAsZeroesBehindItsEnd) {
  folder_.write("base.raw", std::string(100000, 'b'));
  std::string top = make_qcow2("top.qcow2", 262144, "base.raw", "raw");
  auto node = open(spec(top));
  ASSERT_TRUE(node.ok());
  EXPECT_EQ(read(**node, 99998, 4), std::string("bb\0\0", 4));
  EXPECT_EQ(read(**node, 200000, 3), std::string(3, '\0'));
}

TEST_F(GraphTest, LayersWithNothingAreSteppedOverAndTheirEndsAreKept) {
  constexpr uint64_t kCluster = 65536;
  folder_.write("base.raw", std::string(8 * kCluster, 'b'));
  make_qcow2("low.qcow2", 8 * kCluster, "base.raw", "raw");
  // Ends in the middle of a cluster: what the base has behind it is hidden from those above.
  make_qcow2("short.qcow2", 2 * kCluster + 512, "low.qcow2", "qcow2");
  make_qcow2("long.qcow2", 8 * kCluster, "short.qcow2", "qcow2");
  const std::string top = make_qcow2("top.qcow2", 8 * kCluster, "long.qcow2", "qcow2");
  {
    OpenSpec s = spec(folder_.file("low.qcow2"));
    s.writable = true;
    auto low = open(s);
    ASSERT_TRUE(low.ok()) << low.error().message();
    ASSERT_TRUE(write(**low, kCluster + 100, "low").ok());
    ASSERT_TRUE(executor_->run((*low)->close()).ok());
  }
  auto node = open(spec(top));
  ASSERT_TRUE(node.ok()) << node.error().message();
  std::string expected(8 * kCluster, '\0');
  std::fill_n(expected.begin(), 2 * kCluster + 512, 'b');
  expected.replace(kCluster + 100, 3, "low");
  for (uint64_t at = 0; at < expected.size(); at += 4096 - 512) {
    const size_t length = std::min<size_t>(8192, expected.size() - at);
    ASSERT_EQ(read(**node, at, length), expected.substr(at, length)) << at;
  }
  ASSERT_EQ(read(**node, 0, expected.size()), expected);
}

// Requests of any range reach a file that takes whole blocks only; none of them spoils a neighbour.
TEST_F(GraphTest, AnImageStandsOnBlocks) {
  std::string path = make_qcow2("blocks.qcow2", 1 << 20);
  OpenSpec s = described(R"(json:{"driver":"qcow2","file":{"driver":"blkdebug","align":4096,)"
                         R"("image":{"driver":"file","filename":")" +
                         path + R"("}}})");
  s.writable = true;
  std::string expected(1 << 20, '\0');
  {
    auto node = open(s);
    ASSERT_TRUE(node.ok()) << node.error().message();
    std::vector<std::string> pieces;
    std::vector<Async<>> writes;
    std::vector<std::unique_ptr<FlatIo>> memory;
    for (size_t i = 0; i < 64; ++i) {
      const size_t at = i * 12345;
      pieces.push_back(std::string(700 + 100 * i, static_cast<char>('A' + i)));
      expected.replace(at, pieces.back().size(), pieces.back());
    }
    // Neighbours share blocks, and all are on their way at once.
    for (size_t i = 0; i < pieces.size(); ++i) {
      memory.push_back(std::make_unique<FlatIo>(std::span<const uint8_t>(
          reinterpret_cast<const uint8_t*>(pieces[i].data()), pieces[i].size())));
      writes.push_back((*node)->write(i * 12345, memory.back()->slice(), {}));
    }
    auto written = executor_->run(all_succeed(*executor_, std::move(writes)));
    ASSERT_TRUE(written.ok()) << written.error().message();
    ASSERT_TRUE(executor_->run((*node)->write_zeroes({100001, 5000}, {})).ok());
    expected.replace(100001, 5000, 5000, '\0');
    ASSERT_EQ(read(**node, 0, expected.size()), expected);
    ASSERT_TRUE(executor_->run((*node)->close()).ok());
  }
  auto plain = open(spec(path));
  ASSERT_TRUE(plain.ok()) << plain.error().message();
  EXPECT_EQ(read(**plain, 0, expected.size()), expected);
  ASSERT_TRUE(executor_->run((*plain)->close()).ok());
}

TEST_F(GraphTest, AFilterStandsOnAWholeChain) {
  folder_.write("base.raw", std::string(1 << 20, 'b'));
  std::string top = make_qcow2("top.qcow2", 1 << 20, "base.raw", "raw");
  OpenSpec s = described(R"(json:{"driver":"blkdebug","image":{"driver":"blkdebug","align":4096,)"
                         R"("image":{"driver":"qcow2","file.filename":")" +
                         top + R"("}}})");
  s.writable = true;
  auto node = open(s);
  ASSERT_TRUE(node.ok()) << node.error().message();
  EXPECT_STREQ((*node)->format(), "blkdebug");
  EXPECT_EQ((*node)->limits().write_unit, 4096U);
  ASSERT_TRUE(write(**node, 65536, std::string(4096, 't')).ok());
  EXPECT_EQ(read(**node, 65536 - 2, 4), "bbtt");
  // The filter says which layer answers, as the image would.
  ASSERT_NE((*node)->backing(), nullptr);
  EXPECT_STREQ((*node)->backing()->format(), "raw");
  EXPECT_FALSE(executor_->run((*node)->map({0, 4096}))->allocated);
  EXPECT_TRUE(executor_->run((*node)->map({65536, 4096}))->allocated);
  // It is an image that is in use, not the bytes of a file.
  EXPECT_THAT(error_of(spec(top)), HasSubstr("Failed to get shared \"write\" lock"));
  EXPECT_TRUE(executor_->run((*node)->close()).ok());
}

TEST_F(GraphTest, AFilterWithoutADriverBelowStandsOnTheFile) {
  std::string q = make_qcow2("q", 1 << 20);
  auto node = open(described(R"(json:{"driver":"blkdebug","image.filename":")" + q + R"("})"));
  ASSERT_TRUE(node.ok()) << node.error().message();
  EXPECT_EQ(read(**node, 0, 3), "QFI");
}

TEST_F(GraphTest, AFilterThatIsRefusedLeavesTheImageClean) {
  std::string top = make_qcow2("top.qcow2", 1 << 20);
  const std::string image = R"("image":{"driver":"qcow2","file.filename":")" + top + R"("}})";
  OpenSpec s = described(R"(json:{"driver":"blkdebug","align":3,)" + image);
  s.writable = true;
  EXPECT_THAT(error_of(s), HasSubstr("Cannot meet constraints with align 3"));
  s = described(R"(json:{"driver":"blkdebug","nonsense":3,)" + image);
  EXPECT_THAT(error_of(s), HasSubstr("doesn't support the option 'nonsense'"));
  s = described(R"(json:{"driver":"blkdebug","read-only":true,)" + image);
  s.writable = true;
  EXPECT_THAT(error_of(s), HasSubstr("Block node is read-only"));
  EXPECT_THAT(error_of(described(R"(json:{"driver":"blkdebug"})")), HasSubstr("for \"image\""));
  // Nobody holds it any more.
  OpenSpec again = spec(top);
  again.writable = true;
  EXPECT_TRUE(open(again).ok());
}

TEST_F(GraphTest, MissingFilesAreNamed) {
  std::string top = make_qcow2("top.qcow2", 65536, "gone.raw", "raw");
  EXPECT_EQ(error_of(spec(top)), "Could not open '" + top +
                                     "': Could not open backing file: Could not open '" +
                                     folder_.file("gone.raw") + "': No such file or directory");
  EXPECT_THAT(error_of(spec(top, "vdi")), HasSubstr("Unknown driver 'vdi'"));
}

TEST_F(GraphTest, AFifoBelowIsRefused) {
  ASSERT_EQ(::mkfifo(folder_.file("fifo").c_str(), 0600), 0);
  std::string top = make_qcow2("top.qcow2", 65536, "fifo", "raw");
  EXPECT_THAT(error_of(spec(top)), HasSubstr("to be a regular file"));
}

TEST_F(GraphTest, FormatsAreGuessedOnlyWhereAllowed) {
  std::string q = make_qcow2("q", 65536);
  std::string raw = folder_.write("raw", std::string(65536, 'r'));
  OpenSpec s = spec(q, std::nullopt);
  EXPECT_THAT(error_of(s), HasSubstr("say format=qcow2"));
  s.probing = Probing::kNotRaw;
  EXPECT_STREQ((*open(s))->format(), "qcow2");
  s.filename = raw;
  EXPECT_THAT(error_of(s), HasSubstr("say format=raw"));
  s.probing = Probing::kAny;
  EXPECT_STREQ((*open(s))->format(), "raw");
  EXPECT_TRUE(messages_.empty());
  s.writable = true;
  ASSERT_TRUE(open(s).ok());
  EXPECT_THAT(messages_, ElementsAre(HasSubstr("probing guessed raw."), HasSubstr("block 0"),
                                     HasSubstr("Specify the 'raw' format")));
}

TEST_F(GraphTest, AGuessedRawImageKeepsLookingRaw) {
  std::string raw = folder_.write("raw", std::string(65536, 'r'));
  OpenSpec s = spec(raw, std::nullopt);
  s.probing = Probing::kAny;
  s.writable = true;
  auto node = open(s);
  ASSERT_TRUE(node.ok());
  auto refused = write(**node, 0, "QFI\xfb plus more");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().sys_errno(), EPERM);
  // Built up in two steps.
  EXPECT_TRUE(write(**node, 0, "QF").ok());
  EXPECT_FALSE(write(**node, 2, "I\xfb").ok());
  EXPECT_TRUE(write(**node, 512, "QFI\xfb").ok());
  node->reset();
  s.format = "raw";
  node = open(s);
  EXPECT_TRUE(write(**node, 0, "QFI\xfb plus more").ok());
}

TEST_F(GraphTest, RawDisksHaveWholeSectors) {
  std::string raw = folder_.write("raw", std::string(700, 'r'));
  OpenSpec s = spec(raw, "raw");
  s.writable = true;
  auto node = open(s);
  ASSERT_TRUE(node.ok());
  EXPECT_EQ((*node)->size(), 1024);
  EXPECT_EQ(read(**node, 698, 4), std::string("rr\0\0", 4));
  ASSERT_TRUE(write(**node, 512, std::string(512, 'w')).ok());
  EXPECT_EQ(std::filesystem::file_size(raw), 1024);
}

TEST_F(GraphTest, TwoWritersAreRefusedTwoOverlaysAreNot) {
  make_qcow2("base", 65536);
  std::string a = make_qcow2("a", 65536, "base", "qcow2");
  std::string b = make_qcow2("b", 65536, "base", "qcow2");
  OpenSpec s = spec(a);
  s.writable = true;
  auto first = open(s);
  ASSERT_TRUE(first.ok());
  EXPECT_THAT(error_of(s), HasSubstr("Failed to get \"write\" lock"));
  s.filename = b;
  EXPECT_TRUE(open(s).ok());
  // Nobody writes the base below them.
  s.filename = folder_.file("base");
  EXPECT_THAT(error_of(s), HasSubstr("Failed to get \"write\" lock"));
  OpenSpec look = spec(a);
  EXPECT_THAT(error_of(look), HasSubstr("Failed to get shared \"write\" lock"));
  look.force_share = true;
  EXPECT_TRUE(open(look).ok());
  look.writable = true;
  EXPECT_THAT(error_of(look), HasSubstr("force-share=on can only be used with read-only images"));
}

TEST_F(GraphTest, EveryCacheModeKeepsWhatWasWritten) {
  std::string q = make_qcow2("q", 1 << 20);
  char value = 'a';
  for (const char* name : {"writeback", "none", "writethrough", "directsync", "unsafe"}) {
    OpenSpec s = spec(q);
    s.writable = true;
    s.cache = *parse_cache_mode(name);
    auto node = open(s);
    if (!node.ok() && s.cache.direct && node.error().kind() == ErrorKind::kUnsupported) continue;
    ASSERT_TRUE(node.ok()) << name << ": " << node.error().message();
    ++value;
    ASSERT_TRUE(write(**node, 100, std::string(70000, value)).ok()) << name;
    ASSERT_TRUE(executor_->run((*node)->close()).ok()) << name;
    auto again = open(spec(q));
    EXPECT_EQ(read(**again, 70098, 4), std::string(2, value) + std::string(2, '\0')) << name;
  }
  EXPECT_FALSE(parse_cache_mode("writearound"));
}

// True if `path` is open in this process with O_DIRECT.
bool is_open_direct(const std::string& path) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry, gone) != path) continue;
    const int fd = std::stoi(entry.path().filename().string());
    if ((::fcntl(fd, F_GETFL) & O_DIRECT) != 0) return true;
  }
  return false;
}

TEST_F(GraphTest, ASharedBaseGoesThroughThePageCacheInAnyMode) {
  const std::string base = make_qcow2("base.qcow2", 1 << 20);
  const std::string top = make_qcow2("top.qcow2", 1 << 20, "base.qcow2", "qcow2");
  const std::string own_options =
      "json:{'driver':'qcow2','file.filename':'" + top + "','backing.cache.direct':true}";
  struct Case {
    OpenSpec spec;
    bool writable, top_direct, base_direct;
  };
  for (const Case& c : {Case{spec(top), true, true, false}, Case{spec(top), false, true, true},
                        Case{described(own_options), true, true, true}}) {
    OpenSpec s = c.spec;
    s.writable = c.writable;
    s.cache = *parse_cache_mode("none");
    auto node = open(s);
    ASSERT_TRUE(node.ok()) << node.error().message();
    EXPECT_EQ(is_open_direct(top), c.top_direct);
    EXPECT_EQ(is_open_direct(base), c.base_direct) << c.writable;
    EXPECT_TRUE(executor_->run((*node)->close()).ok());
  }
}

TEST_F(GraphTest, AScratchOverlayLeavesTheBaseAlone) {
  std::string base = folder_.write("base.raw", std::string(1 << 20, 'b'));
  auto below = open(spec(base, "raw"));
  ASSERT_TRUE(below.ok());
  ScratchOptions options{.folder = folder_.path()};
  auto node =
      executor_->run(open_scratch_overlay(*executor_, std::move(*below), std::move(options)));
  ASSERT_TRUE(node.ok()) << node.error().message();
  ASSERT_TRUE(write(**node, 5000, "scratch").ok());
  ASSERT_TRUE(executor_->run((*node)->flush()).ok());
  EXPECT_EQ(read(**node, 4999, 9), "bscratchb");
  ASSERT_TRUE(executor_->run((*node)->close()).ok());
  EXPECT_EQ(folder_.read("base.raw"), std::string(1 << 20, 'b'));
  size_t files = 0;
  for ([[maybe_unused]] auto& entry : std::filesystem::directory_iterator(folder_.path()))
    ++files;
  EXPECT_EQ(files, 1);
}

TEST_F(GraphTest, AScratchOverlayIsBounded) {
  std::string base = folder_.write("base.raw", std::string(8 << 20, 'b'));
  auto below = open(spec(base, "raw"));
  ASSERT_TRUE(below.ok());
  ScratchOptions options{.folder = folder_.path(), .limit = 1 << 20};
  auto node =
      executor_->run(open_scratch_overlay(*executor_, std::move(*below), std::move(options)));
  ASSERT_TRUE(node.ok()) << node.error().message();
  Result<void> last;
  for (uint64_t offset = 0; offset < 4 << 20 && last.ok(); offset += 65536)
    last = write(**node, offset, std::string(65536, 'x'));
  ASSERT_FALSE(last.ok());
  EXPECT_EQ(last.error().kind(), ErrorKind::kNoSpace);
  // What was written is still there.
  EXPECT_EQ(read(**node, 0, 2), "xx");
  ScratchOptions nowhere{.folder = folder_.file("none")};
  auto again = open(spec(base, "raw"));
  auto failed =
      executor_->run(open_scratch_overlay(*executor_, std::move(*again), std::move(nowhere)));
  ASSERT_FALSE(failed.ok());
  EXPECT_THAT(failed.error().message(), HasSubstr("--scratch DIR"));
}

TEST(ProbeTest, KnowsSignatures) {
  auto probe = [](std::string head) {
    head.resize(kProbeBytes);
    return std::string(
        probe_format(std::span(reinterpret_cast<const uint8_t*>(head.data()), head.size())));
  };
  using namespace std::string_literals;
  EXPECT_EQ(probe("QFI\xfb\0\0\0\3"s), "qcow2");
  EXPECT_EQ(probe("QFI\xfb\0\0\0\1"s), "qcow");
  // From the future: not raw.
  EXPECT_EQ(probe("QFI\xfb\0\0\0\x09"s), "qcow2");
  EXPECT_EQ(probe("KDMV"), "vmdk");
  EXPECT_EQ(probe("LUKS\xba\xbe\0\1"s), "luks");
  EXPECT_EQ(probe("vhdxfile"), "vhdx");
  EXPECT_EQ(probe("QFI"), "raw");
  EXPECT_EQ(probe_format({}), "raw");
}

}  // namespace
}  // namespace calf::block
