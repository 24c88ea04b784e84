// The parts that need no image: entries, counts, header, overlap map, codec, range lock.
#include <gtest/gtest.h>

#include <cstring>

#include "block/io/range_lock.h"
#include "block/qcow2/compression.h"
#include "block/qcow2/header.h"
#include "block/qcow2/l2_entry.h"
#include "block/qcow2/overlap.h"
#include "block/qcow2/refcount.h"
#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::pattern;

Geometry geometry(unsigned cluster_bits, unsigned version = 3) {
  Geometry g;
  g.cluster_bits = cluster_bits;
  g.version = version;
  return g;
}

TEST(L2EntryTest, CompressedFlagComesBeforeTheZeroFlag) {
  Geometry g = geometry(16);
  L2Entry entry = L2Entry::decode({format::kCompressed | 0x50001}, g);
  EXPECT_EQ(entry.kind, ClusterKind::kCompressed);
  EXPECT_EQ(entry.offset, 0x50001u);
  EXPECT_EQ(entry.compressed_length, 511u);
}

TEST(L2EntryTest, SectorCountFollowsTheClusterSize) {
  for (unsigned bits = 9; bits <= 21; ++bits) {
    Geometry g = geometry(bits);
    const uint64_t cluster = g.cluster_size();
    for (uint64_t offset : {cluster * 7, cluster * 7 + 511, cluster * 8 - 1}) {
      for (uint64_t length : {uint64_t{1}, uint64_t{100}, cluster / 2, cluster - 1}) {
        L2Entry back = L2Entry::decode(L2Entry::compressed(offset, length).encode(g), g);
        ASSERT_EQ(back.kind, ClusterKind::kCompressed);
        EXPECT_EQ(back.offset, offset);
        EXPECT_EQ((offset + back.compressed_length) % 512, 0u);
        EXPECT_GE(back.compressed_length, length);
        EXPECT_LT(back.compressed_length, length + 512);
        EXPECT_FALSE(back.copied);
      }
    }
  }
}

TEST(L2EntryTest, ZeroFlagExistsInVersion3Only) {
  EXPECT_EQ(L2Entry::decode({1}, geometry(16, 3)).kind, ClusterKind::kZeroPlain);
  EXPECT_EQ(L2Entry::decode({1}, geometry(16, 2)).kind, ClusterKind::kUnallocated);
  EXPECT_EQ(L2Entry::decode({0x10001}, geometry(16, 3)).kind, ClusterKind::kZeroAlloc);
  EXPECT_EQ(L2Entry::decode({0x10001}, geometry(16, 2)).kind, ClusterKind::kData);
}

TEST(L2EntryTest, UnalignedOffsetsAreInvalid) {
  EXPECT_EQ(L2Entry::decode({0x10200}, geometry(16)).kind, ClusterKind::kInvalid);
  EXPECT_EQ(L2Entry::decode({0x10201}, geometry(16)).kind, ClusterKind::kInvalid);
}

TEST(RefcountTest, EveryWidthKeepsItsNeighbours) {
  for (unsigned order = 0; order <= 6; ++order) {
    Bytes bytes(64, 0);
    const uint64_t max = order == 6 ? UINT64_MAX : (uint64_t{1} << (1u << order)) - 1;
    const uint64_t entries = 64 * 8 >> order;
    for (uint64_t i = 0; i < entries; i += 2)
      set_count(bytes.data(), i, order, max);
    for (uint64_t i = 0; i < entries; ++i)
      EXPECT_EQ(get_count(bytes.data(), i, order), i % 2 == 0 ? max : 0) << order << " " << i;
    for (uint64_t i = 0; i < entries; i += 2)
      set_count(bytes.data(), i, order, 0);
    EXPECT_EQ(bytes, Bytes(64, 0));
  }
}

TEST(RefcountTest, RangesAreSetAndComparedAsTheirEntries) {
  for (unsigned order = 0; order <= 6; ++order) {
    std::vector<uint8_t> bytes(1024), one_by_one(1024);
    set_counts(bytes.data(), 5, 20, order, 1);
    for (uint64_t i = 5; i < 25; ++i)
      set_count(one_by_one.data(), i, order, 1);
    EXPECT_EQ(bytes, one_by_one) << order;
    std::vector<uint8_t> expected(30);
    std::fill_n(expected.begin() + 5, 20, uint8_t{1});
    EXPECT_TRUE(counts_equal(bytes.data(), 0, order, expected)) << order;
    for (uint64_t i = 0; i < expected.size(); ++i) {
      std::vector<uint8_t> other = expected;
      other[i] ^= 1;
      EXPECT_FALSE(counts_equal(bytes.data(), 0, order, other)) << order << " " << i;
    }
    // A count that has the same low byte.
    if (order < 4) continue;
    set_count(bytes.data(), 7, order, 257);
    EXPECT_FALSE(counts_equal(bytes.data(), 0, order, expected)) << order;
  }
}

TEST(RefcountTest, ByteOrderIsTheFormats) {
  Bytes bytes(8, 0);
  set_count(bytes.data(), 1, 4, 0x1234);
  EXPECT_EQ(bytes, (Bytes{0, 0, 0x12, 0x34, 0, 0, 0, 0}));
  bytes.assign(8, 0);
  set_count(bytes.data(), 9, 0, 1);  // least significant bit first
  EXPECT_EQ(bytes, (Bytes{0, 2, 0, 0, 0, 0, 0, 0}));
}

Header some_header() {
  Header header;
  header.geometry = geometry(16);
  header.size = 1 << 20;
  header.l1_entries = 1;
  header.l1_offset = 0x30000;
  header.refcount_table_offset = 0x10000;
  header.refcount_table_clusters = 1;
  header.backing_name = "base.qcow2";
  header.backing_format = "qcow2";
  return header;
}

TEST(HeaderTest, UnknownFieldsAndExtensionsSurvive) {
  Header header = some_header();
  header.extensions.push_back({0x12345678, {1, 2, 3}});
  header.unknown_fields = Bytes(16, 0xab);
  auto bytes = serialize_header(header);
  ASSERT_OK(bytes);
  auto back = parse_header(*bytes);
  ASSERT_OK(back);
  EXPECT_EQ(back->unknown_fields, Bytes(16, 0xab));
  ASSERT_NE(back->find(0x12345678), nullptr);
  EXPECT_EQ(back->find(0x12345678)->data, (Bytes{1, 2, 3}));
  EXPECT_EQ(back->backing_name, "base.qcow2");
  EXPECT_EQ(back->backing_format, "qcow2");
  auto again = serialize_header(*back);
  ASSERT_OK(again);
  EXPECT_EQ(*again, *bytes);
}

TEST(HeaderTest, NamesThatDoNotFitOneClusterAreRefused) {
  Header header = some_header();
  header.geometry.cluster_bits = 9;
  header.backing_name = std::string(360, 'x');
  auto fits = serialize_header(header);
  ASSERT_OK(fits);
  EXPECT_LE(fits->size(), 512u);
  EXPECT_EQ(parse_header(*fits)->find(format::kExtFeatureNames), nullptr);
  header.backing_name = std::string(400, 'x');
  EXPECT_FALSE(serialize_header(header).ok());
}

TEST(HeaderTest, PatchTouchesOnlyWhatChanges) {
  Header header = some_header();
  auto bytes = serialize_header(header);
  ASSERT_OK(bytes);
  auto parsed = parse_header(*bytes);
  ASSERT_OK(parsed);
  Bytes raw(bytes->begin(), bytes->begin() + 104);
  patch_fields(*parsed, raw);
  EXPECT_TRUE(std::equal(raw.begin(), raw.end(), bytes->begin()));
  parsed->incompatible |= format::kDirty;
  patch_fields(*parsed, raw);
  EXPECT_EQ(raw[79], 1);
  raw[79] = 0;
  EXPECT_TRUE(std::equal(raw.begin(), raw.end(), bytes->begin()));
}

TEST(OverlapTest, FindsAreasAndTables) {
  MetadataMap map(geometry(16));
  map.add_area(Area::kHeader, {0, 65536});
  map.add_area(Area::kActiveL1, {0x30000, 8});
  map.add_area(Area::kInactiveL1, {0x30000, 0x20000});
  map.seal();
  map.add_table(Area::kActiveL2, 0x80000);
  EXPECT_EQ(area_name(map.find({0, 512})), "qcow2_header");
  EXPECT_EQ(map.find({0x10000, 0x20000}), 0);
  EXPECT_EQ(map.find({0x2ffff, 2}),
            static_cast<uint16_t>(Area::kActiveL1) | static_cast<uint16_t>(Area::kInactiveL1));
  EXPECT_EQ(map.find({0x40000, 1}), static_cast<uint16_t>(Area::kInactiveL1));
  EXPECT_EQ(map.find({0x50000, 0x40000}), static_cast<uint16_t>(Area::kActiveL2));
  EXPECT_EQ(map.find({0x80000, 512}, static_cast<uint16_t>(Area::kActiveL2)), 0);
  map.remove_table(Area::kActiveL2, 0x80000);
  EXPECT_EQ(map.find({0x80000, 512}), 0);
}

TEST(CodecTest, EverySizeAndTypeRoundTrips) {
  for (Compression type : {Compression::kZlib, Compression::kZstd}) {
    Codec codec(type);
    for (size_t size : {size_t{512}, size_t{65536}, size_t{2} << 20}) {
      Bytes text(size);
      for (size_t i = 0; i < size; ++i)
        text[i] = static_cast<uint8_t>((i >> 5) * 37);
      Bytes packed(size - 1);
      auto n = codec.compress(text, packed);
      ASSERT_TRUE(n.has_value());
      // What follows the stream in the file does not matter.
      packed.resize(*n + 300, 0x5a);
      Bytes back(size);
      ASSERT_OK(codec.decompress(packed, back));
      EXPECT_EQ(back, text);
      // Short output is an error, truncated input, too.
      Bytes longer(size * 2);
      EXPECT_FALSE(codec.decompress(packed, longer).ok());
      packed.resize(*n / 2);
      EXPECT_FALSE(codec.decompress(packed, back).ok());
    }
    Bytes noise = pattern(1, 4096);
    Bytes room(4095);
    EXPECT_FALSE(codec.compress(noise, room).has_value());
  }
}

Task<void> hold(RangeLock* locks, ByteRange range, RangeLock::Mode mode, Executor* executor,
                unsigned yields, std::vector<int>* order, int name) {
  RangeLock::Holder holder(*locks, range, mode);
  co_await holder.acquire();
  order->push_back(name);
  for (unsigned i = 0; i < yields; ++i)
    co_await executor->yield();
}

Task<void> until_idle(Executor* executor) {
  for (int i = 0; i < 50; ++i)
    co_await executor->yield();
}

TEST(RangeLockTest, GrantsInOrderOfArrival) {
  test::ImageBench bench;
  Executor& executor = bench.executor();
  RangeLock locks(executor);
  std::vector<int> order;
  using Mode = RangeLock::Mode;
  executor.spawn(hold(&locks, {0, 10}, Mode::kShared, &executor, 5, &order, 1));
  executor.spawn(hold(&locks, {5, 10}, Mode::kShared, &executor, 2, &order, 2));
  executor.spawn(hold(&locks, {8, 4}, Mode::kExclusive, &executor, 1, &order, 3));
  // Would fit beside 1 and 2, but 3 came before it.
  executor.spawn(hold(&locks, {9, 1}, Mode::kShared, &executor, 1, &order, 4));
  executor.spawn(hold(&locks, {20, 1}, Mode::kExclusive, &executor, 1, &order, 5));
  bench.run(until_idle(&executor));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 5, 3, 4}));
}

}  // namespace
}  // namespace calf::qcow2
