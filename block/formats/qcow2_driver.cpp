#include "block/formats/qcow2_driver.h"

#include "block/formats/qcow2_runtime.h"
#include "block/qcow2/image.h"
#include "block/qcow2/read_header.h"
#include "block/qcow2/tables_digest.h"

namespace calf::block {
namespace {

// encrypt.format says nothing that the image does not; it is compared all the same.
Result<crypto::PassphraseSource> take_passphrase(const FormatOptions& options) {
  TRY(auto format, options.description->take_choice("encrypt.format", {"aes", "luks"}));
  (void)format;
  return crypto::named_passphrase(options.secrets,
                                  options.description->take_text("encrypt.key-secret"));
}

class Qcow2Driver final : public FormatDriver {
 public:
  const char* name() const override { return "qcow2"; }
  bool can_repair() const override { return true; }

  // Metadata is cached: nobody may write the file behind our back, whatever our part is.
  LockRequest lock_request(bool writable, Role) const override {
    return writable ? kLockFormatWriter : kLockFormatReader;
  }

  Async<OpenedFormat> open(Executor& executor, std::unique_ptr<Node> file,
                           FormatOptions options) const override {
    qcow2::OpenOptions open_options;
    if (options.description != nullptr) {
      CO_TRY_VOID(take_qcow2_runtime_options(options.description));
      CO_TRY(open_options.passphrase, take_passphrase(options));
    }
    open_options.writable = options.writable;
    open_options.info_only = options.info_only;
    open_options.for_check = options.for_check;
    open_options.unsafe_no_flush = options.no_flush;
    open_options.message = std::move(options.message);
    CO_TRY(std::unique_ptr<qcow2::Image> image,
           co_await qcow2::Image::open(executor, std::move(file), std::move(open_options)));
    OpenedFormat opened;
    if (image->backing_name()) {
      opened.backing = BackingReference{*image->backing_name(), image->backing_format(),
                                        image->base_fingerprint()};
    }
    opened.data_file = image->data_file_name();
    qcow2::Image* raw = image.get();
    opened.set_data_file = [raw](std::unique_ptr<Node> data) {
      raw->set_data_file(std::move(data));
    };
    opened.set_backing = [raw](std::unique_ptr<Node> below) { raw->set_backing(std::move(below)); };
    opened.node = std::move(image);
    co_return opened;
  }

  Async<std::optional<BackingReference>> backing_of(Node& file) const override {
    CO_TRY(qcow2::HeaderBytes read, co_await qcow2::read_header(file));
    const qcow2::Header& header = read.header;
    if (!header.backing_name) co_return std::nullopt;
    BackingReference backing{*header.backing_name, header.backing_format, std::nullopt};
    const auto* noted = header.find(qcow2::format::kExtBaseFingerprint);
    if (noted != nullptr) backing.fingerprint = noted->data;
    co_return std::optional(std::move(backing));
  }

  Async<uint32_t> digest_tables(Executor& executor, Node& file) const override {
    return qcow2::tables_digest(executor, file);
  }
};

}  // namespace

std::unique_ptr<FormatDriver> make_qcow2_driver() {
  return std::make_unique<Qcow2Driver>();
}

}  // namespace calf::block
