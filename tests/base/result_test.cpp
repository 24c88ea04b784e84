#include "block/base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace calf {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return make_error(ErrorKind::kInvalid, "{} is odd", n);
  return n / 2;
}

Result<int> quarter(int n) {
  TRY(int h, half(n));
  TRY_VOID(half(h));
  return half(h);
}

TEST(Result, PropagatesValuesAndErrors) {
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(6).error().message(), "3 is odd");
  EXPECT_EQ(quarter(5).error().kind(), ErrorKind::kInvalid);
}

TEST(Result, CarriesMoveOnlyValues) {
  auto make = []() -> Result<std::unique_ptr<int>> { return std::make_unique<int>(7); };
  Result<std::unique_ptr<int>> r = make();
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(**r, 7);
}

TEST(Error, KeepsErrnoAndGetsContext) {
  Error e = Error::from_errno(ENOENT, "Could not open 'x'");
  EXPECT_EQ(e.message(), "Could not open 'x': No such file or directory");
  EXPECT_EQ(e.kind(), ErrorKind::kNotFound);
  EXPECT_EQ(e.sys_errno(), ENOENT);
  EXPECT_EQ(Error(ErrorKind::kCorrupt, "bad").sys_errno(), EIO);
}

}  // namespace
}  // namespace calf
