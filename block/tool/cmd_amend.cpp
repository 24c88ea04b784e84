// amend: changes options of an existing image. Contract section 3.13.

#include "block/ops/amend.h"
#include "block/qcow2/image.h"
#include "block/tool/amend_options.h"
#include "block/tool/commands.h"
#include "block/tool/image_name.h"
#include "block/tool/options.h"
#include "block/tool/progress.h"

namespace calf::img {
namespace {

struct Arguments {
  ImageArguments image;
  std::string options;
  block::CacheMode cache;
  bool quiet = false;
  bool progress = false;
  bool force = false;
};

Async<std::unique_ptr<block::Node>> open_image(const Context& context, const Arguments& args) {
  CO_TRY(block::OpenSpec spec, open_spec(context, args.image));
  spec.writable = true;
  spec.discard = true;
  spec.cache = args.cache;
  // Every step is durable when it ends.
  spec.cache.write_through = false;
  co_return co_await block::open_chain(context.executor, context.formats, std::move(spec));
}

Async<> run(const Context& context, const Arguments& args, ops::JobControl& control) {
  CO_TRY(std::unique_ptr<block::Node> node, co_await open_image(context, args));
  const std::string format = node->format();
  std::optional<qcow2::ImageInfo> info;
  if (auto* image = dynamic_cast<qcow2::Image*>(node.get())) info = image->info();
  Result<qcow2::AmendOptions> options(qcow2::AmendOptions{});
  if (!can_amend(format)) {
    options = make_error(ErrorKind::kUnsupported,
                         "Format driver '{}' does not support option amendment", format);
  } else {
    Result<OptionList> list = OptionList::parse(args.options);
    if (list.ok()) {
      options = amend_options(format, *list, context.secrets, args.force, info ? &*info : nullptr);
    } else {
      options = std::move(list.error());
    }
  }
  Result<void> closed = co_await node->close();
  CO_TRY(qcow2::AmendOptions wanted, std::move(options));
  CO_TRY_VOID(std::move(closed));
  wanted.progress = [&control](uint64_t done, uint64_t total) { control.report(done, total); };
  ops::OpenImage open = [&context, &args] { return open_image(context, args); };
  co_return co_await ops::amend(std::move(open), wanted);
}

std::optional<int> help(const Context& context, const Arguments& args) {
  Result<OptionList> list = OptionList::parse(args.options);
  if (!list.ok() || !list->wants_help()) return std::nullopt;
  const std::string format = args.image.format.value_or("");
  if (format.empty()) return std::nullopt;
  if (!can_amend(format)) {
    context.errorf("Format driver '{}' does not support option amendment", format);
    return kExitFailure;
  }
  print_amend_options(format);
  return kExitOk;
}

}  // namespace

int cmd_amend(const Context& context, int argc, char** argv) {
  constexpr int kForce = kLongOnly;
  static constexpr Option kOptions[] = {
      {nullptr, 'f', true}, {nullptr, 'o', true},        {nullptr, 't', true}, {nullptr, 'p'},
      {nullptr, 'q'},       {"force", 0, false, kForce}, kObjectOption,        kImageOptsOption};
  Arguments args;
  Operands operands = parse_options(
      context, argc, argv, kOptions, [&](int code, std::string value) -> std::optional<int> {
        switch (code) {
          case 'f':
            args.image.format = value;
            break;
          case 'o':
            if (!is_valid_option_list(value)) {
              context.errorf("Invalid option list: {}", value);
              return kExitFailure;
            }
            args.options += (args.options.empty() ? "" : ",") + value;
            break;
          case 't': {
            std::optional<block::CacheMode> mode = block::parse_cache_mode(value);
            if (!mode) {
              context.errorf("Invalid cache option: {}", value);
              return kExitFailure;
            }
            args.cache = *mode;
            break;
          }
          case 'p':
            args.progress = true;
            break;
          case 'q':
            args.quiet = true;
            break;
          case kForce:
            args.force = true;
            args.image.force = true;
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
  if (args.options.empty()) {
    context.error("Must specify options (-o)");
    return kExitFailure;
  }
  if (std::optional<int> code = help(context, args)) return *code;
  if (operands.words.size() != 1) {
    context.error("Expecting one image file name");
    return kExitFailure;
  }
  args.image.name = operands.words[0];
  JobMonitor monitor(context.executor, args.progress && !args.quiet, 1);
  Result<void> result = monitor.run(run(context, args, monitor.control()));
  if (result.ok()) {
    monitor.show_complete();
    return kExitOk;
  }
  context.error(result.error());
  return kExitFailure;
}

}  // namespace calf::img
