#include "block/tool/create_image.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "block/file_node.h"
#include "block/open_gate.h"

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

// The file for guest data is made too, beside the image if its name is relative.
Async<> create_with_data_file(Executor& executor, const std::string& path, block::FileNode& file,
                              const qcow2::CreateOptions& options) {
  if (options.data_file->empty()) {
    co_return Error::from_errno(ENOENT, "Could not create ''");
  }
  CO_TRY(std::string data_path, block::resolve_recorded_name(path, *options.data_file));
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

Async<> allocate_first_block(block::FileNode& file) {
  if (file.is_block_device() || file.size() == 0) co_return Result<void>();
  const std::vector<uint8_t> zeroes(std::min(file.size(), kFirstBlock));
  FlatIo io(std::span<const uint8_t>{zeroes});
  co_return co_await file.write(0, io.slice(), {});
}

}  // namespace

Async<> create_image(const Context& context, std::string format, std::string path,
                     const CreateOptions& options) {
  Executor& executor = context.executor;
  const bool raw = format == "raw";
  const bool luks = format == "luks";
  luks::CreateOptions luks_options;
  qcow2::CreateOptions qcow2_options;
  block::Preallocation preallocation = block::Preallocation::kOff;
  // Everything that can be wrong with the options, before an old file of that name is touched.
  if (raw) {
    CO_TRY(preallocation, options.raw_preallocation());
  } else if (luks) {
    CO_TRY(luks_options, options.for_luks(context.secrets));
    CO_TRY_VOID(luks::file_size(luks_options));
  } else {
    CO_TRY(qcow2_options, options.for_qcow2(context.secrets));
    CO_TRY_VOID(qcow2::validate(qcow2_options));
  }
  block::FileOptions file_options;
  CO_TRY(std::unique_ptr<block::FileNode> file,
         co_await block::FileNode::create(executor, path, file_options));
  CreatedFile created(path);
  if (raw) {
    uint64_t size = options.number("size").value_or(0);
    Error too_large(ErrorKind::kInvalid, "The image size is too large for file format 'raw'");
    if (size > static_cast<uint64_t>(INT64_MAX) - 511) co_return too_large;
    Result<void> sized = co_await file->truncate(align_up(size, 512), preallocation);
    if (!sized.ok() && sized.error().sys_errno() == EFBIG) co_return too_large;
    CO_TRY_VOID(std::move(sized));
    CO_TRY_VOID(co_await allocate_first_block(*file));
  } else if (luks) {
    CO_TRY_VOID(co_await luks::create(executor, *file, luks_options));
  } else if (qcow2_options.data_file) {
    CO_TRY_VOID(co_await create_with_data_file(executor, path, *file, qcow2_options));
  } else {
    CO_TRY_VOID(co_await qcow2::create(executor, *file, qcow2_options));
  }
  CO_TRY_VOID(co_await file->close());
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
