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
    OpenedFormat opened;
    opened.node = std::make_unique<RawNode>(std::move(file),
                                            RawNode::Options{options.writable, options.probed});
    co_return opened;
  }
};

}  // namespace

std::unique_ptr<FormatDriver> make_raw_driver() {
  return std::make_unique<RawDriver>();
}

}  // namespace calf::block
