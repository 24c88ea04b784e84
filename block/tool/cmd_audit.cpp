// audit: one verdict on a file from a stranger, for services that take uploads. Not of qemu-img.
//
//     calf-img audit --json -f qcow2 --max-size 100G upload
//
// Exit code 0: nothing speaks against it, 2: refused, 1: it could not be looked at.

#include "block/base/log.h"
#include "block/ops/audit.h"
#include "block/tool/commands.h"
#include "block/tool/json.h"
#include "block/tool/options.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

constexpr int kExitRefused = 2;

Json list_of(const std::vector<std::string>& words) {
  Json list = Json::list();
  for (const std::string& word : words)
    list.push(word);
  return list;
}

Json names_of(const ops::AuditReport& report) {
  Json list = Json::list();
  for (const ops::NamedFile& file : report.names) {
    Json json = Json::object();
    json.add("role", file.role);
    json.add("filename", file.name);
    if (file.format) json.add("format", *file.format);
    list.push(std::move(json));
  }
  return list;
}

Json findings_of(const ops::AuditReport& report) {
  Json list = Json::list();
  for (const ops::Finding& finding : report.findings) {
    Json json = Json::object();
    json.add("severity", finding.severity == ops::Severity::kRefuse ? "refuse" : "note");
    json.add("rule", finding.rule);
    json.add("text", finding.text);
    list.push(std::move(json));
  }
  return list;
}

Json to_json(const ops::AuditReport& report, const std::string& filename) {
  Json cost = Json::object();
  cost.add("file-length", report.file_length);
  cost.add("allocated", report.allocated);
  cost.add("virtual-size", report.virtual_size);
  cost.add("table-bytes", report.table_bytes);
  Json json = Json::object();
  json.add("verdict", report.refused() ? "refuse" : "accept");
  json.add("filename", filename);
  json.add("format", report.format);
  json.add("names", names_of(report));
  json.add("features", list_of(report.features));
  json.add("snapshots", report.snapshots);
  json.add("bitmaps", report.bitmaps);
  json.add("cost", std::move(cost));
  json.add("findings", findings_of(report));
  return json;
}

void print_text(const ops::AuditReport& report, const std::string& filename) {
  put("{}: {} ({}, {})\n", quote_for_terminal(filename), report.refused() ? "refuse" : "accept",
      report.format, human_size(report.virtual_size));
  for (const ops::Finding& finding : report.findings) {
    put("    {}{}: {}\n", finding.severity == ops::Severity::kRefuse ? "refuse: " : "",
        finding.rule, quote_for_terminal(finding.text));
  }
}

}  // namespace

int cmd_audit(const Context& context, int argc, char** argv) {
  constexpr int kJson = kLongOnly;
  constexpr int kMaxSize = kLongOnly + 1;
  constexpr int kDeep = kLongOnly + 2;
  constexpr int kOutput = kLongOnly + 3;
  constexpr int kTimeLimit = kLongOnly + 4;
  // More than anybody waits for, less than a clock can count.
  constexpr uint64_t kMostSeconds = uint64_t{365} * 86400;
  static constexpr Option kOptions[] = {
      {"format", 'f', true},        {"json", 0, false, kJson},
      {"output", 0, true, kOutput}, {"max-size", 0, true, kMaxSize},
      {"deep", 0, false, kDeep},    {"time-limit", 0, true, kTimeLimit}};
  ops::AuditRules rules;
  std::string output = "human";
  std::optional<uint64_t> seconds;
  Operands operands = parse_options(
      context, argc, argv, kOptions, [&](int code, std::string value) -> std::optional<int> {
        switch (code) {
          case 'f':
            rules.format = value;
            break;
          case kJson:
            output = "json";
            break;
          case kOutput:
            output = value;
            break;
          case kMaxSize:
            rules.max_size = size_argument(context, "size", value);
            if (!rules.max_size) return kExitFailure;
            break;
          case kDeep:
            rules.deep = true;
            break;
          case kTimeLimit:
            seconds = size_argument(context, "time limit", value, 0, kMostSeconds);
            if (!seconds) return kExitFailure;
            break;
        }
        return std::nullopt;
      });
  if (operands.exit_code) return *operands.exit_code;
  if (operands.words.size() != 1) return context.usage_error("Expecting one image file name");
  if (seconds && !rules.deep) return context.usage_error("--time-limit is for --deep");
  if (seconds) rules.time_limit = std::chrono::seconds(*seconds);
  if (output != "human" && output != "json") {
    context.error("--output must be used with human or json as argument.");
    return kExitFailure;
  }
  const std::string& name = operands.words[0];
  auto report =
      context.executor.run(ops::audit(context.executor, context.formats, name, std::move(rules)));
  if (!report.ok()) {
    context.error(report.error());
    return kExitFailure;
  }
  if (output == "json") {
    put("{}", to_json(*report, name).to_json());
  } else {
    print_text(*report, name);
  }
  return report->refused() ? kExitRefused : kExitOk;
}

}  // namespace calf::img
