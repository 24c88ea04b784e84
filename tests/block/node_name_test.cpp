#include "block/node_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "block/blkdebug_rules.h"
#include "block/shown_name.h"

namespace calf::block {
namespace {

using testing::HasSubstr;

// "key=value key=value", in the order of the description.
std::string flat(const Result<NodeDescription>& description) {
  if (!description.ok()) return "error: " + description.error().message();
  std::string out;
  for (const auto& [key, value] : description->items())
    out += fmt::format("{}{}={}", out.empty() ? "" : " ", key, to_text(value));
  return out;
}

TEST(NodeNameTest, PathsAndProtocols) {
  EXPECT_EQ(flat(parse_node_name("a.qcow2")), "file.driver=file file.filename=a.qcow2");
  EXPECT_EQ(flat(parse_node_name("./a:b")), "file.driver=file file.filename=./a:b");
  EXPECT_EQ(flat(parse_node_name("file:a:b")), "file.driver=file file.filename=a:b");
  EXPECT_EQ(flat(parse_node_name("null-co://")), "file.driver=null-co");
  EXPECT_EQ(flat(parse_node_name("blkdebug:c:file:x")),
            "file.driver=blkdebug file.config=c file.image.driver=file file.image.filename=x");
  EXPECT_EQ(flat(parse_node_name("foo:x")), "error: Unknown protocol 'foo'");
  EXPECT_EQ(flat(parse_node_name("blkdebug::foo:x")), "error: Unknown protocol 'foo'");
}

TEST(NodeNameTest, JsonNestedAndDotted) {
  EXPECT_EQ(flat(parse_node_name(R"(json:{"driver":"raw","file":{"filename":"x","size":1}})")),
            "driver=raw file.filename=x file.size=1");
  EXPECT_EQ(flat(parse_node_name(R"(json:{"a.b":true,"c":[1,{"d":null}]})")),
            "a.b=on c.0=1 c.1.d=");
  EXPECT_THAT(flat(parse_node_name(R"(json:{"a":{"b":1},"a.b":2})")), HasSubstr("given twice"));
  EXPECT_THAT(flat(parse_node_name("json:{")), HasSubstr("premature EOI"));
  EXPECT_THAT(flat(parse_node_name("json:[]")), HasSubstr("Invalid JSON object given"));
  EXPECT_THAT(flat(parse_node_name("json:{\"a\":\"\\u0000\"}")), HasSubstr("NUL"));
  std::string deep = "json:{\"a\":";
  for (unsigned i = 0; i < 100'000; ++i)
    deep += "[";
  EXPECT_THAT(flat(parse_node_name(deep)), HasSubstr("nested too deeply"));
}

TEST(NodeNameTest, NbdForms) {
  EXPECT_EQ(flat(parse_protocol_name("nbd:host:10809")), "driver=nbd host=host port=10809");
  EXPECT_EQ(flat(parse_protocol_name("nbd:host:1:exportname=a:b")),
            "driver=nbd export=a:b host=host port=1");
  EXPECT_EQ(flat(parse_protocol_name("nbd:unix:/run/s:exportname=x")),
            "driver=nbd export=x path=/run/s");
  EXPECT_EQ(flat(parse_protocol_name("nbd://[::1]/x%20y")),
            "driver=nbd export=x y host=::1 port=10809");
  EXPECT_EQ(flat(parse_protocol_name("nbd+unix:///?socket=/s")), "driver=nbd path=/s");
  EXPECT_EQ(flat(parse_protocol_name("nbd+unix:///n?socket=/s%3a")),
            "driver=nbd export=n path=/s:");
  for (const char* bad :
       {"nbd+unix:///foo", "nbd://", "nbd+unix:///%zz?socket=/s", "nbd+unix:///%00?socket=/s",
        "nbd+unix://h/x?socket=/s", "nbd://h?x=1", "nbd+tcp:x:1"}) {
    EXPECT_EQ(flat(parse_protocol_name(bad)), "error: No valid URL specified") << bad;
  }
  EXPECT_EQ(flat(parse_protocol_name("nbd:foo")), "error: error parsing address 'foo'");
}

TEST(NodeDescriptionTest, TakesAndTells) {
  NodeDescription node = *parse_node_name(
      R"(json:{"a":"on","b":"maybe","c":"4k","d":"1x","e":{"f":1,"g.h":2},"i":"node0"})");
  EXPECT_EQ(**node.take_switch("a"), true);
  EXPECT_FALSE(node.has("a"));
  EXPECT_EQ(node.take_switch("b").error().message(), "Parameter 'b' expects 'on' or 'off'");
  EXPECT_EQ(**node.take_size("c"), 4096U);
  EXPECT_THAT(node.take_size("d").error().message(), HasSubstr("non-negative number"));
  EXPECT_FALSE(node.take_number("nothing")->has_value());
  EXPECT_EQ(flat(node.take_child("e")), "f=1 g.h=2");
  EXPECT_EQ(node.take_child("i").error().message(),
            "Cannot find device='node0' nor node-name='node0'");
  EXPECT_TRUE(node.empty());
}

std::string shown(const char* name) {
  return shown_name(*parse_node_name(name), "qcow2");
}

TEST(ShownNameTest, PlainWhereThatSaysAll) {
  EXPECT_EQ(shown("a.qcow2"), "a.qcow2");
  EXPECT_EQ(shown("file:a:b"), "./a:b");
  EXPECT_EQ(shown("null-co://"), "null-co://");
  EXPECT_EQ(shown("blkdebug::a"), "blkdebug::a");
  EXPECT_EQ(shown("nbd:unix:/s:exportname=x"), "nbd+unix:///x?socket=/s");
  EXPECT_EQ(shown("nbd:h:1"), "nbd://h:1");
  EXPECT_EQ(shown("nbd:[::1]:1"), "nbd://[::1]:1");
  EXPECT_EQ(shown(R"(json:{"driver":"qcow2","file.filename":"a","lazy-refcounts":"on"})"), "a");
}

TEST(ShownNameTest, JsonWhereOptionsMatter) {
  EXPECT_EQ(
      shown(R"(json:{"driver":"raw","offset":512,"file":{"filename":"r"}})"),
      R"(json:{"offset": 512, "driver": "raw", "file": {"driver": "file", "filename": "r"}})");
  EXPECT_EQ(shown(R"(json:{"driver":"null-co","size":"1M"})"),
            R"(json:{"driver": "null-co", "size": "1M"})");
  EXPECT_EQ(shown(R"(json:{"file":{"driver":"raw","file":{"filename":"a"}}})"),
            R"(json:{"driver": "qcow2", "file": {"driver": "raw", "file": {"driver": "file", )"
            R"("filename": "a"}}})");
  EXPECT_EQ(file_below(*parse_node_name("blkdebug::a")), "a");
  EXPECT_EQ(file_below(*parse_node_name("null-co://")), "");
  // What an image names beside itself is found from here.
  EXPECT_EQ(file_below(*parse_node_name("file:image:top")), "./image:top");
}

TEST(BlkdebugRulesTest, FailsWhatTheRulesSay) {
  NodeDescription node = *parse_node_name(
      R"(json:{"inject-error":[{"event":"write_aio","errno":28,"sector":8,"once":"on"},
                               {"event":"none","state":2,"iotype":"flush"}],
               "set-state":[{"event":"flush_to_disk","state":1,"new_state":2}]})");
  Result<BlkdebugRules> made = BlkdebugRules::take(&node);
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_TRUE(node.empty());
  BlkdebugRules& rules = *made;
  EXPECT_EQ(rules.judge(BlkdebugIo::kWrite, {0, 4096}), 0);
  EXPECT_EQ(rules.judge(BlkdebugIo::kRead, {4096, 512}), 0);
  EXPECT_EQ(rules.judge(BlkdebugIo::kWrite, {0, 4097}), ENOSPC);
  EXPECT_EQ(rules.judge(BlkdebugIo::kWrite, {0, 4097}), 0) << "once";
  EXPECT_EQ(rules.judge(BlkdebugIo::kFlush, {}), 0) << "sets the state";
  EXPECT_EQ(rules.judge(BlkdebugIo::kFlush, {}), EIO);
}

TEST(BlkdebugRulesTest, RefusesByName) {
  auto error_of = [](const char* json) {
    NodeDescription node = *parse_node_name(json);
    return BlkdebugRules::take(&node).error().message();
  };
  EXPECT_EQ(error_of(R"(json:{"inject-error":[{"errno":5}]})"), "Missing event name for rule");
  EXPECT_EQ(error_of(R"(json:{"inject-error":[{"event":"x"}]})"), "invalid parameter value: x");
  EXPECT_EQ(error_of(R"(json:{"set-state":[{"event":"none","once":"on"}]})"),
            "[set-state] section doesn't support the option 'once'");
  EXPECT_THAT(error_of(R"(json:{"config":"/nonexistent"})"),
              HasSubstr("Could not read blkdebug config file: No such file"));
}

}  // namespace
}  // namespace calf::block
