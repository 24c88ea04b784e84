// Subclusters, data files and bitmaps that lie.
#include <gtest/gtest.h>

#include "block/base/endian.h"
#include "block/qcow2/bitmap_store.h"
#include "block/qcow2/format.h"
#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::pattern;

constexpr uint64_t kCluster = 65536;
constexpr uint64_t kL2 = 4 * kCluster;

class HostileFeature : public test::ImageTest {
 protected:
  // 1 MiB with one data cluster at guest offset 0.
  void make_image(CreateOptions options) {
    options.size = 1 << 20;
    disk_ = make(options, &data_);
    auto image = open_image(true);
    ASSERT_OK(image);
    ASSERT_OK(write(**image, 0, pattern(1, kCluster)));
    ASSERT_OK(close(**image));
    messages.clear();
  }
  Result<std::unique_ptr<Image>> open_image(bool writable) {
    OpenOptions options;
    options.writable = writable;
    TRY(auto image, open(disk_, std::move(options)));
    if (data_) {
      test::SimulatedFile::Options file;
      file.writable = writable;
      image->set_data_file(
          std::make_unique<test::SimulatedFile>(executor(), data_, std::move(file)));
    }
    return image;
  }
  void put64(uint64_t offset, uint64_t value) {
    be64 raw = value;
    disk_->content.write(offset, std::span(reinterpret_cast<const uint8_t*>(&raw), 8));
  }
  void put32(uint64_t offset, uint32_t value) {
    be32 raw = value;
    disk_->content.write(offset, std::span(reinterpret_cast<const uint8_t*>(&raw), 4));
  }
  uint64_t get64(uint64_t offset) {
    be64 raw;
    disk_->content.read(offset, std::span(reinterpret_cast<uint8_t*>(&raw), 8));
    return raw;
  }
  // Reading and writing there is EIO; check names it.
  void expect_damaged(uint64_t offset, const std::string& message, const std::string& finding) {
    auto image = open_image(false);
    ASSERT_OK(image);
    EXPECT_EQ(read(**image, offset, 512).error().sys_errno(), EIO);
    EXPECT_FALSE(run((*image)->map({offset, 512})).ok());
    ASSERT_OK(close(**image));
    image = open_image(true);
    ASSERT_OK(image);
    EXPECT_FALSE(write(**image, offset, pattern(2, 512)).ok());
    EXPECT_FALSE(zero(**image, {offset, kCluster}, true).ok());
    (void)close(**image);
    ASSERT_FALSE(messages.empty());
    EXPECT_NE(messages[0].find(message), std::string::npos) << messages[0];
    messages.clear();
    auto result = check(disk_);
    ASSERT_OK(result);
    EXPECT_GT(result->corruptions, 0u);
    ASSERT_FALSE(messages.empty());
    EXPECT_NE(messages[0].find(finding), std::string::npos) << messages[0];
  }

  std::shared_ptr<test::SimulatedDisk> disk_;
  std::shared_ptr<test::SimulatedDisk> data_;
};

// ---- Subclusters ----

class HostileSubcluster : public HostileFeature {
 protected:
  void SetUp() override {
    CreateOptions options;
    options.extended_l2 = true;
    make_image(options);
  }
};

TEST_F(HostileSubcluster, AllocatedAndZeroAtOnce) {
  put64(kL2 + 8, 0x0000000100000001);
  expect_damaged(0, "Invalid cluster entry found",
                 "Allocated cluster has corrupted subcluster allocation bitmap");
}
TEST_F(HostileSubcluster, AllocatedWithoutACluster) {
  put64(kL2 + 16 + 8, 1);
  expect_damaged(kCluster, "Invalid cluster entry found",
                 "Unallocated cluster has non-zero subcluster allocation map");
}
TEST_F(HostileSubcluster, OffsetUnaligned) {
  put64(kL2, (5 * kCluster + 2048) | format::kCopied);
  expect_damaged(0, "Cluster allocation offset 0x50800 unaligned",
                 "Data cluster is not properly aligned");
}
TEST_F(HostileSubcluster, CompressedWithSubclusters) {
  auto image = open_image(true);
  ASSERT_OK(image);
  ASSERT_OK(write_compressed(**image, kCluster, Bytes(kCluster, 3)));
  ASSERT_OK(close(**image));
  put64(kL2 + 16 + 8, 5);
  auto result = check(disk_);
  ASSERT_OK(result);
  EXPECT_EQ(result->corruptions, 1u);
  EXPECT_NE(messages[0].find("non-zero subcluster allocation bitmap"), std::string::npos);
  image = open_image(false);
  EXPECT_EQ(*read(**image, kCluster, kCluster), Bytes(kCluster, 3));
  ASSERT_OK(close(**image));
}
TEST_F(HostileSubcluster, TheOldZeroFlagMeansNothing) {
  put64(kL2, get64(kL2) | format::kZero);
  auto image = open_image(false);
  EXPECT_EQ(*read(**image, 0, kCluster), pattern(1, kCluster));
  ASSERT_OK(close(**image));
  auto result = check(disk_);
  ASSERT_OK(result);
  EXPECT_EQ(result->corruptions, 1u);
}

// ---- Data files ----

class HostileDataFile : public HostileFeature {
 protected:
  void SetUp() override {
    CreateOptions options;
    options.data_file = "data";
    make_image(options);
  }
};

TEST_F(HostileDataFile, EntryThatIsNotAtTheGuestsOffset) {
  put64(kL2, (2 * kCluster) | format::kCopied);
  auto image = open_image(false);
  ASSERT_OK(image);
  EXPECT_EQ(read(**image, 0, 512).error().sys_errno(), EIO);
  ASSERT_OK(close(**image));
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_NE(messages[0].find("External data file host cluster offset 0x20000 does not match guest "
                             "cluster offset: 0"),
            std::string::npos)
      << messages[0];
}
TEST_F(HostileDataFile, CompressedCluster) {
  put64(kL2, format::kCompressed | (5 * kCluster));
  expect_damaged(0, "Invalid cluster entry found", "ERROR compressed cluster 0 with data file");
}
TEST_F(HostileDataFile, WithoutTheFileNothingIsRead) {
  auto image = open(disk_, OpenOptions{});
  ASSERT_OK(image);
  auto bytes = read(**image, 0, 512);
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().message(), "'data-file' is required for this image");
  ASSERT_OK(close(**image));
}
TEST_F(HostileDataFile, AFileThatIsTooShortReadsAsZeroes) {
  data_->content.resize(512);
  auto image = open_image(true);
  ASSERT_OK(image);
  Bytes wanted = pattern(1, 512);
  wanted.resize(kCluster);
  EXPECT_EQ(*read(**image, 0, kCluster), wanted);
  ASSERT_OK(write(**image, 700000, pattern(2, 512)));
  EXPECT_EQ(*read(**image, 700000, 512), pattern(2, 512));
  ASSERT_OK(close(**image));
}

// ---- Bitmaps ----

class HostileBitmap : public HostileFeature {
 protected:
  void SetUp() override {
    make_image({});
    auto image = open_image(true);
    ASSERT_OK(image);
    ASSERT_OK((*image)->bitmaps().add("b0", 9));
    ASSERT_OK((*image)->bitmaps().add("b1", 16));
    ASSERT_OK(write(**image, 512, pattern(1, 512)));
    ASSERT_OK(close(**image));
    // The extension is the last one: behind the header, the feature names and their heads.
    extension_ = 112 + 8 + 384 + 8;
    directory_ = get64(extension_ + 16);
    table_ = get64(directory_);
  }
  // Nobody opens the image; check reports it.
  void expect_refused(const std::string& message) {
    auto image = open_image(true);
    ASSERT_FALSE(image.ok());
    EXPECT_NE(image.error().message().find(message), std::string::npos) << image.error().message();
    EXPECT_FALSE(open_image(false).ok());
    messages.clear();
    auto result = check(disk_);
    ASSERT_OK(result);
    EXPECT_GT(result->corruptions, 0u);
  }
  // The image is usable, its bitmap is not.
  void expect_inconsistent() {
    auto image = open_image(true);
    ASSERT_OK(image);
    EXPECT_FALSE(run((*image)->bitmaps().bits("b0")).ok());
    ASSERT_OK(write(**image, 100000, pattern(2, 512)));
    ASSERT_OK(close(**image));
    image = open_image(true);
    ASSERT_OK(image);
    auto infos = (*image)->info().bitmaps;
    ASSERT_EQ(infos.size(), 2u);
    EXPECT_TRUE(infos[0].in_use);
    EXPECT_FALSE(infos[1].in_use);
    EXPECT_OK(run((*image)->bitmaps().remove("b0")));
    ASSERT_OK(close(**image));
    auto result = check(disk_);
    ASSERT_OK(result);
    EXPECT_EQ(result->corruptions, 0u);
  }

  uint64_t extension_ = 0;
  uint64_t directory_ = 0;
  uint64_t table_ = 0;
};

TEST_F(HostileBitmap, CountZero) {
  put32(extension_, 0);
  expect_refused("invalid number of bitmaps");
}
TEST_F(HostileBitmap, CountTooLarge) {
  put32(extension_, 65536);
  expect_refused("invalid number of bitmaps");
}
TEST_F(HostileBitmap, CountBeyondTheDirectory) {
  put32(extension_, 3);
  expect_refused("Broken bitmap directory");
}
TEST_F(HostileBitmap, DirectoryTooLarge) {
  put64(extension_ + 8, (64 << 20) + 1);
  expect_refused("invalid bitmap directory");
}
TEST_F(HostileBitmap, DirectoryOutsideTheFile) {
  put64(extension_ + 16, uint64_t{1} << 40);
  expect_refused("invalid bitmap directory");
}
TEST_F(HostileBitmap, DirectoryUnaligned) {
  put64(extension_ + 16, directory_ + 512);
  expect_refused("invalid bitmap directory");
}
TEST_F(HostileBitmap, GranularityTooSmall) {
  const uint8_t bits = 8;
  disk_->content.write(directory_ + 17, std::span(&bits, 1));
  expect_refused("Bitmap 'b0' doesn't satisfy the constraints");
}
TEST_F(HostileBitmap, GranularityTooLarge) {
  const uint8_t bits = 32;
  disk_->content.write(directory_ + 17, std::span(&bits, 1));
  expect_refused("Bitmap 'b0' doesn't satisfy the constraints");
}
TEST_F(HostileBitmap, UnknownFlags) {
  put32(directory_ + 12, 8);
  expect_refused("Bitmap 'b0' doesn't satisfy the constraints");
}
TEST_F(HostileBitmap, NameTooLong) {
  const uint8_t length[2] = {4, 0};
  disk_->content.write(directory_ + 18, length);
  expect_refused("Broken bitmap directory");
}
TEST_F(HostileBitmap, ExtraDataBeyondTheDirectory) {
  put32(directory_ + 20, UINT32_MAX);
  expect_refused("Broken bitmap directory");
}
TEST_F(HostileBitmap, TableUnaligned) {
  put64(directory_, table_ + 512);
  expect_refused("Bitmap 'b0' doesn't satisfy the constraints");
}
TEST_F(HostileBitmap, TableTooLarge) {
  put32(directory_ + 8, UINT32_MAX);
  expect_refused("Bitmap 'b0' doesn't satisfy the constraints");
}
TEST_F(HostileBitmap, TableOfAnotherSize) {
  put32(directory_ + 8, 100);
  expect_inconsistent();
}
TEST_F(HostileBitmap, TableOutsideTheFile) {
  put64(directory_, uint64_t{1} << 50);
  expect_inconsistent();
}
TEST_F(HostileBitmap, BitsOutsideTheFile) {
  put64(table_, uint64_t{1} << 50);
  expect_inconsistent();
}
TEST_F(HostileBitmap, BitsUnaligned) {
  put64(table_, get64(table_) + 512);
  expect_inconsistent();
}
TEST_F(HostileBitmap, BitsOnMetadata) {
  put64(table_, kL2);
  expect_inconsistent();
}
TEST_F(HostileBitmap, TableOnMetadata) {
  put64(directory_, kL2);
  expect_inconsistent();
}
TEST_F(HostileBitmap, AllOnesCostNothing) {
  // A bitmap of 8 TiB at 512 bytes, in a file that says it is all ones.
  CreateOptions options;
  options.cluster_size = 2 << 20;
  options.size = uint64_t{2} << 40;
  data_.reset();
  disk_ = make(options);
  auto image = open_image(true);
  ASSERT_OK(image);
  ASSERT_OK((*image)->bitmaps().add("b0", 9));
  ASSERT_OK((*image)->bitmaps().add("b1", 9));
  ASSERT_OK(write(**image, 0, pattern(1, 512)));
  ASSERT_OK(close(**image));
  const uint64_t table = get64(get64(112 + 8 + 384 + 8 + 16));
  for (uint64_t i = 0; i < 256; ++i)
    put64(table + 8 * i, format::kBitmapAllOnes);
  image = open_image(true);
  ASSERT_OK(image);
  auto bits = run((*image)->bitmaps().bits("b0"));
  ASSERT_OK(bits);
  EXPECT_TRUE((*bits)->is_set(uint64_t{1} << 40));
  EXPECT_OK(run((*image)->bitmaps().merge("b1", *bits)));
  ASSERT_OK(close(**image));
}
TEST_F(HostileBitmap, AutoclearBitOffMeansNoBitmaps) {
  put64(88, 0);
  auto image = open_image(true);
  ASSERT_OK(image);
  EXPECT_TRUE((*image)->info().bitmaps.empty());
  ASSERT_OK((*image)->bitmaps().add("b0", 16));
  ASSERT_OK(close(**image));
  auto result = check(disk_);
  ASSERT_OK(result);
  EXPECT_EQ(result->corruptions, 0u);
  EXPECT_GT(result->leaks, 0u);
}

}  // namespace
}  // namespace calf::qcow2
