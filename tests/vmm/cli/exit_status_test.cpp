#include "vmm/cli/exit_status.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/block/test_files.h"

namespace calf::vmm {
namespace {

using nlohmann::ordered_json;

class ResultFileTest : public testing::Test {
 protected:
  ordered_json written(const RunResult& result, int status) {
    const std::string path = folder_.file("result.json");
    Result<void> done = write_result_file(path, result, status);
    EXPECT_TRUE(done.ok()) << done.error().message();
    std::ifstream file(path);
    return ordered_json::parse(file);
  }

  TestFolder folder_;
};

TEST_F(ResultFileTest, PhasesStandInOrderInMillisecondsSinceTheStart) {
  using std::chrono::milliseconds;
  RunResult result;
  result.reason = EndReason::kPowerOff;
  result.phases.build_started = milliseconds(1000);
  result.phases.reached = {{"memory", milliseconds(1002)}, {"first-entry", milliseconds(1010)}};
  const ordered_json json = written(result, 0);
  EXPECT_EQ(json["reason"], "power-off");
  EXPECT_EQ(json["exit-code"], 0);
  EXPECT_EQ(json["phases-ms"].dump(), R"({"memory":2.0,"first-entry":10.0})");
  EXPECT_FALSE(json.contains("debug-exit-value"));
}

TEST_F(ResultFileTest, ARunThatNeverBeganHasNoPhases) {
  RunResult result;
  result.reason = EndReason::kInternalError;
  result.text = "no \xff KVM";
  const ordered_json json = written(result, 33);
  EXPECT_EQ(json["phases-ms"].dump(), "{}");
  EXPECT_EQ(json["text"], "no \xEF\xBF\xBD KVM");
}

TEST_F(ResultFileTest, AFileThatCannotBeWrittenIsNamed) {
  const std::string path = folder_.file("no-such-folder") + "/result.json";
  Result<void> done = write_result_file(path, RunResult(), 0);
  ASSERT_FALSE(done.ok());
  EXPECT_NE(done.error().message().find(path), std::string::npos);
}

}  // namespace
}  // namespace calf::vmm
