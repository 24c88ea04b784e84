#include "devices/virtio/blk_request.h"

#include <gtest/gtest.h>

#include <cstring>

namespace calf::virtio {
namespace {

// A chain over memory of the test, cut into pieces of any size.
class BlkRequestTest : public ::testing::Test {
 protected:
  BlkRequestTest() { limits.capacity = 1u << 20; }

  void header(uint32_t type, uint64_t sector) {
    BlkRequestHeader h;
    h.type = type;
    h.sector = sector;
    out.resize(sizeof h);
    std::memcpy(out.data(), &h, sizeof h);
  }
  void segment(uint64_t sector, uint32_t sectors, uint32_t flags) {
    BlkRangeSegment s;
    s.sector = sector;
    s.sectors = sectors;
    s.flags = flags;
    size_t at = out.size();
    out.resize(at + sizeof s);
    std::memcpy(out.data() + at, &s, sizeof s);
  }
  ParsedBlkRequest parse(size_t piece = SIZE_MAX) {
    chain = Chain();
    auto append = [&](std::vector<uint8_t>& bytes) {
      for (size_t at = 0; at < bytes.size(); at += std::min(piece, bytes.size() - at))
        chain.iovecs.push_back({bytes.data() + at, std::min(piece, bytes.size() - at)});
    };
    append(out);
    chain.readable_iovecs = chain.iovecs.size();
    chain.readable_bytes = out.size();
    append(in);
    chain.writable_bytes = in.size();
    return parse_blk_request(chain, limits);
  }

  BlkLimits limits;
  std::vector<uint8_t> out;
  std::vector<uint8_t> in = std::vector<uint8_t>(1);
  Chain chain;
};

TEST_F(BlkRequestTest, FramingIsFree) {
  header(0, 3);
  in.resize(1025);
  for (size_t piece : {size_t{1}, size_t{3}, size_t{5}, size_t{512}, SIZE_MAX}) {
    ParsedBlkRequest parsed = parse(piece);
    ASSERT_EQ(parsed.status, BlkStatus::kOk) << piece;
    EXPECT_EQ(parsed.request.type, BlkType::kRead);
    EXPECT_EQ(parsed.request.offset, 1536u);
    EXPECT_EQ(parsed.request.data.size(), 1024u);
    write_status_byte(chain, BlkStatus::kUnsupported);
    EXPECT_EQ(in.back(), 2);
    in.back() = 0;
  }
}

TEST_F(BlkRequestTest, HeadersMustBeWhole) {
  header(0, 0);
  out.pop_back();
  EXPECT_EQ(parse().status, BlkStatus::kIoError);
  out.clear();
  EXPECT_EQ(parse().status, BlkStatus::kIoError);
}

TEST_F(BlkRequestTest, TransfersStayOnTheDisk) {
  uint64_t sectors = limits.capacity / 512;
  in.resize(513);
  auto status_at = [&](uint64_t sector) {
    header(0, sector);
    return parse().status;
  };
  EXPECT_EQ(status_at(sectors - 1), BlkStatus::kOk);
  EXPECT_EQ(status_at(sectors), BlkStatus::kIoError);
  EXPECT_EQ(status_at(UINT64_MAX), BlkStatus::kIoError);
  EXPECT_EQ(status_at(UINT64_MAX / 512), BlkStatus::kIoError);
  EXPECT_EQ(status_at(uint64_t{1} << 55), BlkStatus::kIoError);
  in.resize(1);
  EXPECT_EQ(status_at(sectors), BlkStatus::kOk);  // nothing, at the end
}

TEST_F(BlkRequestTest, WholeBlocksOnly) {
  header(1, 0);
  out.resize(sizeof(BlkRequestHeader) + 511);
  EXPECT_EQ(parse().status, BlkStatus::kIoError);
  limits.block_size = 4096;
  header(1, 8);
  out.resize(sizeof(BlkRequestHeader) + 4096);
  EXPECT_EQ(parse().status, BlkStatus::kOk);
  header(1, 1);
  out.resize(sizeof(BlkRequestHeader) + 4096);
  EXPECT_EQ(parse().status, BlkStatus::kIoError);
  header(1, 8);
  out.resize(sizeof(BlkRequestHeader) + 512);
  EXPECT_EQ(parse().status, BlkStatus::kIoError);
}

TEST_F(BlkRequestTest, ReadOnlyDisks) {
  limits.read_only = true;
  header(1, 0);
  out.resize(sizeof(BlkRequestHeader) + 512);
  EXPECT_EQ(parse().status, BlkStatus::kIoError);
  header(11, 0);
  segment(0, 8, 0);
  EXPECT_EQ(parse().status, BlkStatus::kIoError);
  header(4, 0);
  EXPECT_EQ(parse().status, BlkStatus::kOk);
}

TEST_F(BlkRequestTest, Segments) {
  for (uint32_t type : {11u, 13u}) {
    header(type, 0);
    EXPECT_EQ(parse().status, BlkStatus::kIoError);  // none
    segment(8, 16, 0);
    segment(0, 0, 0);
    segment(0, 2048, 0);
    ParsedBlkRequest parsed = parse(7);
    ASSERT_EQ(parsed.status, BlkStatus::kOk);
    ASSERT_EQ(parsed.request.segments.size(), 2u);  // the empty one has nothing to do
    EXPECT_EQ(parsed.request.segments[0].range, (ByteRange{4096, 8192}));
    out.pop_back();
    EXPECT_EQ(parse().status, BlkStatus::kIoError);
    header(type, 0);
    segment(2047, 2, 0);
    EXPECT_EQ(parse().status, BlkStatus::kIoError);
    header(type, 0);
    segment(UINT64_MAX, UINT32_MAX, 0);
    EXPECT_EQ(parse().status, BlkStatus::kIoError);
    header(type, 0);
    segment(0, 1, 2);
    EXPECT_EQ(parse().status, BlkStatus::kUnsupported);
    header(type, 0);
    for (uint32_t i = 0; i <= BlkLimits::kMaxSegments; ++i)
      segment(i, 1, 0);
    EXPECT_EQ(parse().status, BlkStatus::kIoError);
  }
  header(13, 0);
  segment(0, 1, kBlkSegmentUnmap);
  EXPECT_TRUE(parse().request.segments.at(0).unmap);
  header(11, 0);
  segment(0, 1, kBlkSegmentUnmap);
  EXPECT_EQ(parse().status, BlkStatus::kUnsupported);
}

TEST_F(BlkRequestTest, FeaturesNotNegotiatedAreUnsupported) {
  limits.discard = limits.write_zeroes = false;
  for (uint32_t type : {11u, 13u}) {
    header(type, 0);
    segment(0, 1, 0);
    EXPECT_EQ(parse().status, BlkStatus::kUnsupported);
  }
}

TEST_F(BlkRequestTest, UnknownTypes) {
  for (uint32_t type : {2u, 3u, 5u, 10u, 12u, 14u, 16u, 0x80000000u, 0xffffffffu}) {
    header(type, 0);
    EXPECT_EQ(parse().status, BlkStatus::kUnsupported) << type;
  }
}

TEST_F(BlkRequestTest, ATransferHasALimit) {
  limits.capacity = uint64_t{1} << 40;
  header(0, 0);
  std::vector<uint8_t> page(1u << 20);
  chain = Chain();
  chain.iovecs.push_back({out.data(), out.size()});
  chain.readable_iovecs = 1;
  chain.readable_bytes = out.size();
  for (uint64_t n = 0; n < BlkLimits::kMaxTransfer; n += page.size())
    chain.iovecs.push_back({page.data(), page.size()});
  chain.iovecs.push_back({in.data(), 1});
  chain.writable_bytes = BlkLimits::kMaxTransfer + 1;
  EXPECT_EQ(parse_blk_request(chain, limits).status, BlkStatus::kOk);
  chain.iovecs.push_back({page.data(), 512});
  chain.writable_bytes += 512;
  EXPECT_EQ(parse_blk_request(chain, limits).status, BlkStatus::kIoError);
}

}  // namespace
}  // namespace calf::virtio
