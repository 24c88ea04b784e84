// Single operations on an image, against what a reader sees afterwards.
#include "block/qcow2/image.h"

#include "block/qcow2/read_header.h"
#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::pattern;

class QcowImage : public test::ImageTest {};

TEST_F(QcowImage, NewImageReadsAsZeroesAndIsClean) {
  CreateOptions options;
  options.size = 64 << 20;
  auto disk = make(options);
  EXPECT_EQ(disk->content.size(), 196616u);
  auto image = open(disk);
  ASSERT_OK(image);
  auto bytes = read(**image, 12345, 100000);
  ASSERT_OK(bytes);
  EXPECT_EQ(*bytes, Bytes(100000, 0));
  EXPECT_OK(close(**image));
  expect_clean(disk);
}

TEST_F(QcowImage, NewImageOnADeviceHidesWhatWasThere) {
  for (block::Preallocation preallocation :
       {block::Preallocation::kOff, block::Preallocation::kMetadata}) {
    auto disk = std::make_shared<test::SimulatedDisk>();
    disk->content.write(0, Bytes(4 << 20, 0xff));
    test::SimulatedFile::Options device;
    device.fixed_size = true;
    test::SimulatedFile node(executor(), disk, device);
    CreateOptions options;
    options.size = 3 << 20;
    // Two L1 entries are in use.
    options.cluster_size = 16384;
    options.preallocation = preallocation;
    auto create_on = [](Executor* executor, block::Node* file,
                        const CreateOptions* how) -> Async<> {
      co_return co_await create(*executor, *file, *how);
    };
    ASSERT_OK(run(create_on(&executor(), &node, &options)));
    expect_clean(disk);
    OpenOptions writable;
    writable.writable = true;
    auto image = open(disk, std::move(writable), device);
    ASSERT_OK(image);
    EXPECT_TRUE(*read(**image, 0, options.size) == Bytes(options.size, 0));
    ASSERT_OK(write(**image, 100, pattern(1, 200)));
    ASSERT_OK(zero(**image, {1 << 20, 100000}, true));
    ASSERT_OK(run((*image)->create_snapshot({"one"})));
    ASSERT_OK(write(**image, 65536, pattern(2, 200000)));
    ASSERT_OK(close(**image));
    expect_clean(disk);
  }
}

// Short headers are read in one small piece; where that is not enough nothing is lost.
TEST_F(QcowImage, AHeaderOfAnyLengthIsReadWhole) {
  CreateOptions options;
  options.size = 1 << 20;
  options.backing_name = std::string(300, 'b');
  options.backing_format = "raw";
  for (size_t length : {0, 2000, 3000, 3200, 3240, 3248, 3256, 3300, 4000, 5000, 60000}) {
    auto disk = make(options);
    test::SimulatedFile node(executor(), disk, {});
    auto read_from = [](block::Node* file) -> Async<HeaderBytes> {
      co_return co_await read_header(*file);
    };
    auto before = run(read_from(&node));
    ASSERT_OK(before);
    Header header = before->header;
    header.extensions.push_back({0x12345678, pattern(1, length)});
    auto bytes = serialize_header(header);
    ASSERT_OK(bytes);
    disk->content.write(0, *bytes);
    auto after = run(read_from(&node));
    ASSERT_OK(after);
    EXPECT_EQ(after->header.backing_name, options.backing_name) << length;
    EXPECT_EQ(after->header.backing_format, options.backing_format) << length;
    const Extension* extension = after->header.find(0x12345678);
    ASSERT_NE(extension, nullptr) << length;
    EXPECT_EQ(extension->data, pattern(1, length)) << length;
    if (length < 2000) {
      EXPECT_LE(after->cluster0.size(), 4096u);
    }
  }
}

TEST_F(QcowImage, WritesAreReadBackAndSurviveReopening) {
  CreateOptions options;
  options.size = 8 << 20;
  auto disk = make(options);
  {
    auto image = open(disk);
    ASSERT_OK(image);
    EXPECT_OK(write(**image, 70000, pattern(1, 200000)));
    EXPECT_EQ(*read(**image, 70000, 200000), pattern(1, 200000));
    EXPECT_EQ(*read(**image, 65536, 4464), Bytes(4464, 0));
    EXPECT_OK(close(**image));
  }
  expect_clean(disk);
  auto image = open(disk);
  ASSERT_OK(image);
  EXPECT_EQ(*read(**image, 70000, 200000), pattern(1, 200000));
  EXPECT_OK(close(**image));
}

TEST_F(QcowImage, CompressedClustersAreReadBack) {
  for (Compression compression : {Compression::kZlib, Compression::kZstd}) {
    CreateOptions options;
    options.size = (1 << 20) + 512;
    options.compression = compression;
    auto disk = make(options);
    auto image = open(disk);
    ASSERT_OK(image);
    Bytes text(65536);
    for (size_t i = 0; i < text.size(); ++i)
      text[i] = static_cast<uint8_t>("calf "[i % 5] + i / 4096);
    EXPECT_OK(write_compressed(**image, 0, text));
    EXPECT_OK(write_compressed(**image, 65536, pattern(3, 65536)));
    EXPECT_OK(write_compressed(**image, 131072, text));
    EXPECT_OK(write_compressed(**image, 1 << 20, Bytes(512, 7)));
    EXPECT_EQ(*read(**image, 0, 65536), text);
    EXPECT_EQ(*read(**image, 65536, 65536), pattern(3, 65536));
    EXPECT_OK(write(**image, 131072 + 100, pattern(4, 100)));
    EXPECT_OK(close(**image));
    expect_clean(disk);
    image = open(disk);
    Bytes mixed = text;
    Bytes patch = pattern(4, 100);
    std::copy(patch.begin(), patch.end(), mixed.begin() + 100);
    EXPECT_EQ(*read(**image, 131072, 65536), mixed);
    EXPECT_EQ(*read(**image, 1 << 20, 512), Bytes(512, 7));
    EXPECT_OK(close(**image));
  }
}

TEST_F(QcowImage, DiscardAndZeroNeverUncoverTheBase) {
  for (unsigned version : {2u, 3u}) {
    CreateOptions options;
    options.size = 1 << 20;
    options.version = version;
    auto base_disk = make(options);
    auto base = open(base_disk);
    ASSERT_OK(write(**base, 0, pattern(9, 1 << 20)));
    auto disk = make(options);
    auto image = open(disk);
    (*image)->set_backing(std::move(*base));
    EXPECT_OK(write(**image, 65536, pattern(1, 131072)));
    EXPECT_OK(discard(**image, {65536, 65536}));
    EXPECT_OK(zero(**image, {131072, 65536}, true));
    EXPECT_OK(zero(**image, {1000, 3000}, false));
    EXPECT_OK(zero(**image, {262144, 131072}, false));
    Bytes after = *read(**image, 65536, 65536);
    EXPECT_TRUE(after == Bytes(65536, 0) || after == Bytes(pattern(1, 65536)));
    EXPECT_EQ(*read(**image, 131072, 65536), Bytes(65536, 0));
    EXPECT_EQ(*read(**image, 1000, 3000), Bytes(3000, 0));
    EXPECT_EQ(*read(**image, 262144, 131072), Bytes(131072, 0));
    Bytes all = pattern(9, 1 << 20);
    EXPECT_EQ(*read(**image, 0, 1000), Bytes(all.begin(), all.begin() + 1000));
    EXPECT_EQ(*read(**image, 4000, 61536), Bytes(all.begin() + 4000, all.begin() + 65536));
    EXPECT_OK(close(**image));
    expect_clean(disk);
  }
}

TEST_F(QcowImage, BackingShorterAndLongerThanTheOverlay) {
  CreateOptions options;
  options.size = 100 * 512;
  auto base_disk = make(options);
  auto base = open(base_disk);
  ASSERT_OK(write(**base, 0, pattern(9, 100 * 512)));
  EXPECT_OK(close(**base));
  for (uint64_t size : {uint64_t{50 * 512}, uint64_t{1} << 20}) {
    CreateOptions over;
    over.size = size;
    auto disk = make(over);
    auto image = open(disk);
    auto again = open(base_disk);
    (*image)->set_backing(std::move(*again));
    Bytes want = pattern(9, 100 * 512);
    want.resize(size);
    EXPECT_EQ(*read(**image, 0, size), want);
    EXPECT_OK(write(**image, 512, pattern(2, 512)));
    Bytes patch = pattern(2, 512);
    std::copy(patch.begin(), patch.end(), want.begin() + 512);
    EXPECT_EQ(*read(**image, 0, size), want);
    // Growing shows zeroes, not what the base has there.
    EXPECT_OK(run((*image)->truncate(size + 65536, block::Preallocation::kOff)));
    want.resize(size + 65536);
    EXPECT_EQ(*read(**image, 0, size + 65536), want);
    EXPECT_OK(close(**image));
    expect_clean(disk);
  }
}

}  // namespace
}  // namespace calf::qcow2
