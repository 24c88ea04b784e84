// bitmap: changes the persistent bitmaps of an image. Contract section 3.14.

#include <vector>

#include "block/ops/bitmaps.h"
#include "block/tool/commands.h"
#include "block/tool/image_name.h"
#include "block/tool/options.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

using ops::BitmapAction;

struct Action {
  BitmapAction action;
  // What --merge names.
  std::string source;
};

struct Arguments {
  ImageArguments image;
  std::string bitmap;
  std::vector<Action> actions;
  uint64_t granularity = 0;
  std::optional<std::string> source_file;
  std::optional<std::string> source_format;
};

const char* word(BitmapAction action) {
  switch (action) {
    case BitmapAction::kAdd:
      return "add";
    case BitmapAction::kRemove:
      return "remove";
    case BitmapAction::kClear:
      return "clear";
    case BitmapAction::kEnable:
      return "enable";
    case BitmapAction::kDisable:
      return "disable";
    case BitmapAction::kMerge:
      return "merge";
  }
  return "";
}

Async<> perform(const Arguments& args, block::Node& node, block::Node* source) {
  for (const Action& action : args.actions) {
    ops::BitmapRequest request;
    request.action = action.action;
    request.name = args.bitmap;
    request.granularity = args.granularity;
    request.source = action.source;
    request.source_node = source;
    Result<void> done = co_await ops::change_bitmap(node, std::move(request));
    if (!done.ok()) {
      co_return std::move(done.error())
          .with_context(
              fmt::format("Operation {} on bitmap {} failed", word(action.action), args.bitmap));
    }
  }
  co_return Result<void>();
}

Async<> run(const Context& context, const Arguments& args) {
  CO_TRY(block::OpenSpec spec, open_spec(context, args.image));
  spec.writable = true;
  CO_TRY(std::unique_ptr<block::Node> node,
         co_await block::open_chain(context.executor, context.formats, std::move(spec)));
  std::unique_ptr<block::Node> source;
  Result<void> done;
  if (args.source_file) {
    ImageArguments image{*args.source_file, args.source_format, false};
    Result<block::OpenSpec> source_spec = open_spec(context, image);
    if (source_spec.ok()) {
      Result<std::unique_ptr<block::Node>> opened =
          co_await block::open_chain(context.executor, context.formats, std::move(*source_spec));
      if (opened.ok()) {
        source = std::move(*opened);
      } else {
        done = std::move(opened.error());
      }
    } else {
      done = std::move(source_spec.error());
    }
  }
  if (done.ok()) done = co_await perform(args, *node, source.get());
  if (source) {
    // Read-only: nothing can be lost.
    Result<void> ignored = co_await source->close();
  }
  Result<void> closed = co_await node->close();
  CO_TRY_VOID(std::move(done));
  co_return closed;
}

// An exit code if the arguments do not fit together.
std::optional<int> check(const Context& context, const Arguments& args) {
  auto has = [&](BitmapAction action) {
    for (const Action& given : args.actions) {
      if (given.action == action) return true;
    }
    return false;
  };
  const char* wrong = nullptr;
  if (args.actions.empty()) {
    wrong = "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge";
  } else if (args.granularity != 0 && !has(BitmapAction::kAdd)) {
    wrong = "granularity only supported with --add";
  } else if (args.source_format && !args.source_file) {
    wrong = "-F only supported with -b";
  } else if (args.source_file && !has(BitmapAction::kMerge)) {
    wrong = "Merge bitmap source file only supported with --merge";
  }
  if (wrong == nullptr) return std::nullopt;
  context.error(wrong);
  return kExitFailure;
}

}  // namespace

int cmd_bitmap(const Context& context, int argc, char** argv) {
  constexpr int kFirstAction = kLongOnly;
  constexpr int kMerge = kFirstAction + static_cast<int>(BitmapAction::kMerge);
  auto code_of = [](BitmapAction action) { return kFirstAction + static_cast<int>(action); };
  const Option kOptions[] = {{"add", 0, false, code_of(BitmapAction::kAdd)},
                             {"remove", 0, false, code_of(BitmapAction::kRemove)},
                             {"clear", 0, false, code_of(BitmapAction::kClear)},
                             {"enable", 0, false, code_of(BitmapAction::kEnable)},
                             {"disable", 0, false, code_of(BitmapAction::kDisable)},
                             {"merge", 0, true, kMerge},
                             {"source-file", 'b', true},
                             {"source-format", 'F', true},
                             {"granularity", 'g', true},
                             {nullptr, 'f', true},
                             kForceOption,
                             kObjectOption,
                             kImageOptsOption};
  Arguments args;
  Operands operands = parse_options(
      context, argc, argv, kOptions, [&](int code, std::string value) -> std::optional<int> {
        switch (code) {
          case 'b':
            args.source_file = value;
            break;
          case 'F':
            args.source_format = value;
            break;
          case 'f':
            args.image.format = value;
            break;
          case 'g': {
            std::optional<uint64_t> size = size_argument(context, "granularity", value);
            if (!size) return kExitFailure;
            args.granularity = *size;
            break;
          }
          case kOptForce:
            args.image.force = true;
            break;
          case kOptImageOpts:
            args.image.image_opts = true;
            break;
          case kOptObject:
            return check_object(context, value);
          default:
            args.actions.push_back({static_cast<BitmapAction>(code - kFirstAction), value});
            break;
        }
        return std::nullopt;
      });
  if (operands.exit_code) return *operands.exit_code;
  if (operands.words.size() != 2) {
    context.error("Expecting filename and bitmap name");
    return kExitFailure;
  }
  if (std::optional<int> code = check(context, args)) return *code;
  args.image.name = operands.words[0];
  args.bitmap = operands.words[1];
  Result<void> result = context.executor.run(run(context, args));
  if (result.ok()) return kExitOk;
  context.error(result.error());
  return kExitFailure;
}

}  // namespace calf::img
