#include "block/formats/vmdk_driver.h"

#include "block/vmdk/image.h"

namespace calf::block {
namespace {

class VmdkDriver final : public FormatDriver {
 public:
  const char* name() const override { return "vmdk"; }

  LockRequest lock_request(bool, Role) const override { return kLockFormatReader; }

  Async<OpenedFormat> open(Executor& executor, std::unique_ptr<Node> file,
                           FormatOptions options) const override {
    if (options.writable) {
      co_return Error(ErrorKind::kReadOnly, "vmdk images are only read (convert it to qcow2)");
    }
    CO_TRY(std::unique_ptr<vmdk::Image> image,
           co_await vmdk::Image::open(executor, std::move(file), std::move(options.open_beside)));
    OpenedFormat opened;
    if (image->info().parent_cid != vmdk::kNoParent) {
      if (!image->parent()) {
        co_return Error(ErrorKind::kUnsupported,
                        "The vmdk image has a parent and does not say where it is");
      }
      opened.backing = BackingReference{*image->parent(), "vmdk", std::nullopt};
    }
    vmdk::Image* raw = image.get();
    opened.set_backing = [raw](std::unique_ptr<Node> below) { raw->set_backing(std::move(below)); };
    opened.node = std::move(image);
    co_return opened;
  }
};

}  // namespace

std::unique_ptr<FormatDriver> make_vmdk_driver() {
  return std::make_unique<VmdkDriver>();
}

}  // namespace calf::block
