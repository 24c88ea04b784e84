#include "block/base_fingerprint.h"

#include <gtest/gtest.h>

#include "block/formats/known_formats.h"
#include "block/graph.h"
#include "block/qcow2/create.h"
#include "tests/block/test_files.h"

namespace calf::block {
namespace {

namespace fs = std::filesystem;

class BaseFingerprintTest : public testing::Test {
 protected:
  void SetUp() override { executor_ = make_executor(); }

  void make_qcow2(const std::string& name, const qcow2::CreateOptions& options) {
    auto file = executor_->run(FileNode::create(*executor_, folder_.file(name), FileOptions{}));
    ASSERT_TRUE(file.ok());
    auto made = executor_->run(qcow2::create(*executor_, **file, options));
    ASSERT_TRUE(made.ok()) << made.error().message();
    ASSERT_TRUE(executor_->run((*file)->close()).ok());
  }
  // An overlay on `base` that notes its present state.
  std::string make_overlay(const std::string& base, const std::string& format) {
    qcow2::CreateOptions options;
    options.size = 1 << 20;
    options.backing_name = base;
    options.backing_format = format;
    auto noted =
        executor_->run(fingerprint_base(*executor_, formats_, folder_.file(base), format, base));
    EXPECT_TRUE(noted.ok()) << noted.error().message();
    options.base_fingerprint = *noted;
    make_qcow2("overlay", options);
    return folder_.file("overlay");
  }
  // Opens the overlay; empty if that works, else the error.
  std::string open(bool writable, bool accept = false) {
    OpenSpec spec;
    spec.filename = folder_.file("overlay");
    spec.format = "qcow2";
    spec.writable = writable;
    spec.accept_changed_base = accept;
    spec.message = [this](std::string_view line) { messages_.emplace_back(line); };
    auto node = executor_->run(open_chain(*executor_, formats_, std::move(spec)));
    if (!node.ok()) return node.error().message();
    EXPECT_TRUE(executor_->run((*node)->close()).ok());
    return "";
  }
  void write_to(const std::string& name, const std::string& format, uint64_t offset) {
    OpenSpec spec;
    spec.filename = folder_.file(name);
    spec.format = format;
    spec.writable = true;
    auto node = executor_->run(open_chain(*executor_, formats_, std::move(spec)));
    ASSERT_TRUE(node.ok()) << node.error().message();
    std::vector<uint8_t> bytes(65536, 0x5a);
    FlatIo io{std::span<uint8_t>(bytes)};
    ASSERT_TRUE(executor_->run((*node)->write(offset, io.slice(), {})).ok());
    ASSERT_TRUE(executor_->run((*node)->close()).ok());
  }
  // Another time of the last change, the same bytes.
  void touch(const std::string& name) {
    fs::last_write_time(folder_.file(name),
                        fs::file_time_type::clock::now() - std::chrono::hours(1));
  }

  TestFolder folder_;
  std::unique_ptr<Executor> executor_;
  FormatTable formats_ = known_formats();
  std::vector<std::string> messages_;
};

TEST_F(BaseFingerprintTest, CodecKeepsEveryField) {
  BaseFingerprint noted{1, uint64_t{2} << 40, -3, 4, 5};
  auto back = BaseFingerprint::decode(noted.encode());
  ASSERT_TRUE(back);
  EXPECT_EQ(back->digest, 1U);
  EXPECT_EQ(back->length, uint64_t{2} << 40);
  EXPECT_EQ(back->mtime_sec, -3);
  EXPECT_EQ(back->mtime_nsec, 4U);
  EXPECT_EQ(back->name, 5U);
}

TEST_F(BaseFingerprintTest, UnknownLayoutOrShortDataIsNoFingerprint) {
  std::vector<uint8_t> bytes = BaseFingerprint{}.encode();
  EXPECT_FALSE(BaseFingerprint::decode(std::span(bytes).subspan(1)));
  bytes[3] = 2;
  EXPECT_FALSE(BaseFingerprint::decode(bytes));
}

TEST_F(BaseFingerprintTest, UnchangedBaseOpens) {
  folder_.write("base", std::string(1 << 20, 'b'));
  make_overlay("base", "raw");
  EXPECT_EQ(open(true), "");
  EXPECT_TRUE(messages_.empty());
}

TEST_F(BaseFingerprintTest, CopiedOrTouchedBaseIsTheSame) {
  folder_.write("base", std::string(1 << 20, 'b'));
  make_overlay("base", "raw");
  touch("base");
  EXPECT_EQ(open(true), "");
  fs::copy_file(folder_.file("base"), folder_.file("copy"));
  fs::rename(folder_.file("copy"), folder_.file("base"));
  EXPECT_EQ(open(true), "");
}

TEST_F(BaseFingerprintTest, WrittenRawBaseIsRefusedForWritingOnly) {
  folder_.write("base", std::string(1 << 20, 'b'));
  make_overlay("base", "raw");
  write_to("base", "raw", 65536);
  touch("base");
  // Both ways out are named.
  EXPECT_NE(open(true).find("calf-img rebase -u -b 'base' -F raw"), std::string::npos);
  EXPECT_NE(open(true).find("--force"), std::string::npos);
  EXPECT_EQ(open(false), "");
  ASSERT_EQ(messages_.size(), 1U);
  EXPECT_EQ(open(true, true), "");
  ASSERT_EQ(messages_.size(), 2U) << "writing to it goes by without a word";
  EXPECT_EQ(messages_[0], messages_[1]);
}

// What the reader is to paste into a shell comes from an image.
TEST_F(BaseFingerprintTest, NameInTheRefusalIsQuoted) {
  folder_.write("b'$(touch x)", std::string(1 << 20, 'b'));
  make_overlay("b'$(touch x)", "raw");
  folder_.write("b'$(touch x)", std::string(2 << 20, 'b'));
  EXPECT_NE(open(true).find("-b 'b'\\''$(touch x)' -F raw"), std::string::npos) << open(true);
}

TEST_F(BaseFingerprintTest, GrownBaseIsRefused) {
  folder_.write("base", std::string(1 << 20, 'b'));
  make_overlay("base", "raw");
  folder_.write("base", std::string(2 << 20, 'b'));
  EXPECT_NE(open(true), "");
}

TEST_F(BaseFingerprintTest, AllocatingWriteToQcow2BaseIsNoticedWhereverItIs) {
  qcow2::CreateOptions options;
  options.size = uint64_t{1} << 30;
  make_qcow2("base", options);
  // The file is as long before as after: only the tables tell.
  fs::resize_file(folder_.file("base"), 64 << 20);
  make_overlay("base", "qcow2");
  write_to("base", "qcow2", uint64_t{900} << 20);
  fs::resize_file(folder_.file("base"), 64 << 20);
  touch("base");
  EXPECT_NE(open(true), "");
}

TEST_F(BaseFingerprintTest, EveryLayerBelowIsLookedAt) {
  folder_.write("bottom", std::string(1 << 20, 'b'));
  make_overlay("bottom", "raw");
  fs::rename(folder_.file("overlay"), folder_.file("middle"));
  make_overlay("middle", "qcow2");
  write_to("bottom", "raw", 0);
  touch("bottom");
  EXPECT_NE(open(true).find("'" + folder_.file("middle") + "'"), std::string::npos);
}

}  // namespace
}  // namespace calf::block
