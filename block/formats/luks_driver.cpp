#include "block/formats/luks_driver.h"

#include "block/luks/luks_node.h"

namespace calf::block {
namespace {

class LuksDriver final : public FormatDriver {
 public:
  const char* name() const override { return "luks"; }

  LockRequest lock_request(bool writable, Role) const override {
    return writable ? kLockFormatWriter : kLockFormatReader;
  }

  Async<OpenedFormat> open(Executor& executor, std::unique_ptr<Node> file,
                           FormatOptions options) const override {
    luks::OpenOptions open_options;
    open_options.writable = options.writable;
    open_options.info_only = options.info_only;
    if (options.description != nullptr) {
      open_options.passphrase =
          crypto::named_passphrase(options.secrets, options.description->take_text("key-secret"));
    }
    CO_TRY(std::unique_ptr<luks::LuksNode> node,
           co_await luks::LuksNode::open(executor, std::move(file), std::move(open_options)));
    OpenedFormat opened;
    opened.node = std::move(node);
    co_return opened;
  }
};

}  // namespace

std::unique_ptr<FormatDriver> make_luks_driver() {
  return std::make_unique<LuksDriver>();
}

}  // namespace calf::block
