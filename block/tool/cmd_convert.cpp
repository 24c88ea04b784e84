// convert: copies one or several images into a new one of another format. Contract section 3.6.

#include <algorithm>
#include <cstdio>
#include <vector>

#include "block/ops/bitmaps.h"
#include "block/ops/concat_node.h"
#include "block/ops/copy.h"
#include "block/qcow2/image.h"
#include "block/tool/commands.h"
#include "block/tool/convert_arguments.h"
#include "block/tool/create_image.h"
#include "block/tool/progress.h"

namespace calf::img {
namespace {

using block::Node;

class Conversion {
 public:
  Conversion(const Context& context, const ConvertArguments& args, JobMonitor& monitor)
      : context_(context),
        args_(args),
        monitor_(monitor),
        keeps_backing_(args.backing.has_value()) {}
  Async<> run();

 private:
  Async<> open_sources();
  Async<> check_bitmaps();
  Result<CreateOptions> target_options();
  Async<> make_target();
  Async<> open_target();
  Async<> copy_sources();
  Async<ops::CopyOptions> copy_options();
  Async<> close_all(Result<void> result);

  const Context& context_;
  const ConvertArguments& args_;
  JobMonitor& monitor_;
  std::vector<std::unique_ptr<Node>> sources_;
  uint64_t total_ = 0;
  // -B: what the sources do not hold themselves is left to the target's backing file.
  bool keeps_backing_ = false;
  std::unique_ptr<Node> target_;
  // How the new target is opened, if it is encrypted.
  std::optional<std::pair<std::string, std::string>> key_secret_;
};

Async<> Conversion::open_sources() {
  for (const std::string& name : args_.sources) {
    ImageArguments image{name, args_.source_format, args_.image_opts};
    CO_TRY(block::OpenSpec spec, open_spec(context_, image));
    spec.cache = args_.source_cache;
    spec.force_share |= args_.force_share;
    // Nothing is written, so the filter would only hide the image from show_snapshot().
    if (args_.snapshot) spec.cache.write_through = false;
    CO_TRY(std::unique_ptr<Node> node,
           co_await block::open_chain(context_.executor, context_.formats, std::move(spec)));
    if (args_.snapshot) {
      Result<void> shown = co_await ops::show_snapshot(*node, *args_.snapshot);
      if (!shown.ok()) {
        sources_.push_back(std::move(node));
        co_return shown;
      }
    }
    total_ += node->size();
    sources_.push_back(std::move(node));
  }
  co_return Result<void>();
}

Async<> Conversion::check_bitmaps() {
  if (!args_.bitmaps) co_return Result<void>();
  if (sources_.size() > 1) {
    co_return make_error(ErrorKind::kInvalid, "Copying bitmaps only possible with single source");
  }
  std::function<void(std::string_view)> skipped;
  if (args_.skip_broken_bitmaps) {
    const Context* out = &context_;
    skipped = [out](std::string_view name) {
      out->warning(fmt::format("Skipping inconsistent bitmap '{}'", name));
    };
  }
  co_return co_await ops::check_bitmaps(*sources_[0], std::move(skipped));
}

// Checked in the order of qemu-img, before the target is touched.
Result<CreateOptions> Conversion::target_options() {
  if (create_options(args_.target_format, false).empty()) {
    return cannot_create(args_.target_format);
  }
  TRY(OptionList list, OptionList::parse(args_.options));
  TRY(CreateOptions options, CreateOptions::parse(args_.target_format, list));
  if (!options.text("size")) options.set("size", std::to_string(total_));
  if (args_.backing) {
    if (args_.target_format != "qcow2") {
      return make_error(ErrorKind::kUnsupported, "Backing file not supported for file format '{}'",
                        args_.target_format);
    }
    options.set("backing_file", *args_.backing);
    if (args_.backing_format) options.set("backing_fmt", *args_.backing_format);
  }
  bool backed = options.text("backing_file").has_value();
  keeps_backing_ = backed;
  if (backed && args_.sources.size() > 1) {
    return make_error(ErrorKind::kInvalid,
                      "Having a backing file for the target makes no sense when concatenating "
                      "multiple input images");
  }
  if (backed && !options.text("backing_fmt")) {
    return make_error(ErrorKind::kInvalid, "Use of backing file requires explicit backing format");
  }
  if (args_.compress) {
    if (args_.target_format != "qcow2") {
      return make_error(ErrorKind::kUnsupported, "Compression not supported for this file format");
    }
    if (options.is_on("encryption") || options.text("encrypt.format")) {
      return make_error(ErrorKind::kInvalid,
                        "Compression and encryption not supported at the same time");
    }
    if (options.text("preallocation").value_or("off") != "off") {
      return make_error(ErrorKind::kInvalid,
                        "Compression and preallocation not supported at the same time");
    }
  }
  return options;
}

Async<> Conversion::make_target() {
  CO_TRY(ImagePlace place, place_of_name(args_.target));
  CO_TRY(CreateOptions options, target_options());
  key_secret_ = options.key_secret();
  if (std::optional<std::string> backing = options.text("backing_file")) {
    Result<std::string> base = place.resolve(*backing);
    std::string format = options.text("backing_fmt").value_or("");
    // A base that cannot be read is reported when the target is opened on it.
    if (base.ok()) {
      Result<void> noted = co_await options.note_base(context_, *base, format);
    }
  }
  Result<void> made = co_await create_image(context_, args_.target_format, place, options);
  if (!made.ok()) {
    co_return std::move(made.error())
        .with_context(
            fmt::format("{}: error while converting {}", args_.target, args_.target_format));
  }
  co_return Result<void>();
}

Async<> Conversion::open_target() {
  ImageArguments image{args_.target, std::nullopt, args_.target_image_opts};
  if (!args_.target_image_opts) image.format = args_.target_format;
  image.force = args_.force;
  CO_TRY(block::OpenSpec spec, open_spec(context_, image));
  if (key_secret_) set_node_option(&spec, key_secret_->first, key_secret_->second);
  spec.writable = true;
  spec.discard = true;
  spec.cache = args_.target_cache;
  // Durable at the end, all at once: the filter would hide the image from write_compressed().
  spec.cache.write_through = false;
  CO_TRY(target_, co_await block::open_chain(context_.executor, context_.formats, std::move(spec)));
  if (args_.compress && dynamic_cast<qcow2::Image*>(target_.get()) == nullptr) {
    co_return make_error(ErrorKind::kUnsupported, "Compression not supported for this file format");
  }
  if (target_->backing() != nullptr && args_.target_is_zero) {
    co_return make_error(ErrorKind::kInvalid,
                         "Cannot use --target-is-zero when the destination image has a backing "
                         "file");
  }
  if (target_->size() < total_) {
    co_return make_error(ErrorKind::kInvalid, "output file is smaller than input file");
  }
  co_return Result<void>();
}

Async<ops::CopyOptions> Conversion::copy_options() {
  ops::CopyOptions options;
  options.parallel = args_.parallel;
  options.out_of_order = args_.out_of_order;
  options.sparse = args_.sparse;
  options.salvage = args_.salvage;
  options.offload = args_.offload;
  options.rate = args_.rate;
  // What is left out must be below the target already: only a backing file named here is known to
  // be.
  options.target_has_backing = keeps_backing_;
  options.backing_size = target_->backing() != nullptr ? target_->backing()->size() : UINT64_MAX;
  // Salvaging looks twice, as qemu-img does: the first walk finds what will be lost.
  options.count_data = args_.progress || args_.salvage;
  options.target_is_zero = args_.target_is_zero;
  if (!args_.no_create && !keeps_backing_) {
    CO_TRY(options.target_is_zero, co_await new_image_is_zero(*target_));
  }
  if (args_.compress) {
    auto* image = static_cast<qcow2::Image*>(target_.get());
    options.write_compressed = [image](uint64_t offset, IoSlice from) {
      return image->write_compressed(offset, from);
    };
  }
  co_return options;
}

Async<> Conversion::copy_sources() {
  if (total_ == 0) co_return Result<void>();
  CO_TRY(ops::CopyOptions options, co_await copy_options());
  std::vector<Node*> parts;
  for (auto& source : sources_)
    parts.push_back(source.get());
  ops::ConcatNode all(parts);
  Node& source = parts.size() == 1 ? *parts[0] : all;
  CO_TRY_VOID(
      co_await ops::copy(context_.executor, source, total_, *target_, options, monitor_.control()));
  co_return co_await target_->flush();
}

Async<> Conversion::close_all(Result<void> result) {
  if (target_) {
    Result<void> closed = co_await target_->close();
    if (result.ok() && !closed.ok()) {
      result = std::move(closed.error()).with_context("error while closing the target");
    }
  }
  for (auto& source : sources_) {
    // Read-only: nothing can be lost.
    Result<void> ignored = co_await source->close();
  }
  co_return result;
}

Async<> Conversion::run() {
  Result<void> result = co_await open_sources();
  if (result.ok()) result = co_await check_bitmaps();
  if (result.ok() && !args_.no_create) result = co_await make_target();
  if (result.ok()) result = co_await open_target();
  if (result.ok() && args_.bitmaps && !ops::supports_bitmaps(*target_)) {
    result = make_error(ErrorKind::kUnsupported, "Format driver '{}' does not support bitmaps",
                        args_.target_format);
  }
  if (result.ok()) result = co_await copy_sources();
  if (result.ok() && args_.bitmaps) result = co_await ops::copy_bitmaps(*sources_[0], *target_);
  co_return co_await close_all(std::move(result));
}

}  // namespace

int cmd_convert(const Context& context, int argc, char** argv) {
  ConvertArguments args;
  if (std::optional<int> code = parse_convert_arguments(context, argc, argv, &args)) return *code;
  JobMonitor monitor(context.executor, progress_style(context, args.progress, args.quiet), 1);
  monitor.control().warning = [&](std::string_view line) {
    if (!args.quiet) context.warning(line);
  };
  Conversion conversion(context, args, monitor);
  Result<void> result = monitor.run(conversion.run());
  if (result.ok()) {
    monitor.show_complete();
    return kExitOk;
  }
  if (result.error().kind() == ErrorKind::kCancelled && monitor.stopped_by() != 0) {
    context.errorf("Interrupted: '{}' is not complete", args.target);
    return 128 + monitor.stopped_by();
  }
  context.error(result.error());
  return kExitFailure;
}

}  // namespace calf::img
