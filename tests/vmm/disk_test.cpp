#include "vmm/disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <fstream>

#include "block/base_fingerprint.h"
#include "block/formats/known_formats.h"
#include "block/qcow2/create.h"
#include "block/qcow2/format.h"
#include "tests/block/test_files.h"

namespace calf::vmm {
namespace {

using testing::HasSubstr;
using testing::Not;

class DiskTest : public testing::Test {
 protected:
  // An empty qcow2 image; with `base`, an overlay that notes how the base is now.
  std::string make(const std::string& name, const std::string& base = "") {
    std::unique_ptr<Executor> executor = make_executor();
    qcow2::CreateOptions options;
    options.size = 1 << 20;
    if (!base.empty()) {
      options.backing_name = base;
      options.backing_format = "qcow2";
      auto noted = executor->run(
          block::fingerprint_base(*executor, formats_, folder_.file(base), "qcow2", base));
      EXPECT_TRUE(noted.ok()) << noted.error().message();
      options.base_fingerprint = *noted;
    }
    auto file =
        executor->run(block::FileNode::create(*executor, folder_.file(name), block::FileOptions{}));
    auto made = executor->run(qcow2::create(*executor, **file, options));
    EXPECT_TRUE(made.ok()) << made.error().message();
    EXPECT_TRUE(executor->run((*file)->close()).ok());
    return folder_.file(name);
  }
  void grow(const std::string& name) { std::filesystem::resize_file(folder_.file(name), 4 << 20); }
  // Opens and closes a disk; empty if that works, else the error.
  std::string open(const std::string& path, bool force = false) {
    DiskConfig config;
    config.filename = path;
    config.force = force;
    Log log(
        "calf", LogLevel::kWarning,
        [](void* to, std::string_view line) { static_cast<std::string*>(to)->append(line); },
        &messages_);
    DiskEnvironment environment{formats_, log, "", std::nullopt};
    auto disk = Disk::start_opening(config, 0, environment);
    EXPECT_TRUE(disk.ok());
    Result<void> opened = (*disk)->finish_opening();
    if (!opened.ok()) return opened.error().message();
    EXPECT_TRUE((*disk)->close().ok());
    return "";
  }

  TestFolder folder_;
  block::FormatTable formats_ = block::known_formats();
  std::string messages_;
};

TEST_F(DiskTest, OverlayOfAChangedBaseNeedsForce) {
  make("base");
  const std::string overlay = make("overlay", "base");
  EXPECT_EQ(open(overlay), "");
  grow("base");
  EXPECT_THAT(open(overlay), HasSubstr("--force"));
  EXPECT_EQ(open(overlay, true), "");
  EXPECT_THAT(messages_, HasSubstr("was changed after"));
}

void damage(const std::string& path, uint64_t offset, char byte) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(byte);
}

constexpr uint64_t kIncompatible = offsetof(qcow2::format::Header, incompatible_features) + 7;
constexpr uint64_t kL1Offset = offsetof(qcow2::format::Header, l1_offset) + 7;

TEST_F(DiskTest, BrokenImageNamesTheRepair) {
  const std::string image = make("it's");
  damage(image, kL1Offset, 1);
  const std::string quoted = folder_.file("it'\\''s");
  EXPECT_EQ(open(image), "Could not open '" + image +
                             "': Active L1 table offset invalid\n  calf-img check -r all '" +
                             quoted + "' may repair it; copy the file first");
  damage(image, kL1Offset, 0);
  EXPECT_EQ(open(image), "");
  damage(image, kIncompatible, 2);
  EXPECT_THAT(open(image), HasSubstr("check -r all"));
}

TEST_F(DiskTest, BrokenBaseIsTheOneToRepair) {
  make("base");
  const std::string overlay = make("overlay", "base");
  damage(folder_.file("base"), kL1Offset, 1);
  EXPECT_THAT(open(overlay, true), HasSubstr("check -r all '" + folder_.file("base") + "'"));
}

TEST_F(DiskTest, OtherErrorsAskForNoRepair) {
  // An unknown feature is no damage, and neither is a chain that bites its tail.
  const std::string image = make("image");
  damage(image, kIncompatible, 0x40);
  EXPECT_THAT(open(image), Not(HasSubstr("check -r")));
  make("base");
  const std::string loop = make("loop", "base");
  std::filesystem::remove(folder_.file("base"));
  std::filesystem::create_symlink("loop", folder_.file("base"));
  EXPECT_THAT(open(loop), testing::AllOf(HasSubstr("infinite loop"), Not(HasSubstr("check -r"))));
  EXPECT_THAT(open(folder_.file("nowhere")), Not(HasSubstr("check -r")));
}

}  // namespace
}  // namespace calf::vmm
