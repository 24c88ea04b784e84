// commit: moves what an overlay holds into its base. Contract section 3.4.

#include <cstdio>

#include "block/base/log.h"
#include "block/base_fingerprint.h"
#include "block/open_gate.h"
#include "block/ops/commit.h"
#include "block/ops/rebase.h"
#include "block/tool/commands.h"
#include "block/tool/image_name.h"
#include "block/tool/options.h"
#include "block/tool/progress.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

struct Arguments {
  ImageArguments image;
  block::CacheMode cache;
  std::string base;
  uint64_t rate = 0;
  // The image stays as it is.
  bool keep = false;
  bool quiet = false;
  bool progress = false;
};

class Commit {
 public:
  Commit(const Context& context, const Arguments& args, JobMonitor& monitor)
      : context_(context), args_(args), monitor_(monitor) {}
  Async<> run();

 private:
  Async<> open();
  Async<> move_data();
  Async<> note_base(qcow2::BackingRecord record);
  void tell_what_is_left() const;

  const Context& context_;
  const Arguments& args_;
  JobMonitor& monitor_;
  std::string path_;
  std::unique_ptr<block::Node> top_;
  ops::CommitTarget target_;
};

Async<> Commit::open() {
  CO_TRY(block::OpenSpec spec, open_spec(context_, args_.image));
  path_ = path_of_spec(spec);
  spec.writable = true;
  spec.discard = true;
  spec.write_base = true;
  spec.write_base_name = args_.base;
  spec.cache = args_.cache;
  // Durable at the end, all at once: the filter would hide the image.
  spec.cache.write_through = false;
  CO_TRY(top_, co_await block::open_chain(context_.executor, context_.formats, std::move(spec)));
  // Found out before the base is changed: what the image notes of it must change, too.
  if (top_->backing() != nullptr && !ops::can_record_backing(*top_)) {
    co_return make_error(ErrorKind::kUnsupported,
                         "A node of driver '{}' cannot be committed; name the image below it",
                         top_->format());
  }
  target_ = ops::find_commit_target(*top_);
  if (target_.base != nullptr) co_return Result<void>();
  if (top_->backing() == nullptr) {
    co_return make_error(ErrorKind::kInvalid, "Image does not have a backing file");
  }
  co_return make_error(ErrorKind::kInvalid, "Did not find '{}' in the backing chain of '{}'",
                       args_.base, args_.image.name);
}

Async<> Commit::move_data() {
  ops::CommitOptions options;
  options.rate = args_.rate;
  Result<void> done =
      co_await ops::commit(context_.executor, *top_, target_, options, monitor_.control());
  if (done.ok() && !args_.keep) done = co_await ops::empty_overlay(*top_);
  if (done.ok() || done.error().kind() == ErrorKind::kCancelled) co_return done;
  const int code = done.error().sys_errno();
  std::string text = "Block job failed: " + Error::from_errno(code).message();
  if (!context_.exact()) text += "\n" + done.error().message();
  co_return Error(done.error().kind(), code, std::move(text));
}

// The overlay has noted what its base looked like: that has changed, by our own hand.
Async<> Commit::note_base(qcow2::BackingRecord record) {
  CO_TRY(block::OpenSpec spec, open_spec(context_, args_.image));
  spec.writable = true;
  spec.open_backing = false;
  CO_TRY(std::unique_ptr<block::Node> top,
         co_await block::open_chain(context_.executor, context_.formats, std::move(spec)));
  if (record.format) {
    CO_TRY(std::string base, block::resolve_recorded_name(path_, *record.name));
    CO_TRY(record.fingerprint,
           co_await block::fingerprint_base(context_.executor, context_.formats, base,
                                            *record.format, *record.name));
  }
  Result<void> recorded = co_await ops::record_backing(*top, std::move(record));
  Result<void> closed = co_await top->close();
  CO_TRY_VOID(std::move(recorded));
  co_return closed;
}

// The layers that the data went past are mixtures now, and the top still stands on them.
void Commit::tell_what_is_left() const {
  if (target_.depth < 2 || args_.quiet || context_.exact()) return;
  context_.note(fmt::format(
      "The images between '{0}' and '{1}' are of no use by themselves any more, and '{0}' is not "
      "opened for writing on them.\nPut it on its new base: calf-img rebase -u -b {2} -F FORMAT "
      "{3}",
      args_.image.name, args_.base, quote_for_shell(args_.base),
      quote_for_shell(args_.image.name)));
}

Async<> Commit::run() {
  Result<void> done = co_await open();
  if (!top_) co_return done;
  qcow2::BackingRecord record = ops::recorded_backing(*top_);
  const bool noted = record.fingerprint.has_value();
  const bool opened = done.ok();
  if (opened && noted) {
    // What is noted is wrong from the first write to the base on. Interrupted, the overlay is as
    // good as any that nothing was noted in.
    qcow2::BackingRecord without = record;
    without.fingerprint.reset();
    done = co_await ops::record_backing(*top_, std::move(without));
  }
  if (done.ok()) done = co_await move_data();
  Result<void> closed = co_await top_->close();
  top_.reset();
  if (done.ok()) done = std::move(closed);
  if (opened && noted) {
    Result<void> noted_again = co_await note_base(std::move(record));
    if (done.ok()) done = std::move(noted_again);
  }
  if (done.ok()) tell_what_is_left();
  co_return done;
}

int finish(const Context& context, const Arguments& args, JobMonitor& monitor,
           const Result<void>& result) {
  if (result.ok()) return kExitOk;
  if (result.error().kind() == ErrorKind::kCancelled && monitor.stopped_by() != 0) {
    context.errorf("Interrupted: '{}' still holds everything; run the commit again",
                   args.image.name);
    return 128 + monitor.stopped_by();
  }
  context.error(result.error());
  return kExitFailure;
}

}  // namespace

int cmd_commit(const Context& context, int argc, char** argv) {
  static constexpr Option kOptions[] = {
      {nullptr, 'f', true}, {nullptr, 't', true}, {nullptr, 'b', true}, {nullptr, 'r', true},
      {nullptr, 'd'},       {nullptr, 'p'},       {nullptr, 'q'},       kForceOption,
      kObjectOption,        kImageOptsOption};
  Arguments args;
  std::string cache = "writeback";
  Operands operands = parse_options(
      context, argc, argv, kOptions, [&](int code, std::string value) -> std::optional<int> {
        switch (code) {
          case 'f':
            args.image.format = value;
            break;
          case 't':
            cache = value;
            break;
          case 'b':
            args.base = value;
            args.keep = true;
            break;
          case 'r': {
            std::optional<uint64_t> rate = size_argument(context, "rate limit", value);
            if (!rate) return kExitFailure;
            args.rate = *rate;
            break;
          }
          case 'd':
            args.keep = true;
            break;
          case 'p':
            args.progress = true;
            break;
          case 'q':
            args.quiet = true;
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
  std::optional<block::CacheMode> mode = block::parse_cache_mode(cache);
  if (!mode) {
    context.errorf("Invalid cache option: {}", cache);
    return kExitFailure;
  }
  args.cache = *mode;
  int code = kExitFailure;
  {
    JobMonitor monitor(context.executor, progress_style(context, args.progress, args.quiet), 1);
    Commit commit(context, args, monitor);
    Result<void> result = monitor.run(commit.run());
    if (result.ok()) monitor.show_complete();
    code = finish(context, args, monitor, result);
  }
  if (code == kExitOk && !args.quiet) put("Image committed.\n");
  return code;
}

}  // namespace calf::img
