// compare: do two images show the same bytes? Contract section 3.5.

#include <algorithm>
#include <cstdio>

#include "block/ops/compare.h"
#include "block/tool/commands.h"
#include "block/tool/image_name.h"
#include "block/tool/options.h"
#include "block/tool/progress.h"

namespace calf::img {
namespace {

constexpr int kExitDiffer = 1;
constexpr int kExitCannotOpen = 2;
constexpr int kExitStatusFailed = 3;
constexpr int kExitReadFailed = 4;

struct Arguments {
  ImageArguments images[2];
  block::CacheMode cache;
  bool quiet = false;
  bool progress = false;
  bool strict = false;
  bool force_share = false;
};

Async<std::unique_ptr<block::Node>> open_image(const Context& context, const Arguments& args,
                                               unsigned which) {
  CO_TRY(block::OpenSpec spec, open_spec(context, args.images[which]));
  spec.cache = args.cache;
  spec.force_share |= args.force_share;
  co_return co_await block::open_chain(context.executor, context.formats, std::move(spec));
}

int report_failure(const Context& context, const Arguments& args, const Error& error,
                   const ops::CompareFailure& failure) {
  if (error.kind() == ErrorKind::kCancelled) {
    context.error(error);
    return kExitFailure;
  }
  const std::string& name = args.images[failure.image].name;
  if (failure.status) {
    context.errorf("Sector allocation test failed for {}", name);
    return kExitStatusFailed;
  }
  context.errorf("Error while reading offset {} of {}: {}", failure.offset, name, error.message());
  return kExitReadFailed;
}

Task<int> compare_nodes(const Context& context, const Arguments& args, JobMonitor& monitor,
                        block::Node& first, block::Node& second) {
  auto say = [&](const std::string& line) {
    if (!args.quiet) put("{}\n", line);
  };
  uint64_t common = std::min(first.size(), second.size());
  bool same_size = first.size() == second.size();
  if (!same_size && args.strict) {
    say("Strict mode: Image size mismatch!");
    co_return kExitDiffer;
  }
  ops::CompareFailure failure;
  ops::CompareOptions options{.strict = args.strict};
  Result<ops::CompareResult> result =
      co_await ops::compare(context.executor, first, second, options, monitor.control(), &failure);
  if (!result.ok()) co_return report_failure(context, args, result.error(), failure);
  // What is different in the part that both have is told without it.
  bool common_equal = result->difference == ops::Difference::kNone || result->offset >= common;
  if (!same_size && common_equal) say("Warning: Image size mismatch!");
  switch (result->difference) {
    case ops::Difference::kNone:
      say("Images are identical.");
      co_return kExitOk;
    case ops::Difference::kContent:
      say(fmt::format("Content mismatch at offset {}!", result->offset));
      co_return kExitDiffer;
    case ops::Difference::kStatus:
      say(fmt::format("Strict mode: Offset {} block status mismatch!", result->offset));
      co_return kExitDiffer;
  }
  co_return kExitFailure;
}

Task<int> run(const Context& context, const Arguments& args, JobMonitor& monitor) {
  Result<std::unique_ptr<block::Node>> first = co_await open_image(context, args, 0);
  if (!first.ok()) {
    context.error(first.error());
    co_return kExitCannotOpen;
  }
  Result<std::unique_ptr<block::Node>> second = co_await open_image(context, args, 1);
  if (!second.ok()) {
    context.error(second.error());
    Result<void> ignored = co_await (*first)->close();
    co_return kExitCannotOpen;
  }
  int code = co_await compare_nodes(context, args, monitor, **first, **second);
  for (auto* node : {&*first, &*second}) {
    Result<void> closed = co_await (*node)->close();
    if (!closed.ok()) {
      context.error(closed.error());
      code = std::max(code, kExitReadFailed);
    }
  }
  co_return code;
}

}  // namespace

int cmd_compare(const Context& context, int argc, char** argv) {
  static constexpr Option kOptions[] = {
      {nullptr, 'f', true}, {nullptr, 'F', true}, {nullptr, 'T', true},
      {nullptr, 'p'},       {nullptr, 'q'},       {nullptr, 's'},
      {"force-share", 'U'}, kObjectOption,        kImageOptsOption};
  Arguments args;
  std::string cache = "writeback";
  Operands operands = parse_options(
      context, argc, argv, kOptions, [&](int code, std::string value) -> std::optional<int> {
        switch (code) {
          case 'f':
            args.images[0].format = value;
            break;
          case 'F':
            args.images[1].format = value;
            break;
          case 'T':
            cache = value;
            break;
          case 'p':
            args.progress = true;
            break;
          case 'q':
            args.quiet = true;
            break;
          case 's':
            args.strict = true;
            break;
          case 'U':
            args.force_share = true;
            break;
          case kOptImageOpts:
            args.images[0].image_opts = args.images[1].image_opts = true;
            break;
          case kOptObject:
            if (auto exit_code = check_object(context, value)) {
              return *exit_code == kExitOk ? kExitOk : kExitCannotOpen;
            }
            break;
        }
        return std::nullopt;
      });
  if (operands.exit_code) return *operands.exit_code;
  if (operands.words.size() != 2) return context.usage_error("Expecting two image file names");
  args.images[0].name = operands.words[0];
  args.images[1].name = operands.words[1];
  std::optional<block::CacheMode> mode = block::parse_cache_mode(cache);
  if (!mode) {
    context.errorf("Invalid source cache option: {}", cache);
    return kExitCannotOpen;
  }
  mode->write_through = false;
  args.cache = *mode;
  JobMonitor monitor(context.executor, progress_style(context, args.progress, args.quiet), 2);
  return monitor.run(run(context, args, monitor));
}

}  // namespace calf::img
