// Sizes, option lists, JSON: what people type and what they read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "block/tool/create_options.h"
#include "block/tool/image_name.h"
#include "block/tool/json.h"
#include "block/tool/option_list.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

using testing::HasSubstr;

TEST(SizesTest, Parses) {
  struct {
    const char* text;
    uint64_t value;
  } const cases[] = {{"0", 0},
                     {"1", 1},
                     {"1024.0", 1024},
                     {"1b", 1},
                     {"1k", 1024},
                     {"1K", 1024},
                     {"1.5k", 1536},
                     {"1.", 1},
                     {"3M", 3 << 20},
                     {"0x10", 16},
                     {"0x1e", 30},
                     {"0x10M", 16 << 20},
                     {"1.33333k", 1365},
                     {"15E", uint64_t{15} << 60},
                     {"18446744073709551615", UINT64_MAX}};
  for (const auto& c : cases) {
    auto size = parse_size(c.text);
    ASSERT_TRUE(size.ok()) << c.text;
    EXPECT_EQ(*size, c.value) << c.text;
  }
}

TEST(SizesTest, Refuses) {
  for (const char* text : {"", "k", "-1", "+1", " 1", "1 ", "1kB", "1kk", "1 k", "1e3", "1.5",
                           "1.5b", "0x", "0x1.5k", ".5k", "1,5k", "1.5.5k"}) {
    auto size = parse_size(text);
    ASSERT_FALSE(size.ok()) << text;
    EXPECT_EQ(size.error().kind(), ErrorKind::kInvalid) << text;
  }
  for (const char* text : {"16E", "18446744073709551616", "99999999999999999999999", "17.9E"}) {
    auto size = parse_size(text);
    ASSERT_FALSE(size.ok()) << text;
    EXPECT_EQ(size.error().kind(), ErrorKind::kNoSpace) << text;
  }
  EXPECT_TRUE(is_suffixed_hex("0x10k"));
  EXPECT_FALSE(is_suffixed_hex("0x10b"));
  EXPECT_FALSE(is_suffixed_hex("10k"));
}

TEST(SizesTest, PrintsForPeople) {
  EXPECT_EQ(human_size(0), "0 B");
  EXPECT_EQ(human_size(512), "512 B");
  EXPECT_EQ(human_size(1024), "1 KiB");
  EXPECT_EQ(human_size(1024000), "0.977 MiB");
  EXPECT_EQ(human_size(1023488), "1e+03 KiB");
  EXPECT_EQ(human_size(uint64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(human_size(UINT64_MAX), "16 EiB");
}

TEST(OptionListTest, ReadsNamesValuesAndSwitches) {
  auto list = OptionList::parse("a=1,b=x,,y,c,nod,a=2,e=");
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(list->get("a"), "2");
  EXPECT_EQ(list->get("b"), "x,y");
  EXPECT_EQ(list->get("c"), "on");
  EXPECT_EQ(list->get("d"), "off");
  EXPECT_EQ(list->get("e"), "");
  EXPECT_FALSE(list->get("f"));
  EXPECT_FALSE(list->wants_help());
  EXPECT_TRUE(OptionList::parse("a=1,help")->wants_help());
  EXPECT_EQ(OptionList::parse("qcow2,a=1", "driver")->get("driver"), "qcow2");
}

TEST(OptionListTest, RefusesBrokenLists) {
  EXPECT_TRUE(is_valid_option_list("a=1"));
  EXPECT_TRUE(is_valid_option_list("a=1,,"));
  EXPECT_FALSE(is_valid_option_list(""));
  EXPECT_FALSE(is_valid_option_list(",a"));
  EXPECT_FALSE(is_valid_option_list("a,"));
  EXPECT_FALSE(is_valid_option_list("a,,,"));
}

TEST(CreateOptionsTest, FormattingHasTheOrderOfTheTable) {
  auto list = OptionList::parse("refcount_bits=0x10,size=1M,backing_file=a,,b,cluster_size=4k");
  auto options = CreateOptions::parse("qcow2", *list);
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->formatting("qcow2"),
            " cluster_size=4096 extended_l2=off compression_type=zlib size=1048576 "
            "backing_file=a,,b lazy_refcounts=off refcount_bits=16");
  EXPECT_EQ(options->for_qcow2(crypto::SecretStore())->cluster_size, 4096);
  auto unknown = CreateOptions::parse("raw", *list);
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().message(), "Invalid parameter 'refcount_bits'");
}

TEST(JsonTest, PrintsAsQemuImgDoes) {
  Json json = Json::object();
  json.add("flag", true);
  json.add("empty", Json::list());
  json.add("list", Json::list());
  Json inner = Json::object();
  inner.add("a-number", uint64_t{7});
  Json list = Json::list();
  list.push(std::move(inner));
  json.add("nested", std::move(list));
  EXPECT_EQ(json.to_json(),
            "{\n    \"flag\": true,\n    \"empty\": [\n    ],\n    \"list\": [\n    ],\n"
            "    \"nested\": [\n        {\n            \"a-number\": 7\n        }\n    ]\n}\n");
  EXPECT_EQ(json.to_lines(1),
            "    flag: true\n    empty:\n    list:\n    nested:\n        [0]:\n"
            "            a number: 7\n");
}

TEST(JsonTest, StringsAreAsciiWhateverTheImageSays) {
  EXPECT_EQ(json_string("a\"\\\n\x1b["), "\"a\\\"\\\\\\n\\u001B[\"");
  EXPECT_EQ(json_string("\xc3\xa9"), "\"\\u00E9\"");
  EXPECT_EQ(json_string("\xf0\x9f\x90\x84"), "\"\\uD83D\\uDC04\"");
  // Broken UTF-8: cut off, over-long, a surrogate, a lone continuation.
  EXPECT_EQ(json_string("\xc3"), "\"\\uFFFD\"");
  EXPECT_EQ(json_string("\xc3x"), "\"\\uFFFDx\"");
  EXPECT_EQ(json_string("\xc0\xaf"), "\"\\uFFFD\"");
  EXPECT_EQ(json_string("\xed\xa0\x80"), "\"\\uFFFD\"");
  EXPECT_EQ(json_string("\x80z"), "\"\\uFFFDz\"");
  Json json = Json::object();
  json.add("name", "\x1b[31mred");
  EXPECT_EQ(json.to_lines(0).find('\x1b'), std::string::npos);
}

TEST(ImageNameTest, KnowsProtocols) {
  EXPECT_EQ(place_of_name("a.qcow2")->path, "a.qcow2");
  EXPECT_EQ(place_of_name("./a:b")->path, "./a:b");
  EXPECT_EQ(place_of_name("dir/a:b")->path, "dir/a:b");
  EXPECT_EQ(place_of_name("file:x:y")->path, "x:y");
  EXPECT_EQ(place_of_name("foo:x").error().message(), "Unknown protocol 'foo'");
  for (const char* name : {"null-co://", "blkdebug::x"}) {
    EXPECT_THAT(place_of_name(name).error().message(),
                HasSubstr("does not support image creation"));
  }
  EXPECT_THAT(place_of_name("json:{}").error().message(), HasSubstr("Unknown protocol 'json'"));
}

TEST(ImageNameTest, NewImagesGoIntoExportsToo) {
  Result<ImagePlace> place = place_of_name("nbd+unix:///e?socket=/s");
  ASSERT_TRUE(place.ok());
  EXPECT_EQ(place->path, "");
  ASSERT_TRUE(place->node);
  EXPECT_EQ(place->node->text("export"), "e");
  EXPECT_FALSE(place_of_name("nbd://").ok());
  // There is no folder that a relative name could start from.
  EXPECT_EQ(*place->resolve("/dir/base"), "/dir/base");
  EXPECT_THAT(place->resolve("base").error().message(), HasSubstr("whole path of 'base'"));
  EXPECT_EQ(*place_of_name("dir/a.qcow2")->resolve("base"), "dir/base");
}

}  // namespace
}  // namespace calf::img
