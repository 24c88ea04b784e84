#include "block/formats/scratch_overlay.h"

#include "block/file_node.h"
#include "block/formats/size_limit.h"
#include "block/qcow2/create.h"
#include "block/qcow2/image.h"

namespace calf::block {

Async<std::unique_ptr<Node>> open_scratch_overlay(Executor& executor, std::unique_ptr<Node> base,
                                                  ScratchOptions options) {
  FileOptions file_options{.writable = true, .cache = CacheMode{.no_flush = true}, .discard = true};
  Result<std::unique_ptr<FileNode>> made =
      co_await FileNode::create_unnamed(executor, options.folder, file_options);
  if (!made.ok()) {
    co_return Error(made.error().kind(), made.error().sys_errno(),
                    made.error().message() + " (another folder can be given with --scratch DIR)");
  }
  std::unique_ptr<Node> file = std::make_unique<SizeLimit>(std::move(*made), options.limit);

  qcow2::CreateOptions create_options;
  create_options.size = base->size();
  CO_TRY_VOID(co_await qcow2::create(executor, *file, create_options));
  qcow2::OpenOptions open_options;
  open_options.writable = true;
  open_options.unsafe_no_flush = true;
  CO_TRY(std::unique_ptr<qcow2::Image> image,
         co_await qcow2::Image::open(executor, std::move(file), std::move(open_options)));
  image->set_backing(std::move(base));
  std::unique_ptr<Node> node = std::move(image);
  co_return node;
}

std::string folder_of(std::string_view path) {
  size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  if (slash == 0) return "/";
  return std::string(path.substr(0, slash));
}

}  // namespace calf::block
