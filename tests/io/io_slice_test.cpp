#include "block/io/io_slice.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace calf {
namespace {

TEST(IoSlice, SlicesAcrossPiecesAndSkipsEmptyOnes) {
  char a[] = "abc";
  char b[] = "defgh";
  std::array<iovec, 3> iov{{{a, 3}, {nullptr, 0}, {b, 5}}};
  IoSlice all{std::span<const iovec>(iov)};
  EXPECT_EQ(all.size(), 8u);
  IoSlice middle = all.slice(2, 4).slice(1, 3);
  std::string text(3, ' ');
  middle.copy_to({reinterpret_cast<uint8_t*>(text.data()), 3});
  EXPECT_EQ(text, "def");
  EXPECT_EQ(all.slice(1, 4).to_iovecs().size(), 2u);
  EXPECT_TRUE(all.slice(8, 0).to_iovecs().empty());
}

TEST(IoSlice, CopiesBetweenDifferentCuts) {
  std::array<uint8_t, 6> from{1, 2, 3, 4, 5, 6};
  std::array<uint8_t, 6> to{};
  std::array<iovec, 2> f{{{from.data(), 1}, {from.data() + 1, 5}}};
  std::array<iovec, 2> t{{{to.data(), 4}, {to.data() + 4, 2}}};
  IoSlice{std::span<const iovec>(t)}.copy_from(IoSlice{std::span<const iovec>(f)});
  EXPECT_EQ(from, to);
}

TEST(IoSlice, FindsTheOneByteThatIsNotZero) {
  std::vector<uint8_t> bytes(70000);
  FlatIo io{std::span<uint8_t>(bytes)};
  EXPECT_TRUE(io.slice().is_zero());
  for (size_t at : {size_t{0}, size_t{15}, size_t{16}, size_t{17}, bytes.size() - 1}) {
    bytes[at] = 1;
    EXPECT_FALSE(io.slice().is_zero()) << at;
    bytes[at] = 0;
  }
}

}  // namespace
}  // namespace calf
