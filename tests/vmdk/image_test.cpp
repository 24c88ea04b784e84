#include "block/vmdk/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libdeflate.h>

#include "tests/support/image_fixture.h"
#include "tests/support/vmdk_builder.h"

namespace calf::vmdk {
namespace {

using test::VmdkFile;

std::string deflated(const std::string& plain) {
  libdeflate_compressor* compressor = libdeflate_alloc_compressor(6);
  std::string out(libdeflate_zlib_compress_bound(compressor, plain.size()), '\0');
  out.resize(
      libdeflate_zlib_compress(compressor, plain.data(), plain.size(), out.data(), out.size()));
  libdeflate_free_compressor(compressor);
  return out;
}

Async<std::unique_ptr<block::Node>> give(std::unique_ptr<block::Node> node) {
  co_return node;
}

class VmdkImageTest : public test::ImageTest {
 protected:
  std::unique_ptr<block::Node> file_of(const std::string& bytes) {
    auto disk = std::make_shared<test::SimulatedDisk>();
    disk->content.write(0, {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    test::SimulatedFile::Options options;
    options.writable = false;
    options.max_yields = 3;
    return std::make_unique<test::SimulatedFile>(executor(), disk, options);
  }
  Result<std::unique_ptr<Image>> open_image(const std::string& bytes, OpenExtent others = {}) {
    return run(Image::open(executor(), file_of(bytes), std::move(others)));
  }
  std::string read_text(block::Node& node, uint64_t offset, size_t size) {
    Result<test::Bytes> bytes = read(node, offset, size);
    EXPECT_OK(bytes);
    return bytes.ok() ? std::string(bytes->begin(), bytes->end()) : "";
  }
};

TEST_F(VmdkImageTest, GrainsZeroGrainsAndHoles) {
  VmdkFile vmdk;
  vmdk.header.flags = vmdk.header.flags | format::kZeroGrains;
  vmdk.table[1] = vmdk.next_sector();
  vmdk.data += std::string(4096, 'a');
  vmdk.table[2] = vmdk.next_sector();
  vmdk.data += std::string(4096, 'b');
  vmdk.table[3] = format::kZeroGrain;
  auto image = open_image(vmdk.bytes());
  ASSERT_OK(image);
  EXPECT_EQ((*image)->size(), 32768U);
  EXPECT_EQ(read_text(**image, 4090, 20), std::string(6, '\0') + std::string(14, 'a'));
  EXPECT_EQ(read_text(**image, 8190, 4), "aabb");
  EXPECT_EQ(read_text(**image, 12286, 4), std::string("bb\0\0", 4));
  ByteRange rest{4096, 28672};
  Result<block::Extent> extent = run((*image)->map(rest));
  ASSERT_OK(extent);
  EXPECT_EQ(extent->range, (ByteRange{4096, 8192})) << "neighbours in the file are one run";
  EXPECT_EQ(extent->host_offset, 4096U);
  rest = {12288, 20480};
  extent = run((*image)->map(rest));
  ASSERT_OK(extent);
  EXPECT_TRUE(extent->zero && extent->allocated && !extent->data);
  rest = {16384, 16384};
  extent = run((*image)->map(rest));
  EXPECT_FALSE(extent->allocated);
  EXPECT_EQ(extent->range, rest);
}

TEST_F(VmdkImageTest, CompressedGrainsBehindMarkersAndAFooter) {
  VmdkFile vmdk;
  vmdk.header.flags = format::kNewlineTest | format::kCompressed | format::kMarkers;
  vmdk.header.compression = format::kDeflate;
  std::string plain(4096, 'x');
  plain.replace(100, 5, "hello");
  std::string packed = deflated(plain);
  format::GrainMarker marker;
  marker.size = static_cast<uint32_t>(packed.size());
  vmdk.table[2] = vmdk.next_sector();
  vmdk.data += std::string(reinterpret_cast<const char*>(&marker), sizeof marker) + packed;
  vmdk.data.resize(align_up(vmdk.data.size(), 512));
  format::Marker footer{};
  footer.sectors = uint64_t{1};
  footer.type = format::kMarkerFooter;
  vmdk.data += std::string(reinterpret_cast<const char*>(&footer), sizeof footer);
  vmdk.data += std::string(reinterpret_cast<const char*>(&vmdk.header), sizeof vmdk.header);
  vmdk.data += std::string(512, '\0');
  vmdk.header.directory_offset = format::kDirectoryAtEnd;
  auto image = open_image(vmdk.bytes());
  ASSERT_OK(image);
  EXPECT_EQ(read_text(**image, 8192 + 98, 9), "xxhelloxx");
  ByteRange grain{8192, 24576};
  Result<block::Extent> extent = run((*image)->map(grain));
  ASSERT_OK(extent);
  EXPECT_TRUE(extent->encoded && extent->data && !extent->host_offset);
  EXPECT_EQ(extent->range.length, 4096U);
}

TEST_F(VmdkImageTest, ExtentsOneAfterAnother) {
  std::string text =
      "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
      "createType=\"twoGbMaxExtentFlat\"\n"
      "RW 2 FLAT \"one\" 1\nRW 1 ZERO\nRW 2 FLAT \"one\" 0\n";
  unsigned opened = 0;
  auto image = open_image(text, [&](std::string name) {
    EXPECT_EQ(name, "one");
    ++opened;
    return give(file_of(std::string(512, 'p') + std::string(512, 'q')));
  });
  ASSERT_OK(image);
  EXPECT_EQ(opened, 1U);
  EXPECT_EQ((*image)->size(), 5 * 512U);
  EXPECT_EQ(read_text(**image, 511, 2), std::string("q\0", 2)) << "zeroes behind the file's end";
  EXPECT_EQ(read_text(**image, 1535, 2), std::string("\0p", 2));
  EXPECT_EQ(read_text(**image, 2047, 2), "pq");
  EXPECT_FALSE(open_image(text).ok()) << "nobody opens other files";
}

TEST_F(VmdkImageTest, AParentThatWasChangedIsNotRead) {
  VmdkFile child;
  child.descriptor.replace(child.descriptor.find("ffffffff"), 8, "00000007");
  for (uint32_t cid : {7U, 8U}) {
    VmdkFile base;
    base.descriptor.replace(base.descriptor.find("CID=00000001"), 12,
                            fmt::format("CID={:08x}", cid));
    base.table[0] = base.next_sector();
    base.data += std::string(4096, 'z');
    auto below = open_image(base.bytes());
    auto image = open_image(child.bytes());
    ASSERT_OK(below);
    ASSERT_OK(image);
    (*image)->set_backing(std::move(*below));
    Result<test::Bytes> bytes = read(**image, 0, 4);
    EXPECT_EQ(bytes.ok(), cid == 7);
  }
}

}  // namespace
}  // namespace calf::vmdk
