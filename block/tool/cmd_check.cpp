// check: compares references and refcounts of a qcow2 image, and repairs them with -r. Contract
// sections 3.3 and 5.4.

#include <cstdio>

#include "block/qcow2/check.h"
#include "block/tool/commands.h"
#include "block/tool/image_name.h"
#include "block/tool/json.h"
#include "block/tool/options.h"

namespace calf::img {
namespace {

constexpr int kExitCorrupt = 2;
constexpr int kExitLeaks = 3;
constexpr int kExitNoChecks = 63;

struct Arguments {
  ImageArguments image;
  qcow2::Repair repair = qcow2::Repair::kNone;
  block::CacheMode cache;
  bool json = false;
  bool quiet = false;
  bool force_share = false;
};

std::string to_json(const qcow2::CheckResult& r, const std::string& filename) {
  Json json = Json::object();
  auto add = [&](const char* key, uint64_t value) {
    if (value != 0) json.add(key, value);
  };
  add("image-end-offset", r.image_end_offset);
  add("compressed-clusters", r.compressed_clusters);
  add("total-clusters", r.total_clusters);
  add("corruptions", r.corruptions);
  add("corruptions-fixed", r.corruptions_fixed);
  json.add("check-errors", r.check_errors);
  add("leaks", r.leaks);
  add("leaks-fixed", r.leaks_fixed);
  add("allocated-clusters", r.allocated_clusters);
  json.add("filename", filename);
  json.add("format", "qcow2");
  add("fragmented-clusters", r.fragmented_clusters);
  return json.to_json();
}

std::string to_text(const qcow2::CheckResult& r) {
  std::string out;
  if (r.corruptions == 0 && r.leaks == 0 && r.check_errors == 0) {
    out += "No errors were found on the image.\n";
  }
  if (r.corruptions != 0) {
    out += fmt::format(
        "\n{} errors were found on the image.\n"
        "Data may be corrupted, or further writes to the image may corrupt it.\n",
        r.corruptions);
  }
  if (r.leaks != 0) {
    out += fmt::format(
        "\n{} leaked clusters were found on the image.\n"
        "This means waste of disk space, but no harm to data.\n",
        r.leaks);
  }
  if (r.check_errors != 0) {
    out += fmt::format("\n{} internal errors have occurred during the check.\n", r.check_errors);
  }
  if (r.total_clusters != 0 && r.allocated_clusters != 0) {
    auto percent = [](uint64_t part, uint64_t whole) {
      return 100.0 * static_cast<double>(part) / static_cast<double>(whole);
    };
    out += fmt::format(
        "{}/{} = {:.2f}% allocated, {:.2f}% fragmented, {:.2f}% compressed clusters\n",
        r.allocated_clusters, r.total_clusters, percent(r.allocated_clusters, r.total_clusters),
        percent(r.fragmented_clusters, r.allocated_clusters),
        percent(r.compressed_clusters, r.allocated_clusters));
  }
  if (r.image_end_offset != 0) out += fmt::format("Image end offset: {}\n", r.image_end_offset);
  return out;
}

std::string repaired_text(const qcow2::CheckResult& r) {
  return fmt::format(
      "The following inconsistencies were found and repaired:\n\n"
      "    {} leaked clusters\n    {} corruptions\n\nDouble checking the fixed image now...\n",
      r.leaks_fixed, r.corruptions_fixed);
}

Result<qcow2::CheckResult> check_once(const Context& context, qcow2::Image& image,
                                      qcow2::Repair repair) {
  qcow2::FindingSink sink = [&](std::string_view line) { context.note(line); };
  return context.executor.run(qcow2::check(image, repair, sink));
}

int verdict(const Context& context, const qcow2::CheckResult& r) {
  if (r.check_errors != 0) {
    context.error("Check failed");
    return kExitFailure;
  }
  if (r.corruptions != 0) return kExitCorrupt;
  return r.leaks != 0 ? kExitLeaks : kExitOk;
}

int run_checks(const Context& context, qcow2::Image& image, const Arguments& args) {
  // What the engine says, then the errno behind it.
  auto failed = [&](const Error& error) {
    const std::string reason = Error::from_errno(error.sys_errno()).message();
    if (error.message() != reason) context.error(error);
    context.errorf("Check failed: {}", reason);
    return kExitFailure;
  };
  Result<qcow2::CheckResult> result = check_once(context, image, args.repair);
  if (!result.ok()) return failed(result.error());
  if (result->corruptions_fixed != 0 || result->leaks_fixed != 0) {
    if (!args.json && !args.quiet) {
      put("{}", repaired_text(*result));
      std::fflush(stdout);
    }
    Result<qcow2::CheckResult> again = check_once(context, image, qcow2::Repair::kNone);
    if (!again.ok()) return failed(again.error());
    again->leaks_fixed = result->leaks_fixed;
    again->corruptions_fixed = result->corruptions_fixed;
    result = std::move(again);
  }
  if (!args.quiet) {
    std::string out = args.json ? to_json(*result, args.image.name) : to_text(*result);
    std::fwrite(out.data(), 1, out.size(), stdout);
    std::fflush(stdout);
  }
  return verdict(context, *result);
}

int run(const Context& context, const Arguments& args) {
  Result<block::OpenSpec> spec = open_spec(context, args.image);
  if (!spec.ok()) {
    context.error(spec.error());
    return kExitFailure;
  }
  spec->for_check = true;
  // What is checked is this file: neither what lies below nor how to reach it.
  spec->open_backing = false;
  spec->writable = args.repair != qcow2::Repair::kNone;
  spec->discard = true;
  spec->cache = args.cache;
  spec->force_share |= args.force_share;
  auto node =
      context.executor.run(block::open_chain(context.executor, context.formats, std::move(*spec)));
  if (!node.ok()) {
    context.error(node.error());
    return kExitFailure;
  }
  auto* image = dynamic_cast<qcow2::Image*>(node->get());
  int code = kExitNoChecks;
  if (image == nullptr) {
    context.error("This image format does not support checks");
  } else {
    code = run_checks(context, *image, args);
  }
  Result<void> closed = context.executor.run((*node)->close());
  if (!closed.ok()) {
    context.error(closed.error());
    return kExitFailure;
  }
  return code;
}

}  // namespace

int cmd_check(const Context& context, int argc, char** argv) {
  constexpr int kOutput = kLongOnly;
  static constexpr Option kOptions[] = {
      {"format", 'f', true}, {"repair", 'r', true}, {"output", 0, true, kOutput},
      {nullptr, 'T', true},  {nullptr, 'q'},        {"force-share", 'U'},
      kObjectOption,         kImageOptsOption};
  Arguments args;
  std::string output = "human";
  std::string cache = "writeback";
  Operands operands = parse_options(
      context, argc, argv, kOptions, [&](int code, std::string value) -> std::optional<int> {
        switch (code) {
          case 'f':
            args.image.format = value;
            break;
          case 'r':
            if (value == "leaks") {
              args.repair = qcow2::Repair::kLeaks;
            } else if (value == "all") {
              args.repair = qcow2::Repair::kAll;
            } else {
              return context.usage_error(fmt::format(
                  "Unknown option value for -r (expecting 'leaks' or 'all'): {}", value));
            }
            break;
          case 'T':
            cache = value;
            break;
          case 'q':
            args.quiet = true;
            break;
          case 'U':
            args.force_share = true;
            break;
          case kOutput:
            output = value;
            break;
          case kOptImageOpts:
            args.image.image_opts = true;
            break;
          case kOptObject:
            return check_object(context, value);
        }
        return std::nullopt;
      });
  if (operands.exit_code) return *operands.exit_code;
  if (operands.words.size() != 1) return context.usage_error("Expecting one image file name");
  if (output != "human" && output != "json") {
    context.error("--output must be used with human or json as argument.");
    return kExitFailure;
  }
  std::optional<block::CacheMode> mode = block::parse_cache_mode(cache);
  if (!mode) {
    context.errorf("Invalid source cache option: {}", cache);
    return kExitFailure;
  }
  // The filter of writethrough would hide the image; a repair syncs at its end anyway.
  mode->write_through = false;
  args.cache = *mode;
  args.json = output == "json";
  args.image.name = operands.words[0];
  return run(context, args);
}

}  // namespace calf::img
