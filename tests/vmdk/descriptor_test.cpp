#include "block/vmdk/descriptor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace calf::vmdk {
namespace {

using testing::HasSubstr;

std::string with(std::string_view lines) {
  return "# Disk DescriptorFile\nversion=1\nCID=123abc\nparentCID=ffffffff\n"
         "createType=\"twoGbMaxExtentSparse\"\n" +
         std::string(lines);
}

TEST(DescriptorTest, ReadsWhatMatters) {
  Result<Descriptor> d =
      parse_descriptor(with("RW 100 SPARSE \"a b-s001.vmdk\"\r\nRDONLY 7 FLAT \"c\" 3\nRW 5 ZERO\n"
                            "ddb.adapterType = \"ide\"\nparentFileNameHint = \"base.vmdk\"\n"));
  ASSERT_TRUE(d.ok()) << d.error().message();
  EXPECT_EQ(d->cid, 0x123abcU);
  EXPECT_EQ(d->parent_cid, kNoParent);
  EXPECT_EQ(d->create_type, "twoGbMaxExtentSparse");
  EXPECT_EQ(d->parent_hint, "base.vmdk");
  ASSERT_EQ(d->extents.size(), 3U);
  EXPECT_EQ(d->extents[0].name, "a b-s001.vmdk");
  EXPECT_EQ(d->extents[0].sectors, 100U);
  EXPECT_EQ(d->extents[1].kind, ExtentKind::kFlat);
  EXPECT_EQ(d->extents[1].first_sector, 3U);
  EXPECT_EQ(d->extents[2].kind, ExtentKind::kZero);
}

TEST(DescriptorTest, NamesOutsideOfItsFolderAreRefused) {
  for (const char* name : {"/etc/shadow", "../x", "a/b", "", ".", ".."}) {
    Result<Descriptor> d = parse_descriptor(with(fmt::format("RW 8 FLAT \"{}\" 0\n", name)));
    ASSERT_FALSE(d.ok()) << name;
    EXPECT_THAT(d.error().message(), HasSubstr("is not followed"));
  }
}

TEST(DescriptorTest, LiesAreRefused) {
  for (const char* lines :
       {"RW 0 FLAT \"x\" 0\n", "RW -1 FLAT \"x\" 0\n", "RW 18446744073709551615 FLAT \"x\" 0\n",
        "RW 99999999999999999999 FLAT \"x\" 0\n", "RW 8 FLAT \"x\" 99999999999999999999\n",
        "RW 8 FLAT \"x\" 0x1\n", "RW 18014398509481984 ZERO\nRW 1 ZERO\n", "RW 8\n",
        "RW 8 SESPARSE \"x\"\n", "RW 8 VMFSRDM \"x\"\n", "NOACCESS 8 FLAT \"x\" 0\n", "version=9\n",
        "CID=nothex\n"}) {
    EXPECT_FALSE(parse_descriptor(with(lines)).ok()) << lines;
  }
  EXPECT_FALSE(parse_descriptor("# Disk DescriptorFile\n").ok()) << "no create type";
  std::string many;
  for (size_t i = 0; i <= kMaxExtents; ++i)
    many += "RW 1 ZERO\n";
  EXPECT_FALSE(parse_descriptor(with(many)).ok()) << "too many extents";
}

}  // namespace
}  // namespace calf::vmdk
