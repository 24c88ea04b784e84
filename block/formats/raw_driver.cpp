#include "block/formats/raw_driver.h"

#include "block/raw_node.h"

namespace calf::block {
namespace {

class RawDriver final : public FormatDriver {
 public:
  const char* name() const override { return "raw"; }

  LockRequest lock_request(bool writable, Role role) const override {
    switch (role) {
      case Role::kDisk:
        return writable ? kLockRawWriter : kLockRawReader;
      case Role::kSharedDisk:
        return writable ? kLockSharedWriter : kLockSharedReader;
      case Role::kBase:
        return kLockRawBase;
    }
    return kLockRawWriter;
  }

  Async<OpenedFormat> open(Executor&, std::unique_ptr<Node> file,
                           FormatOptions options) const override {
    RawNode::Options raw_options;
    raw_options.writable = options.writable;
    raw_options.probed = options.probed;
    if (options.description != nullptr) {
      CO_TRY(std::optional<uint64_t> offset, options.description->take_size("offset"));
      raw_options.offset = offset.value_or(0);
      CO_TRY(raw_options.size, options.description->take_size("size"));
    }
    CO_TRY_VOID(RawNode::check(*file, raw_options));
    OpenedFormat opened;
    opened.node = std::make_unique<RawNode>(std::move(file), raw_options);
    co_return opened;
  }
};

}  // namespace

std::unique_ptr<FormatDriver> make_raw_driver() {
  return std::make_unique<RawDriver>();
}

}  // namespace calf::block
