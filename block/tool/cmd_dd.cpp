// dd: copies blocks of one image into a new one. Contract section 3.7.

#include <algorithm>

#include "block/ops/copy.h"
#include "block/range_node.h"
#include "block/tool/commands.h"
#include "block/tool/create_image.h"
#include "block/tool/image_name.h"
#include "block/tool/options.h"
#include "block/tool/progress.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

struct Arguments {
  ImageArguments input;
  std::string output;
  std::string output_format = "raw";
  bool force_share = false;
  uint64_t block_size = 512;
  std::optional<uint64_t> count;
  uint64_t skip = 0;
};

// The part of an input of `size` bytes that is copied; nothing if the skip leads behind it. As in
// qemu-img, `count` counts from the begin of the input, not from where the skip leads.
std::optional<ByteRange> part_of(const Arguments& args, uint64_t size) {
  uint64_t end = size;
  uint64_t bytes = 0;
  if (args.count && !__builtin_mul_overflow(*args.count, args.block_size, &bytes)) {
    end = std::min(end, bytes);
  }
  uint64_t start = 0;
  if (__builtin_mul_overflow(args.skip, args.block_size, &start) || start > end) {
    return std::nullopt;
  }
  return ByteRange{start, end - start};
}

Async<> copy_part(const Context& context, const Arguments& args, block::Node& source,
                  ByteRange part, JobMonitor& monitor) {
  CO_TRY(ImagePlace place, place_of_name(args.output));
  CreateOptions options;
  options.set("size", std::to_string(part.length));
  Result<void> made = co_await create_image(context, args.output_format, place, options);
  if (!made.ok()) {
    co_return std::move(made.error())
        .with_context(fmt::format("{}: error while creating output image of type {}", args.output,
                                  args.output_format));
  }
  ImageArguments image{args.output, args.output_format, false};
  CO_TRY(block::OpenSpec spec, open_spec(context, image));
  spec.writable = true;
  CO_TRY(std::unique_ptr<block::Node> target,
         co_await block::open_chain(context.executor, context.formats, std::move(spec)));
  Result<void> done;
  if (!part.empty()) {
    block::RangeNode window(source, part);
    ops::CopyOptions copy_options;
    CO_TRY(copy_options.target_is_zero, co_await new_image_is_zero(*target));
    done = co_await ops::copy(context.executor, window, part.length, *target, copy_options,
                              monitor.control());
  }
  Result<void> closed = co_await target->close();
  CO_TRY_VOID(std::move(done));
  co_return closed;
}

Async<> run(const Context& context, const Arguments& args, JobMonitor& monitor) {
  CO_TRY(block::OpenSpec spec, open_spec(context, args.input));
  spec.force_share |= args.force_share;
  CO_TRY(std::unique_ptr<block::Node> source,
         co_await block::open_chain(context.executor, context.formats, std::move(spec)));
  std::optional<ByteRange> part = part_of(args, source->size());
  Result<void> copied =
      co_await copy_part(context, args, *source, part.value_or(ByteRange{}), monitor);
  if (copied.ok() && !part) {
    context.errorf("{}: cannot skip to specified offset", args.input.name);
  }
  Result<void> closed = co_await source->close();
  CO_TRY_VOID(std::move(copied));
  co_return closed;
}

// One "name=value" operand. An exit code if it is wrong.
std::optional<int> read_operand(const Context& context, const std::string& word, Arguments* args) {
  size_t equals = word.find('=');
  std::string name = word.substr(0, equals);
  std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
  if (equals == std::string::npos) {
    context.errorf("unrecognized operand {}", name);
    return kExitFailure;
  }
  std::optional<uint64_t> number;
  if (name == "if") {
    args->input.name = value;
  } else if (name == "of") {
    args->output = value;
  } else if (name == "bs") {
    number = size_argument(context, "bs", value, 1, INT32_MAX);
    if (!number) return kExitFailure;
    args->block_size = *number;
  } else if (name == "count" || name == "skip") {
    number = size_argument(context, name, value);
    if (!number) return kExitFailure;
    if (name == "count") {
      args->count = number;
    } else {
      args->skip = *number;
    }
  } else {
    context.errorf("unrecognized operand {}", name);
    return kExitFailure;
  }
  return std::nullopt;
}

}  // namespace

int cmd_dd(const Context& context, int argc, char** argv) {
  static constexpr Option kOptions[] = {{nullptr, 'f', true},
                                        {nullptr, 'O', true},
                                        {"force-share", 'U'},
                                        kObjectOption,
                                        kImageOptsOption};
  Arguments args;
  Operands operands = parse_options(context, argc, argv, kOptions,
                                    [&](int code, std::string value) -> std::optional<int> {
                                      switch (code) {
                                        case 'f':
                                          args.input.format = value;
                                          break;
                                        case 'O':
                                          args.output_format = value;
                                          break;
                                        case 'U':
                                          args.force_share = true;
                                          break;
                                        case kOptImageOpts:
                                          args.input.image_opts = true;
                                          break;
                                        case kOptObject:
                                          return check_object(context, value);
                                      }
                                      return std::nullopt;
                                    });
  if (operands.exit_code) return *operands.exit_code;
  for (const std::string& word : operands.words) {
    if (std::optional<int> code = read_operand(context, word, &args)) return *code;
  }
  if (args.input.name.empty() || args.output.empty()) {
    context.error("Must specify both input and output files");
    return kExitFailure;
  }
  if (create_options(args.output_format, false).empty()) {
    context.error("Unknown file format");
    return kExitFailure;
  }
  JobMonitor monitor(context.executor, false, 1);
  Result<void> result = monitor.run(run(context, args, monitor));
  if (result.ok()) return kExitOk;
  context.error(result.error());
  return kExitFailure;
}

}  // namespace calf::img
