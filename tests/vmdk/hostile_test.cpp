// Lies in a sparse vmdk file: each ends in an error, and costs no more than the file's own bytes.

#include <gtest/gtest.h>

#include "block/vmdk/image.h"
#include "tests/support/image_fixture.h"
#include "tests/support/vmdk_builder.h"

namespace calf::vmdk {
namespace {

using test::VmdkFile;

struct Lie {
  const char* name;
  void (*tell)(VmdkFile&);
  // Found at open, or when the first grain is read.
  bool opens;
};

const Lie kLies[] = {
    {"MagicOfEsx2", [](VmdkFile& v) { v.header.magic = format::kMagicCowd; }, false},
    {"VersionFour", [](VmdkFile& v) { v.header.version = 4U; }, false},
    {"LineEndsConverted", [](VmdkFile& v) { v.header.line_ends[2] = '\n'; }, false},
    {"NoGrainSize", [](VmdkFile& v) { v.header.grain_size = uint64_t{0}; }, false},
    {"GrainSizeOdd", [](VmdkFile& v) { v.header.grain_size = uint64_t{9}; }, false},
    {"GrainSizeHuge", [](VmdkFile& v) { v.header.grain_size = uint64_t{1} << 40; }, false},
    {"NoTableEntries", [](VmdkFile& v) { v.header.table_entries = 0U; }, false},
    {"TooManyTableEntries", [](VmdkFile& v) { v.header.table_entries = 513U; }, false},
    {"CapacityOverflows", [](VmdkFile& v) { v.header.capacity = UINT64_MAX; }, false},
    {"DirectoryAboveItsLimit",
     [](VmdkFile& v) {
       v.header.capacity = uint64_t{1} << 50;
       v.header.table_entries = 1U;
     },
     false},
    {"DirectoryBehindTheEnd", [](VmdkFile& v) { v.header.capacity = uint64_t{1} << 30; }, false},
    {"DirectoryOffsetOverflows", [](VmdkFile& v) { v.header.directory_offset = UINT64_MAX - 1; },
     false},
    {"FooterMissing", [](VmdkFile& v) { v.header.directory_offset = format::kDirectoryAtEnd; },
     false},
    {"DescriptorBehindTheEnd", [](VmdkFile& v) { v.header.descriptor_offset = uint64_t{1} << 40; },
     false},
    {"DescriptorSizeHuge", [](VmdkFile& v) { v.header.descriptor_size = UINT64_MAX; }, false},
    {"NoDescriptor", [](VmdkFile& v) { v.header.descriptor_offset = uint64_t{0}; }, false},
    {"DescriptorEmpty", [](VmdkFile& v) { v.descriptor = ""; }, false},
    {"TypeOfADescriptorFile",
     [](VmdkFile& v) {
       v.descriptor.replace(v.descriptor.find("monolithicSparse"), 16, "monolithicFlat\"#");
     },
     false},
    {"CompressedWithoutMarkers",
     [](VmdkFile& v) {
       v.header.flags = format::kCompressed;
       v.header.compression = format::kDeflate;
     },
     false},
    {"CompressionUnknown",
     [](VmdkFile& v) {
       v.header.flags = format::kCompressed | format::kMarkers;
       v.header.compression = uint16_t{9};
     },
     false},
    {"GrainBehindTheEnd", [](VmdkFile& v) { v.table[0] = UINT32_MAX; }, true},
    {"CompressedGrainLongerThanTheFile",
     [](VmdkFile& v) {
       v.header.flags = format::kCompressed | format::kMarkers;
       v.header.compression = format::kDeflate;
       v.table[0] = v.next_sector();
       v.data = std::string(512, '\xff');
     },
     true},
    {"CompressedGrainIsNoise",
     [](VmdkFile& v) {
       v.header.flags = format::kCompressed | format::kMarkers;
       v.header.compression = format::kDeflate;
       v.table[0] = v.next_sector();
       v.data = std::string(8, '\0') + std::string("\x10\0\0\0", 4) + std::string(500, 'n');
     },
     true},
};

class VmdkHostileTest : public test::ImageBench, public testing::TestWithParam<Lie> {};

TEST_P(VmdkHostileTest, EndsInAnError) {
  VmdkFile vmdk;
  GetParam().tell(vmdk);
  std::string bytes = vmdk.bytes();
  auto disk = std::make_shared<test::SimulatedDisk>();
  disk->content.write(0, {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  test::SimulatedFile::Options options;
  options.writable = false;
  std::unique_ptr<block::Node> file =
      std::make_unique<test::SimulatedFile>(executor(), disk, options);
  OpenExtent nobody;
  auto image = run(Image::open(executor(), std::move(file), std::move(nobody)));
  ASSERT_EQ(image.ok(), GetParam().opens) << (image.ok() ? "" : image.error().message());
  if (!image.ok()) return;
  EXPECT_FALSE(read(**image, 0, 512).ok());
}

INSTANTIATE_TEST_SUITE_P(Lies, VmdkHostileTest, testing::ValuesIn(kLies),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace calf::vmdk
