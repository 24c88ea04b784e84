// Headers, names and lists that lie: each is refused with the words of the contract, and nothing is
// allocated, read or looped over for what it claims.
#include <gtest/gtest.h>

#include "block/base/endian.h"
#include "block/qcow2/format.h"
#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

struct Lie {
  const char* name;
  void (*tell)(test::Content& content);
  // Part of the error's text; null: it must open.
  const char* error;
  bool writable = false;
};

template <class T>
void put(test::Content& content, uint64_t offset, T value) {
  content.write(offset, std::span(reinterpret_cast<const uint8_t*>(&value), sizeof value));
}
void put32(test::Content& c, uint64_t offset, uint32_t value) {
  put(c, offset, be32(value));
}
void put64(test::Content& c, uint64_t offset, uint64_t value) {
  put(c, offset, be64(value));
}

constexpr Lie kLies[] = {
    {"empty", [](test::Content& c) { c.resize(0); }, "Image is not in qcow2 format"},
    {"short_file", [](test::Content& c) { c.resize(71); }, "Image is not in qcow2 format"},
    {"magic", [](test::Content& c) { put32(c, 0, 0x514649fa); }, "Image is not in qcow2 format"},
    {"version_1", [](test::Content& c) { put32(c, 4, 1); }, "Unsupported qcow2 version 1"},
    {"version_4", [](test::Content& c) { put32(c, 4, 4); }, "Unsupported qcow2 version 4"},
    {"cluster_bits_8", [](test::Content& c) { put32(c, 20, 8); }, "Unsupported cluster size: 2^8"},
    {"cluster_bits_22", [](test::Content& c) { put32(c, 20, 22); },
     "Unsupported cluster size: 2^22"},
    {"cluster_bits_huge", [](test::Content& c) { put32(c, 20, 0xffffffff); },
     "Unsupported cluster size: 2^4294967295"},
    {"header_length_small", [](test::Content& c) { put32(c, 100, 96); }, "qcow2 header too short"},
    {"header_length_large", [](test::Content& c) { put32(c, 100, 65544); },
     "qcow2 header exceeds cluster size"},
    {"header_length_max", [](test::Content& c) { put32(c, 100, 0xfffffff8); },
     "qcow2 header exceeds cluster size"},
    {"refcount_order", [](test::Content& c) { put32(c, 96, 7); },
     "Reference count entry width too large"},
    {"unknown_feature", [](test::Content& c) { put64(c, 72, uint64_t{1} << 40); },
     "Unsupported qcow2 feature(s): Unknown incompatible feature: 10000000000"},
    {"corrupt_for_writing", [](test::Content& c) { put64(c, 72, format::kCorrupt); },
     "Image is corrupt; cannot be opened read/write", true},
    {"corrupt_for_reading", [](test::Content& c) { put64(c, 72, format::kCorrupt); }, nullptr},
    {"encryption_3", [](test::Content& c) { put32(c, 32, 3); }, "Unsupported encryption method 3"},
    {"encryption_aes_without_a_key", [](test::Content& c) { put32(c, 32, 1); },
     "'encrypt.key-secret' is required"},
    {"raw_data_file_without_data_file",
     [](test::Content& c) { put64(c, 88, format::kRawExternalData); },
     "data-file-raw requires a data file"},
    {"extended_l2_with_small_clusters",
     [](test::Content& c) {
       put32(c, 20, 13);
       put64(c, 72, format::kExtendedL2);
     },
     "with extended L2 entries"},
    {"no_refcount_table", [](test::Content& c) { put32(c, 56, 0); },
     "Image does not contain a reference count table"},
    {"refcount_table_large", [](test::Content& c) { put32(c, 56, 129); },
     "Reference count table too large"},
    {"refcount_table_max", [](test::Content& c) { put32(c, 56, 0xffffffff); },
     "Reference count table too large"},
    {"refcount_table_unaligned", [](test::Content& c) { put64(c, 48, 65537); },
     "Reference count table offset invalid"},
    {"refcount_table_outside", [](test::Content& c) { put64(c, 48, uint64_t{1} << 40); },
     "Reference count table offset invalid"},
    {"refcount_table_at_0", [](test::Content& c) { put64(c, 48, 0); },
     "Reference count table offset invalid"},
    {"snapshots_many", [](test::Content& c) { put32(c, 60, 65537); }, "Snapshot table too large"},
    {"snapshots_outside",
     [](test::Content& c) {
       put32(c, 60, 1);
       put64(c, 64, uint64_t{1} << 50);
     },
     "Snapshot table offset invalid"},
    {"snapshot_extra",
     [](test::Content& c) {
       put32(c, 60, 1);
       put64(c, 64, 262144);
       put32(c, 262144 + 36, 1025);
       c.write(262144 + 4096, std::vector<uint8_t>(64));
     },
     "Too much extra metadata in snapshot table entry 0"},
    {"snapshot_name_outside",
     [](test::Content& c) {
       put32(c, 60, 1);
       put64(c, 64, 262144);
       put32(c, 262144 + 12, 0xffffffff);
     },
     "Snapshot table"},
    {"l1_large", [](test::Content& c) { put32(c, 36, 4194305); }, "Active L1 table too large"},
    {"l1_unaligned", [](test::Content& c) { put64(c, 40, 196609); },
     "Active L1 table offset invalid"},
    {"l1_outside", [](test::Content& c) { put64(c, 40, 0x7fffffffffff0000); },
     "Active L1 table offset invalid"},
    {"l1_short", [](test::Content& c) { put32(c, 36, 0); }, "L1 table is too small"},
    {"size_huge", [](test::Content& c) { put64(c, 24, UINT64_MAX); }, "Image is too big"},
    {"size_over_l1", [](test::Content& c) { put64(c, 24, uint64_t{1} << 40); },
     "L1 table is too small"},
    {"backing_outside", [](test::Content& c) { put64(c, 8, 65537); },
     "Invalid backing file offset"},
    {"backing_in_header",
     [](test::Content& c) {
       put64(c, 8, 8);
       put32(c, 16, 4);
     },
     "Invalid backing file offset"},
    {"backing_long",
     [](test::Content& c) {
       put64(c, 8, 4096);
       put32(c, 16, 1024);
     },
     "Backing file name too long"},
    {"backing_over_cluster",
     [](test::Content& c) {
       put64(c, 8, 65530);
       put32(c, 16, 100);
     },
     "Backing file name too long"},
    {"backing_zero_byte",
     [](test::Content& c) {
       put64(c, 8, 8192);
       put32(c, 16, 10);
     },
     "zero byte"},
    {"extension_long", [](test::Content& c) { put32(c, 116, 0xffffffff); },
     "Header extension too large"},
    {"extension_beyond_cluster", [](test::Content& c) { put32(c, 116, 65536 - 112); },
     "Header extension too large"},
    {"extension_twice",
     [](test::Content& c) {
       for (uint64_t at : {112, 120}) {
         put32(c, at, format::kExtBackingFormat);
         put32(c, at + 4, 0);
       }
       put64(c, 128, 0);
     },
     "more than once"},
    {"compression_unknown",
     [](test::Content& c) {
       put64(c, 72, format::kCompressionType);
       put<uint8_t>(c, 104, 9);
     },
     "qcow2: unknown compression type: 9"},
    {"compression_without_bit", [](test::Content& c) { put<uint8_t>(c, 104, 1); },
     "bit must be set"},
    {"compression_bit_alone", [](test::Content& c) { put64(c, 72, format::kCompressionType); },
     "bit must not be set"},
    {"bitmaps_without_extension", [](test::Content& c) { put64(c, 88, format::kBitmaps); },
     "bitmaps_ext"},
};

class HostileHeader : public test::ImageBench, public testing::TestWithParam<Lie> {};

TEST_P(HostileHeader, IsRefusedByName) {
  const Lie& lie = GetParam();
  CreateOptions options;
  options.size = 64 << 20;
  auto disk = make(options);
  lie.tell(disk->content);
  OpenOptions open_options;
  open_options.writable = lie.writable;
  auto image = open(disk, std::move(open_options));
  if (lie.error == nullptr) {
    ASSERT_OK(image);
    return;
  }
  ASSERT_FALSE(image.ok());
  EXPECT_NE(image.error().message().find(lie.error), std::string::npos) << image.error().message();
}

INSTANTIATE_TEST_SUITE_P(Lies, HostileHeader, testing::ValuesIn(kLies),
                         [](const auto& test_info) { return std::string(test_info.param.name); });

class HostileSize : public test::ImageTest {};

// The file claims 8 EiB of room and 1 TiB of disk; only what is there is looked at.
TEST_F(HostileSize, HugeSparseFileCostsNothing) {
  CreateOptions options;
  options.size = uint64_t{1} << 40;
  auto disk = make(options);
  disk->content.resize(uint64_t{1} << 62);
  auto image = open(disk);
  ASSERT_OK(image);
  EXPECT_EQ(*read(**image, uint64_t{1} << 39, 4096), test::Bytes(4096, 0));
  EXPECT_OK(close(**image));
  EXPECT_OK(check(disk));
  EXPECT_LT(disk->content.allocated(), uint64_t{1} << 20);
}

}  // namespace
}  // namespace calf::qcow2
