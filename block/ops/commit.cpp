#include "block/ops/commit.h"

#include "block/ops/copy.h"
#include "block/qcow2/image.h"

namespace calf::ops {

CommitTarget find_commit_target(block::Node& top) {
  unsigned depth = 1;
  for (block::Node* node = top.backing(); node != nullptr; node = node->backing(), ++depth) {
    if (!node->read_only()) return {node, depth};
  }
  return {};
}

Async<> commit(Executor& executor, block::Node& top, CommitTarget target, CommitOptions options,
               const JobControl& control) {
  const uint64_t size = top.size();
  if (target.base->size() < size) {
    CO_TRY_VOID(co_await target.base->truncate(size, block::Preallocation::kOff));
  }
  if (size != 0) {
    CopyOptions copy_options;
    copy_options.source_layers = target.depth;
    copy_options.rate = options.rate;
    copy_options.parallel = options.parallel;
    CO_TRY_VOID(co_await copy(executor, top, size, *target.base, copy_options, control));
  }
  co_return co_await target.base->flush();
}

Async<> empty_overlay(block::Node& top) {
  auto* image = dynamic_cast<qcow2::Image*>(&top);
  if (image == nullptr) {
    co_return make_error(ErrorKind::kUnsupported, "An image of format {} cannot be emptied",
                         top.format());
  }
  co_return co_await image->make_empty();
}

}  // namespace calf::ops
