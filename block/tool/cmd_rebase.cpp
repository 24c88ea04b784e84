// rebase: puts an overlay on another base. Contract section 3.11.

#include <cerrno>
#include <cstdio>

#include "block/base_fingerprint.h"
#include "block/open_gate.h"
#include "block/ops/rebase.h"
#include "block/tool/commands.h"
#include "block/tool/image_name.h"
#include "block/tool/options.h"
#include "block/tool/progress.h"

namespace calf::img {
namespace {

struct Arguments {
  ImageArguments image;
  // Empty or not there: no base any more.
  std::optional<std::string> base;
  std::optional<std::string> base_format;
  block::CacheMode cache;
  block::CacheMode source_cache;
  bool unsafe = false;
  bool quiet = false;
  bool progress = false;
  bool force_share = false;

  bool has_base() const { return base && !base->empty(); }
};

class Rebase {
 public:
  Rebase(const Context& context, const Arguments& args, JobMonitor& monitor)
      : context_(context), args_(args), monitor_(monitor) {}
  Async<> run();

 private:
  Async<> open();
  Async<> open_new_base();
  Async<> change();
  Async<qcow2::BackingRecord> new_record();

  const Context& context_;
  const Arguments& args_;
  JobMonitor& monitor_;
  std::string path_;
  std::unique_ptr<block::Node> top_;
  std::unique_ptr<block::Node> new_base_;
};

Async<> Rebase::open() {
  CO_TRY(block::OpenSpec spec, open_spec(context_, args_.image));
  path_ = path_of_spec(spec);
  spec.writable = true;
  spec.discard = true;
  spec.open_backing = !args_.unsafe;
  spec.force_share |= args_.force_share;
  spec.cache = args_.cache;
  // Durable at the end, all at once: the filter would hide the image.
  spec.cache.write_through = false;
  CO_TRY(top_, co_await block::open_chain(context_.executor, context_.formats, std::move(spec)));
  co_return Result<void>();
}

Async<> Rebase::open_new_base() {
  CO_TRY(std::string path, block::resolve_recorded_name(path_, *args_.base));
  ImageArguments image{path, args_.base_format, false};
  CO_TRY(block::OpenSpec spec, open_spec(context_, image));
  spec.filename = path;
  spec.cache = args_.source_cache;
  spec.cache.write_through = false;
  Result<std::unique_ptr<block::Node>> opened =
      co_await block::open_chain(context_.executor, context_.formats, std::move(spec));
  if (opened.ok()) {
    new_base_ = std::move(*opened);
    co_return Result<void>();
  }
  // The file's name stands in front already.
  std::string why = opened.error().message();
  const std::string outer = fmt::format("Could not open '{}': ", path);
  if (why.starts_with(outer)) why.erase(0, outer.size());
  co_return Error(opened.error().kind(), opened.error().sys_errno(),
                  fmt::format("Could not open new backing file '{}': {}", *args_.base, why));
}

// What the header is to say. The new base is noted, unless the program stands in for qemu-img,
// whose users may change a base after they made its overlays.
Async<qcow2::BackingRecord> Rebase::new_record() {
  qcow2::BackingRecord record;
  if (!args_.has_base()) co_return record;
  record.name = args_.base;
  record.format = args_.base_format;
  Result<std::string> path = block::resolve_recorded_name(path_, *args_.base);
  if (context_.exact() || !path.ok()) co_return record;
  Result<std::vector<uint8_t>> fingerprint = co_await block::fingerprint_base(
      context_.executor, context_.formats, *path, *record.format, *record.name);
  // An unsafe rebase may name a file that is not there yet.
  if (fingerprint.ok()) record.fingerprint = std::move(*fingerprint);
  co_return record;
}

Async<> Rebase::change() {
  // QEMU has drivers for files themselves, which an image may record as the format of its base.
  const bool of_files = args_.base_format == "file" || args_.base_format == "host_device";
  if (args_.base_format && !of_files && context_.formats.find(*args_.base_format) == nullptr) {
    co_return make_error(ErrorKind::kInvalid, "Invalid format name: '{}'", *args_.base_format);
  }
  const std::string failed =
      fmt::format("Could not change the backing file to '{}'", args_.base.value_or("(null)"));
  // What would be found out at the end is said before anything is copied.
  if (args_.has_base() && !args_.base_format) {
    co_return make_error(ErrorKind::kInvalid, "{}: backing format must be specified", failed);
  }
  if (!ops::can_record_backing(*top_)) {
    co_return Error::from_errno(ENOTSUP).with_context(failed);
  }
  if (!args_.unsafe) {
    if (args_.has_base()) CO_TRY_VOID(co_await open_new_base());
    CO_TRY_VOID(
        co_await ops::rebase(context_.executor, *top_, new_base_.get(), monitor_.control()));
  }
  CO_TRY(qcow2::BackingRecord record, co_await new_record());
  Result<void> recorded = co_await ops::record_backing(*top_, std::move(record));
  if (recorded.ok()) co_return recorded;
  if (recorded.error().kind() == ErrorKind::kNoSpace) {
    co_return make_error(ErrorKind::kNoSpace, "{}: No space left in the file header", failed);
  }
  co_return Error::from_errno(recorded.error().sys_errno()).with_context(failed);
}

Async<> Rebase::run() {
  CO_TRY_VOID(co_await open());
  Result<void> done = co_await change();
  if (new_base_) {
    // Read-only: nothing can be lost.
    Result<void> ignored = co_await new_base_->close();
  }
  Result<void> closed = co_await top_->close();
  CO_TRY_VOID(std::move(done));
  co_return closed;
}

// An exit code if the subcommand ends here.
std::optional<int> check(const Context& context, Arguments* args, const std::string& cache,
                         const std::string& source_cache) {
  if (!args->unsafe && !args->base) {
    return context.usage_error("Must specify backing file (-b) or use unsafe mode (-u)");
  }
  std::optional<block::CacheMode> mode = block::parse_cache_mode(cache);
  std::optional<block::CacheMode> source_mode = block::parse_cache_mode(source_cache);
  if (mode && source_mode) {
    args->cache = *mode;
    args->source_cache = *source_mode;
    return std::nullopt;
  }
  if (!mode) {
    context.errorf("Invalid cache option: {}", cache);
  } else {
    context.errorf("Invalid source cache option: {}", source_cache);
  }
  return kExitFailure;
}

}  // namespace

int cmd_rebase(const Context& context, int argc, char** argv) {
  static constexpr Option kOptions[] = {
      {nullptr, 'f', true}, {nullptr, 'F', true}, {nullptr, 'b', true}, {nullptr, 't', true},
      {nullptr, 'T', true}, {nullptr, 'u'},       {nullptr, 'p'},       {nullptr, 'q'},
      {"force-share", 'U'}, kForceOption,         kObjectOption,        kImageOptsOption};
  Arguments args;
  std::string cache = "writeback";
  std::string source_cache = "writeback";
  Operands operands = parse_options(context, argc, argv, kOptions,
                                    [&](int code, std::string value) -> std::optional<int> {
                                      switch (code) {
                                        case 'f':
                                          args.image.format = value;
                                          break;
                                        case 'F':
                                          args.base_format = value;
                                          break;
                                        case 'b':
                                          args.base = value;
                                          break;
                                        case 't':
                                          cache = value;
                                          break;
                                        case 'T':
                                          source_cache = value;
                                          break;
                                        case 'u':
                                          args.unsafe = true;
                                          break;
                                        case 'p':
                                          args.progress = true;
                                          break;
                                        case 'q':
                                          args.quiet = true;
                                          break;
                                        case 'U':
                                          args.force_share = true;
                                          break;
                                        case kOptForce:
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
  if (operands.words.size() != 1) return context.usage_error("Expecting one image file name");
  args.image.name = operands.words[0];
  if (std::optional<int> code = check(context, &args, cache, source_cache)) return *code;

  JobMonitor monitor(context.executor, progress_style(context, args.progress, args.quiet), 2);
  Rebase rebase(context, args, monitor);
  Result<void> result = monitor.run(rebase.run());
  if (result.ok()) {
    monitor.show_complete();
    return kExitOk;
  }
  if (result.error().kind() == ErrorKind::kCancelled && monitor.stopped_by() != 0) {
    context.errorf("Interrupted: '{}' is still on its old base; run the rebase again",
                   args.image.name);
    return 128 + monitor.stopped_by();
  }
  context.error(result.error());
  return kExitFailure;
}

}  // namespace calf::img
