#include "block/formats/blkdebug_driver.h"

#include "block/blkdebug_node.h"

namespace calf::block {
namespace {

constexpr uint64_t kMaxAlignment = WholeSectors::kMaxSector;

Error cannot_meet(std::string_view name, uint64_t value) {
  return make_error(ErrorKind::kInvalid, "Cannot meet constraints with {} {}", name, value);
}

// Limits on lengths are checked and without effect: no request is made longer by us.
Result<uint32_t> take_limits(NodeDescription* description) {
  TRY(std::optional<uint64_t> align, description->take_size("align"));
  if (align && *align != 0 && (!is_power_of_two(*align) || *align >= INT32_MAX)) {
    return cannot_meet("align", *align);
  }
  if (align && *align > kMaxAlignment) {
    return make_error(ErrorKind::kUnsupported, "align above {} is not supported", kMaxAlignment);
  }
  uint64_t unit = align && *align != 0 ? *align : 1;
  for (const char* name :
       {"max-transfer", "opt-write-zero", "max-write-zero", "opt-discard", "max-discard"}) {
    TRY(std::optional<uint64_t> limit, description->take_size(name));
    if (limit && (*limit >= INT32_MAX || !is_aligned(*limit, unit))) {
      return cannot_meet(name, *limit);
    }
  }
  return static_cast<uint32_t>(align.value_or(0));
}

class BlkdebugDriver final : public FilterDriver {
 public:
  const char* name() const override { return "blkdebug"; }
  const char* child() const override { return "image"; }

  Result<std::unique_ptr<Node>> open(Executor& executor, std::unique_ptr<Node>&& below,
                                     NodeDescription* description) const override {
    TRY(BlkdebugRules rules, BlkdebugRules::take(description));
    TRY(uint32_t alignment, take_limits(description));
    return std::unique_ptr<Node>(
        std::make_unique<BlkdebugNode>(executor, std::move(below), std::move(rules), alignment));
  }
};

}  // namespace

std::unique_ptr<FilterDriver> make_blkdebug_driver() {
  return std::make_unique<BlkdebugDriver>();
}

}  // namespace calf::block
