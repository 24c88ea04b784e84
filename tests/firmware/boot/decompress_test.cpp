#include "firmware/boot/decompress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "tests/firmware/boot/boot_images.h"

namespace calf::firmware {
namespace {

using testing_support::Bytes;
using testing_support::pack;
using testing_support::sample_text;

constexpr size_t kPlenty = 64 << 20;

class Decompress : public testing::TestWithParam<PayloadFormat> {};

TEST_P(Decompress, GivesBackWhatWasPacked) {
  // lz4's is made of blocks of 8 MiB.
  size_t large = GetParam() == PayloadFormat::kLz4 ? 9 << 20 : 1 << 20;
  for (size_t size : {size_t{1}, size_t{70000}, large}) {
    Bytes text = sample_text(size);
    Bytes payload = pack(GetParam(), text);
    EXPECT_EQ(payload_format(payload), GetParam());
    auto unpacked = unpack(payload, kPlenty);
    ASSERT_TRUE(unpacked.ok()) << unpacked.error().message();
    EXPECT_TRUE(std::ranges::equal(unpacked->span(), text)) << size;
  }
}

TEST_P(Decompress, StopsAtTheLimit) {
  Bytes payload = pack(GetParam(), sample_text(70000));
  EXPECT_TRUE(unpack(payload, 70000).ok());
  auto refused = unpack(payload, 69999);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::kCorrupt);
}

TEST_P(Decompress, RefusesAClaimThatIsTooSmall) {
  Bytes payload = pack(GetParam(), sample_text(70000));
  le32 claim(1000);
  std::memcpy(payload.data() + payload.size() - 4, &claim, 4);
  auto refused = unpack(payload, kPlenty);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::kCorrupt);
}

TEST_P(Decompress, RefusesAShortenedPayload) {
  Bytes payload = pack(GetParam(), sample_text(70000));
  for (size_t size :
       {size_t{6}, size_t{11}, size_t{12}, size_t{40}, payload.size() / 2, payload.size() - 40}) {
    Bytes part(payload.begin(), payload.begin() + static_cast<ptrdiff_t>(size));
    le32 claim(70000);
    std::memcpy(part.data() + size - 4, &claim, 4);
    auto unpacked = unpack(part, kPlenty);
    EXPECT_TRUE(!unpacked.ok() || unpacked->span().size() < 70000) << size;
  }
}

TEST_P(Decompress, SurvivesDamage) {
  Bytes payload = pack(GetParam(), sample_text(5000));
  std::mt19937 random(7);
  for (int i = 0; i < 400; ++i) {
    Bytes damaged = payload;
    for (int n = 0; n < 3; ++n)
      damaged[random() % damaged.size()] = static_cast<uint8_t>(random());
    auto unpacked = unpack(damaged, 1 << 20);
    EXPECT_TRUE(!unpacked.ok() || unpacked->span().size() <= size_t{1} << 20);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Decompress,
                         testing::Values(PayloadFormat::kGzip, PayloadFormat::kZstd,
                                         PayloadFormat::kLz4, PayloadFormat::kXz,
                                         PayloadFormat::kLzma),
                         [](const auto& param_info) {
                           return std::string(to_string(param_info.param));
                         });

TEST(DecompressFormats, UnknownOnesAreNamed) {
  Bytes bzip2 = {'B', 'Z', 'h', '9', 0, 0, 0, 0, 1, 0, 0, 0};
  auto refused = unpack(bzip2, kPlenty);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::kUnsupported);
  EXPECT_NE(refused.error().message().find("bzip2"), std::string::npos);
  EXPECT_EQ(payload_format({}), PayloadFormat::kUnknown);
}

}  // namespace
}  // namespace calf::firmware
