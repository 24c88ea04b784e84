#include "block/base/log.h"

#include <gtest/gtest.h>

namespace calf {
namespace {

TEST(Quote, LeavesTextAndUtf8Alone) {
  EXPECT_EQ(quote_for_terminal("disk é 漢 \xf0\x9f\x90\x84"), "disk é 漢 \xf0\x9f\x90\x84");
}

TEST(Quote, StopsTerminalEscapes) {
  EXPECT_EQ(quote_for_terminal("a\x1b[2Jb\r\x7f"), "a\\x1b[2Jb\\x0d\\x7f");
  // U+009B is CSI in its C1 form.
  EXPECT_EQ(quote_for_terminal("\xc2\x9b"), "\\xc2\\x9b");
  EXPECT_EQ(quote_for_terminal("\xff\xc3"), "\\xff\\xc3");
  // An overlong slash and a surrogate.
  EXPECT_EQ(quote_for_terminal("\xc0\xaf\xed\xa0\x80"), "\\xc0\\xaf\\xed\\xa0\\x80");
}

TEST(Quote, MakesOneWordOfAShellCommand) {
  EXPECT_EQ(quote_for_shell("a b$(c)"), "'a b$(c)'");
  EXPECT_EQ(quote_for_shell("it's; rm \\"), "'it'\\''s; rm \\'");
  EXPECT_EQ(quote_for_shell("a\n'\\"), "$'a\\x0a\\'\\\\'");
  EXPECT_EQ(quote_for_shell(""), "''");
}

TEST(Log, PrefixesAndFilters) {
  std::string out;
  Log log(
      "calf", LogLevel::kWarning,
      [](void* to, std::string_view line) { static_cast<std::string*>(to)->append(line); }, &out);
  log.info("not shown");
  log.warning("port {:#x}", 0x3f8);
  log.error("name '{}'", "a\x1b");
  EXPECT_EQ(out, "calf: warning: port 0x3f8\ncalf: name 'a\\x1b'\n");
}

TEST(RateLimit, AllowsABurstThenRefuses) {
  RateLimit limit(2, std::chrono::hours(1));
  EXPECT_TRUE(limit.allow());
  EXPECT_TRUE(limit.allow());
  EXPECT_FALSE(limit.allow());
}

}  // namespace
}  // namespace calf
