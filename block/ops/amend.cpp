#include "block/ops/amend.h"

#include "block/luks/luks_node.h"

namespace calf::ops {
namespace {

using qcow2::AmendOptions;
using qcow2::Image;

// One change of the image; done if there is nothing (more) of its kind to do. An image with a data
// file is never downgraded, so nothing opens it by its new record.
enum class Step : uint8_t {
  kUpgrade,
  kKeys,
  kWidth,
  kLeaks,
  kSwitches,
  kSize,
  kDataFile,
  kDowngrade,
  kEnd
};

bool is_needed(Step step, const qcow2::ImageInfo& info, const AmendOptions& options) {
  const unsigned version = options.version.value_or(info.version);
  switch (step) {
    case Step::kUpgrade:
      return version > info.version;
    case Step::kKeys:
      return options.keys.has_value();
    case Step::kWidth:
      return options.refcount_bits.value_or(info.refcount_bits) != info.refcount_bits;
    case Step::kSwitches:
      return options.lazy_refcounts.value_or(info.lazy_refcounts) != info.lazy_refcounts;
    case Step::kSize:
      return options.size.value_or(info.virtual_size) != info.virtual_size;
    case Step::kDataFile:
      return options.data_file.has_value() || options.drop_data_file_raw;
    case Step::kDowngrade:
      return version < info.version;
    case Step::kLeaks:
    case Step::kEnd:
      break;
  }
  return false;
}

Async<> perform(Step step, Image& image, const AmendOptions& options) {
  switch (step) {
    case Step::kUpgrade:
      return qcow2::upgrade(image);
    case Step::kKeys:
      return image.change_keys(*options.keys);
    case Step::kWidth:
      return qcow2::set_refcount_bits(image, *options.refcount_bits);
    case Step::kLeaks:
      return qcow2::give_back_leaks(image);
    case Step::kSwitches:
      return qcow2::set_lazy_refcounts(image, *options.lazy_refcounts);
    case Step::kSize:
      return image.truncate(*options.size, block::Preallocation::kOff);
    case Step::kDataFile:
      return qcow2::set_data_file_record(image, options.data_file, options.drop_data_file_raw);
    case Step::kDowngrade:
      return qcow2::downgrade(image, options.progress);
    case Step::kEnd:
      break;
  }
  return {};
}

Async<> run_step(Step step, Image& image, const AmendOptions& options) {
  Result<void> done;
  if (step == Step::kUpgrade) done = qcow2::check_amend(image, options);
  if (done.ok() && (step == Step::kLeaks || is_needed(step, image.info(), options))) {
    Async<> work = perform(step, image, options);
    done = co_await work;
  }
  co_return done;
}

bool opens_anew_after(Step step) {
  return step == Step::kUpgrade || step == Step::kWidth || step == Step::kLeaks;
}

}  // namespace

Async<> amend(OpenImage open, const AmendOptions& options) {
  std::unique_ptr<block::Node> node;
  bool width_changed = false;
  for (Step step = Step::kUpgrade; step != Step::kEnd;
       step = static_cast<Step>(static_cast<uint8_t>(step) + 1)) {
    if (step == Step::kLeaks && !width_changed) continue;
    if (!node) {
      Async<std::unique_ptr<block::Node>> opening = open();
      CO_TRY(node, co_await opening);
    }
    Result<void> done;
    bool anew = false;
    if (auto* volume = dynamic_cast<luks::LuksNode*>(node.get())) {
      if (options.keys) done = co_await volume->change_keys(*options.keys);
      step = Step::kDowngrade;
    } else if (auto* image = dynamic_cast<Image*>(node.get())) {
      width_changed |= step == Step::kWidth && is_needed(step, image->info(), options);
      anew = opens_anew_after(step) &&
             (step == Step::kLeaks || is_needed(step, image->info(), options));
      done = co_await run_step(step, *image, options);
    } else {
      done = make_error(ErrorKind::kUnsupported,
                        "Format driver '{}' does not support option amendment", node->format());
    }
    if (done.ok() && !anew && step != Step::kDowngrade) continue;
    Result<void> closed = co_await node->close();
    node.reset();
    CO_TRY_VOID(std::move(done));
    CO_TRY_VOID(std::move(closed));
  }
  co_return Result<void>();
}

}  // namespace calf::ops
