// measure: how large the file of a new image would be. Contract section 3.9.

#include <cstdio>

#include "block/ops/measure.h"
#include "block/qcow2/image.h"
#include "block/tool/commands.h"
#include "block/tool/create_options.h"
#include "block/tool/image_name.h"
#include "block/tool/json.h"
#include "block/tool/options.h"
#include "block/tool/sizes.h"
#include "block/tool/snapshot_option.h"

namespace calf::img {
namespace {

struct Arguments {
  ImageArguments image;
  bool has_file = false;
  std::optional<uint64_t> size;
  std::string target_format = "raw";
  std::string options;
  bool json = false;
  bool force_share = false;
  std::optional<ops::SnapshotChoice> snapshot;
};

struct Answer {
  ops::Measurement size;
  std::optional<uint64_t> bitmaps;
};

Async<Answer> measure(const Context& context, const Arguments& args, CreateOptions options) {
  Answer answer;
  std::unique_ptr<block::Node> source;
  uint64_t size = args.size.value_or(0);
  if (args.has_file) {
    CO_TRY(block::OpenSpec spec, open_spec(context, args.image));
    spec.force_share |= args.force_share;
    CO_TRY(source, co_await block::open_chain(context.executor, context.formats, std::move(spec)));
    if (args.snapshot) CO_TRY_VOID(co_await ops::show_snapshot(*source, *args.snapshot));
    size = source->size();
  }
  if (args.target_format == "raw") {
    answer.size = {size, size};
    co_return answer;
  }
  if (args.target_format == "luks") {
    CO_TRY(luks::CreateOptions target, options.for_luks(context.secrets));
    target.size = size;
    CO_TRY(answer.size.required, luks::file_size(target));
    answer.size.fully_allocated = answer.size.required;
    co_return answer;
  }
  CO_TRY(qcow2::CreateOptions target, options.for_qcow2(context.secrets));
  // A size that is too large is measure's own to refuse.
  target.size = 0;
  CO_TRY_VOID(qcow2::validate(target));
  target.size = size;
  uint64_t data = 0;
  if (source) {
    if (target.backing_name) {
      // Nobody knows what the base will hold: nothing can be left out.
      data = align_up(size, target.cluster_size);
    } else {
      CO_TRY(data, co_await ops::count_data(context.executor, *source, target.cluster_size));
    }
    if (auto* image = dynamic_cast<qcow2::Image*>(source.get()); image != nullptr) {
      qcow2::ImageInfo info = image->info();
      if (info.version >= 3 && target.version >= 3) {
        answer.bitmaps = ops::measure_bitmaps(info.bitmaps, size, target.cluster_size);
      }
    }
    CO_TRY_VOID(co_await source->close());
  }
  CO_TRY(answer.size, ops::measure_qcow2(target, data));
  co_return answer;
}

void print(const Answer& answer, bool json) {
  if (json) {
    Json object = Json::object();
    if (answer.bitmaps) object.add("bitmaps", *answer.bitmaps);
    object.add("required", answer.size.required);
    object.add("fully-allocated", answer.size.fully_allocated);
    put("{}", object.to_json());
    return;
  }
  put("required size: {}\nfully allocated size: {}\n", answer.size.required,
      answer.size.fully_allocated);
  if (answer.bitmaps) put("bitmaps size: {}\n", *answer.bitmaps);
}

int run(const Context& context, const Arguments& args) {
  auto fail = [&](const Error& error) {
    context.error(error);
    return kExitFailure;
  };
  if (create_options(args.target_format, false).empty()) {
    context.errorf("Unknown file format '{}'", args.target_format);
    return kExitFailure;
  }
  Result<OptionList> list = OptionList::parse(args.options);
  if (!list.ok()) return fail(list.error());
  Result<CreateOptions> options = CreateOptions::parse(args.target_format, *list);
  if (!options.ok()) {
    context.error(options.error());
    context.errorf("Invalid options for file format '{}'", args.target_format);
    return kExitFailure;
  }
  Result<Answer> answer = context.executor.run(measure(context, args, std::move(*options)));
  if (!answer.ok()) return fail(answer.error());
  print(*answer, args.json);
  return kExitOk;
}

// The value of -l. An exit code if it is wrong.
std::optional<int> read_snapshot(const Context& context, const std::string& value,
                                 std::optional<ops::SnapshotChoice>* out) {
  Result<ops::SnapshotChoice> choice = parse_snapshot_option(value);
  if (choice.ok()) {
    *out = std::move(*choice);
    return std::nullopt;
  }
  context.error(choice.error());
  context.errorf("Failed in parsing snapshot param '{}'", value);
  return kExitFailure;
}

}  // namespace

int cmd_measure(const Context& context, int argc, char** argv) {
  constexpr int kOutput = kLongOnly;
  constexpr int kSize = kLongOnly + 1;
  static constexpr Option kOptions[] = {{nullptr, 'f', true},
                                        {nullptr, 'O', true},
                                        {nullptr, 'o', true},
                                        {nullptr, 'l', true},
                                        {"output", 0, true, kOutput},
                                        {"size", 0, true, kSize},
                                        {"force-share", 'U'},
                                        kObjectOption,
                                        kImageOptsOption};
  Arguments args;
  std::string output = "human";
  Operands operands = parse_options(context, argc, argv, kOptions,
                                    [&](int code, std::string value) -> std::optional<int> {
                                      switch (code) {
                                        case 'f':
                                          args.image.format = value;
                                          break;
                                        case 'O':
                                          args.target_format = value;
                                          break;
                                        case 'o':
                                          if (!is_valid_option_list(value)) {
                                            context.errorf("Invalid option list: {}", value);
                                            return kExitFailure;
                                          }
                                          args.options += (args.options.empty() ? "" : ",") + value;
                                          break;
                                        case 'l':
                                          return read_snapshot(context, value, &args.snapshot);
                                        case kOutput:
                                          output = value;
                                          break;
                                        case kSize:
                                          args.size = size_argument(context, "image size", value);
                                          if (!args.size) return kExitFailure;
                                          break;
                                        case 'U':
                                          args.force_share = true;
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
  auto fail = [&](std::string_view text) {
    context.error(text);
    return kExitFailure;
  };
  if (output != "human" && output != "json") {
    return fail("--output must be used with human or json as argument.");
  }
  if (operands.words.size() > 1) return fail("At most one filename argument is allowed.");
  args.has_file = operands.words.size() == 1;
  if (!args.has_file && (args.image.image_opts || args.image.format || args.snapshot)) {
    return fail("--image-opts, -f, and -l require a filename argument.");
  }
  if (!args.has_file && !args.size) {
    return fail("Either --size N or one filename must be specified.");
  }
  if (args.has_file && args.size) return fail("--size N cannot be used together with a filename.");
  if (args.has_file) args.image.name = operands.words[0];
  args.json = output == "json";
  return run(context, args);
}

}  // namespace calf::img
