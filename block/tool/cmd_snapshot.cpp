// snapshot: lists, makes, applies and deletes internal snapshots. Contract section 3.10.

#include "block/ops/snapshot.h"
#include "block/tool/commands.h"
#include "block/tool/describe.h"
#include "block/tool/image_name.h"
#include "block/tool/options.h"
#include "block/tool/progress.h"

namespace calf::img {
namespace {

struct Arguments {
  ImageArguments image;
  // 'l', 'a', 'c', 'd', or 0: nothing but an open for writing.
  char action = 0;
  std::string snapshot;
  bool force_share = false;
  bool quiet = false;
};

Async<> act(block::Node& node, const Arguments& args) {
  switch (args.action) {
    case 'l': {
      std::vector<qcow2::SnapshotInfo> list = ops::list_snapshots(node);
      if (!list.empty()) put("{}", snapshot_list(list));
      co_return Result<void>();
    }
    case 'a':
      co_return co_await ops::apply_snapshot(node, args.snapshot);
    case 'c':
      co_return co_await ops::create_snapshot(node, args.snapshot);
    case 'd':
      co_return co_await ops::delete_snapshot(node, args.snapshot);
    default:
      co_return Result<void>();
  }
}

// What went wrong with the action itself; the image was opened.
void report(const Context& context, const Arguments& args, const Error& error) {
  switch (args.action) {
    case 'a':
      context.errorf("Could not apply snapshot '{}': {}", args.snapshot, error.message());
      break;
    case 'c': {
      const int code = error.sys_errno();
      std::string text = fmt::format("Could not create snapshot '{}': {} ({})", args.snapshot,
                                     -code, Error::from_errno(code).message());
      if (!context.exact() && error.message() != Error::from_errno(code).message()) {
        text += "\n" + error.message();
      }
      context.error(text);
      break;
    }
    case 'd':
      context.errorf("Could not delete snapshot '{}': {}", args.snapshot, error.message());
      break;
    default:
      context.error(error);
  }
}

// An exit code; errors are printed.
Async<int> run(const Context& context, const Arguments& args) {
  CO_TRY(block::OpenSpec spec, open_spec(context, args.image));
  const bool list = args.action == 'l';
  spec.writable = !list;
  spec.info_only = list;
  spec.force_share |= args.force_share;
  spec.discard = true;
  // Nothing is read through the image, so what is below it stays closed.
  spec.open_backing = false;
  CO_TRY(std::unique_ptr<block::Node> node,
         co_await block::open_chain(context.executor, context.formats, std::move(spec)));
  Result<void> done = co_await act(*node, args);
  if (!done.ok()) report(context, args, done.error());
  CO_TRY_VOID(co_await node->close());
  co_return done.ok() ? kExitOk : kExitFailure;
}

}  // namespace

int cmd_snapshot(const Context& context, int argc, char** argv) {
  static constexpr Option kOptions[] = {
      {nullptr, 'l'}, {nullptr, 'a', true}, {nullptr, 'c', true}, {nullptr, 'd', true},
      {nullptr, 'q'}, {"force-share", 'U'}, kObjectOption,        kImageOptsOption};
  Arguments args;
  Operands operands = parse_options(
      context, argc, argv, kOptions, [&](int code, std::string value) -> std::optional<int> {
        switch (code) {
          case 'l':
          case 'a':
          case 'c':
          case 'd':
            if (args.action != 0) return context.usage_error("Cannot mix '-l', '-a', '-c', '-d'");
            args.action = static_cast<char>(code);
            args.snapshot = value;
            break;
          case 'q':
            args.quiet = true;
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
  if (operands.words.size() != 1) return context.usage_error("Expecting one image file name");
  args.image.name = operands.words[0];
  // A signal waits for the end: the action is short, and complete or not begun.
  JobMonitor monitor(context.executor, false, 1);
  Result<int> code = monitor.run(run(context, args));
  if (code.ok()) return *code;
  context.error(code.error());
  return kExitFailure;
}

}  // namespace calf::img
