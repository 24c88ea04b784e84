#include "block/tool/create_image.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "block/file_node.h"
#include "block/protocol_driver.h"

namespace calf::img {
namespace {

// An existing regular file of that name goes on failure only if we made or emptied it.
class CreatedFile {
 public:
  explicit CreatedFile(std::string path) : path_(std::move(path)) {}
  ~CreatedFile() {
    struct stat st {};
    if (!kept_ && ::stat(path_.c_str(), &st) == 0 && S_ISREG(st.st_mode)) ::unlink(path_.c_str());
  }
  CreatedFile(const CreatedFile&) = delete;
  CreatedFile& operator=(const CreatedFile&) = delete;
  void keep() { kept_ = true; }

 private:
  std::string path_;
  bool kept_ = false;
};

// The image's own file, or the export it goes into.
Async<std::unique_ptr<block::Node>> open_place(const Context& context, const ImagePlace& place) {
  std::unique_ptr<block::Node> node;
  if (!place.node) {
    block::FileOptions file_options;
    CO_TRY(node, co_await block::FileNode::create(context.executor, place.path, file_options));
    co_return node;
  }
  block::NodeDescription description = *place.node;
  const std::string driver = description.take_text("driver").value_or("");
  const block::ProtocolDriver* protocol = context.formats.find_protocol(driver);
  if (protocol == nullptr) {
    co_return make_error(ErrorKind::kUnsupported, "Unknown protocol '{}'", driver);
  }
  block::ProtocolOptions options{.writable = true};
  Result<std::unique_ptr<block::Node>> opened =
      co_await protocol->open(context.executor, &description, options);
  if (!opened.ok()) {
    co_return std::move(opened.error())
        .with_context(fmt::format("Protocol driver '{}' does not support image creation, and "
                                  "opening the image failed",
                                  driver));
  }
  co_return std::move(*opened);
}

// The file for guest data is made too, beside the image if its name is relative.
Async<> create_with_data_file(Executor& executor, const ImagePlace& place, block::Node& file,
                              const qcow2::CreateOptions& options) {
  if (options.data_file->empty()) {
    co_return Error::from_errno(ENOENT, "Could not create ''");
  }
  CO_TRY(std::string data_path, place.resolve(*options.data_file));
  block::FileOptions file_options;
  CO_TRY(std::unique_ptr<block::FileNode> data,
         co_await block::FileNode::create(executor, data_path, file_options));
  CreatedFile created(data_path);
  CO_TRY_VOID(co_await qcow2::create(executor, file, options, data.get()));
  CO_TRY_VOID(co_await data->close());
  created.keep();
  co_return Result<void>();
}

// Of a new raw file this much is allocated at once: who finds out by reading which alignment
// O_DIRECT asks for must not read a hole, where some file systems allow any.
constexpr uint64_t kFirstBlock = 4096;
// On a device and in an export this much goes: what was there must not be taken for the header of
// another format.
constexpr uint64_t kFirstSector = 512;

Async<> create_raw(block::Node& file, uint64_t size, block::Preallocation preallocation) {
  const Error too_large(ErrorKind::kInvalid, "The image size is too large for file format 'raw'");
  if (size > static_cast<uint64_t>(INT64_MAX) - 511) co_return too_large;
  const bool is_empty_file = file.size() == 0;
  Result<void> sized = co_await file.truncate(align_up(size, 512), preallocation);
  if (!sized.ok() && sized.error().sys_errno() == EFBIG) co_return too_large;
  CO_TRY_VOID(std::move(sized));
  const std::vector<uint8_t> zeroes(
      std::min(file.size(), is_empty_file ? kFirstBlock : kFirstSector));
  if (zeroes.empty()) co_return Result<void>();
  FlatIo io(std::span<const uint8_t>{zeroes});
  co_return co_await file.write(0, io.slice(), {});
}

// Everything that can be wrong with the options, before an old file of that name is touched.
struct CheckedOptions {
  block::Preallocation raw = block::Preallocation::kOff;
  luks::CreateOptions luks;
  qcow2::CreateOptions qcow2;
};

Result<CheckedOptions> check_options(const Context& context, const std::string& format,
                                     const CreateOptions& options) {
  CheckedOptions checked;
  if (format == "raw") {
    TRY(checked.raw, options.raw_preallocation());
  } else if (format == "luks") {
    TRY(checked.luks, options.for_luks(context.secrets));
    TRY_VOID(luks::file_size(checked.luks));
  } else {
    TRY(checked.qcow2, options.for_qcow2(context.secrets));
    TRY_VOID(qcow2::validate(checked.qcow2));
  }
  return checked;
}

Async<> write_image(Executor& executor, const std::string& format, const ImagePlace& place,
                    block::Node& file, uint64_t size, const CheckedOptions& checked) {
  if (format == "raw") co_return co_await create_raw(file, size, checked.raw);
  if (format == "luks") co_return co_await luks::create(executor, file, checked.luks);
  if (!checked.qcow2.data_file) co_return co_await qcow2::create(executor, file, checked.qcow2);
  co_return co_await create_with_data_file(executor, place, file, checked.qcow2);
}

}  // namespace

Async<> create_image(const Context& context, std::string format, const ImagePlace& place,
                     const CreateOptions& options) {
  CO_TRY(CheckedOptions checked, check_options(context, format, options));
  CO_TRY(std::unique_ptr<block::Node> file, co_await open_place(context, place));
  CreatedFile created(place.path);
  const uint64_t size = options.number("size").value_or(0);
  Result<void> done = co_await write_image(context.executor, format, place, *file, size, checked);
  if (done.ok()) done = co_await file->flush();
  Result<void> closed = co_await file->close();
  CO_TRY_VOID(std::move(done));
  CO_TRY_VOID(std::move(closed));
  created.keep();
  co_return Result<void>();
}

Async<bool> new_image_is_zero(block::Node& image) {
  if (image.backing() != nullptr) co_return false;
  if (std::string_view(image.format()) == "qcow2") co_return true;
  ByteRange rest{0, image.size()};
  CO_TRY(block::Extent first, co_await image.map(rest));
  if (first.data && !first.zero && first.range.length <= kFirstBlock) {
    std::vector<uint8_t> bytes(first.range.length);
    FlatIo io{std::span<uint8_t>(bytes)};
    CO_TRY_VOID(co_await image.read(0, io.slice()));
    if (std::any_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte != 0; })) {
      co_return false;
    }
    rest = {first.range.end(), rest.length - first.range.length};
    if (rest.empty()) co_return true;
    CO_TRY(first, co_await image.map(rest));
  }
  co_return first.range == rest && (first.zero || !first.data);
}

}  // namespace calf::img
