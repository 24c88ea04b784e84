#include "block/base/endian.h"

#include <cstring>

#include <gtest/gtest.h>

namespace calf {
namespace {

template <class T>
std::vector<uint8_t> bytes_of(const T& value) {
  std::vector<uint8_t> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

TEST(Endian, StoresBytesInTheNamedOrder) {
  EXPECT_EQ(bytes_of(be32(0x01020304)), (std::vector<uint8_t>{1, 2, 3, 4}));
  EXPECT_EQ(bytes_of(le32(0x01020304)), (std::vector<uint8_t>{4, 3, 2, 1}));
  EXPECT_EQ(bytes_of(be16(0x0102)), (std::vector<uint8_t>{1, 2}));
  EXPECT_EQ(bytes_of(le64(0x0102030405060708)), (std::vector<uint8_t>{8, 7, 6, 5, 4, 3, 2, 1}));
}

TEST(Endian, ConvertsOnReadingAndChanging) {
  be64 n(0xfedcba9876543210);
  EXPECT_EQ(n.value(), 0xfedcba9876543210u);
  n |= 1;
  n += 0xf;
  EXPECT_EQ(n.value(), 0xfedcba9876543220u);
  le16 small(0xffff);
  small += 1;
  EXPECT_EQ(small.value(), 0);
}

}  // namespace
}  // namespace calf
