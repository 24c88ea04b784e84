#include "vmm/disk.h"

#include "block/formats/scratch_overlay.h"
#include "block/graph.h"
#include "block/node_name.h"
#include "block/shown_name.h"
#include "block/write_through.h"

namespace calf::vmm {
namespace {

block::CacheMode cache_mode(CacheMode mode) {
  switch (mode) {
    case CacheMode::kNone:
      return {.direct = true};
    case CacheMode::kWritethrough:
      return {.write_through = true};
    case CacheMode::kDirectSync:
      return {.direct = true, .write_through = true};
    case CacheMode::kUnsafe:
      return {.no_flush = true};
    case CacheMode::kWriteback:
      break;
  }
  return {};
}

// What calf-img says in qemu-img's words ("Could not open 'x': Could not open 'x': reason"), said
// once, and with the way out where an overlay has lost its base, or an image of the chain,
// `damaged`, is broken.
Error explain(const Error& error, const std::string& filename, const std::string& damaged) {
  std::string text = error.message();
  std::string outer = fmt::format("Could not open '{}': ", filename);
  if (text.starts_with(outer + outer)) text.erase(0, outer.size());
  if (text.starts_with(outer + "Could not open backing file: ") &&
      error.kind() == ErrorKind::kNotFound) {
    text += fmt::format("\n  If the base was moved: calf-img rebase -u -b NEW_PLACE -F FORMAT {}",
                        quote_for_shell(filename));
  }
  if (!damaged.empty()) {
    text += fmt::format("\n  calf-img check -r all {} may repair it; copy the file first",
                        quote_for_shell(damaged));
  }
  return Error(error.kind(), error.sys_errno(), std::move(text));
}

}  // namespace

Result<std::unique_ptr<Disk>> Disk::start_opening(const DiskConfig& config, unsigned number,
                                                  const DiskEnvironment& environment) {
  std::unique_ptr<Disk> disk(new Disk(config));
  TRY(disk->io_, IoThread::start(fmt::format("calf-disk{}", number)));
  disk->executor().post(
      [raw = disk.get(), env = &environment] { raw->executor().spawn(open(raw, env)); });
  return disk;
}

Disk::~Disk() {
  // The thread may still be opening, into this object.
  Result<void> ignored = finish_opening();
}

Task<void> Disk::open(Disk* disk, const DiskEnvironment* environment) {
  Result<std::unique_ptr<block::Node>> node = co_await open_node(disk, environment);
  if (node.ok()) {
    disk->node_ = std::move(*node);
  } else {
    disk->open_result_ = explain(node.error(), disk->config_.filename, disk->damaged_);
  }
  disk->opened_.release();
}

Async<std::unique_ptr<block::Node>> Disk::open_node(Disk* disk,
                                                    const DiskEnvironment* environment) {
  const DiskConfig& config = disk->config_;
  bool read_only = config.read_only || config.media == DiskMedia::kCdrom;
  block::OpenSpec spec;
  spec.filename = config.filename;
  if (!block::is_plain_path(config.filename)) {
    Result<block::NodeDescription> node = block::parse_node_name(config.filename);
    if (!node.ok()) {
      co_return std::move(node.error())
          .with_context(fmt::format("Could not open '{}'", config.filename));
    }
    spec.node = std::move(*node);
  }
  std::string file = spec.node ? block::file_below(*spec.node) : config.filename;
  if (!config.format.empty()) spec.format = config.format;
  spec.probing = block::Probing::kNotRaw;
  spec.writable = !read_only && !config.snapshot;
  spec.accept_changed_base = config.force;
  spec.cache = cache_mode(config.cache);
  spec.discard = config.discard_unmap;
  spec.message = [log = &environment->log](std::string_view line) {
    log->write(LogLevel::kWarning, line);
  };
  spec.damaged = [disk](const std::string& path, const block::FormatDriver& driver) {
    if (driver.can_repair()) disk->damaged_ = path;
  };
  Executor& executor = disk->executor();
  bool write_through = spec.cache.write_through && !config.snapshot;
  CO_TRY(std::unique_ptr<block::Node> node,
         co_await block::open_chain(executor, environment->formats, std::move(spec)));
  if (config.snapshot && !read_only) {
    block::ScratchOptions options;
    options.folder = environment->scratch_directory.empty() ? block::folder_of(file)
                                                            : environment->scratch_directory;
    if (environment->scratch_limit) options.limit = *environment->scratch_limit;
    CO_TRY(node,
           co_await block::open_scratch_overlay(executor, std::move(node), std::move(options)));
  }
  if (write_through) node = std::make_unique<block::WriteThroughNode>(std::move(node));
  co_return node;
}

Result<void> Disk::finish_opening() {
  if (io_ != nullptr && !waited_) {
    opened_.acquire();
    waited_ = true;
  }
  return open_result_;
}

Result<void> Disk::close() {
  if (node_ == nullptr) return {};
  Result<void> closed = executor().run_blocking(node_->close());
  // Nodes are destroyed where they lived.
  executor().post(
      [node = std::shared_ptr<block::Node>(std::move(node_))]() mutable { node.reset(); });
  if (!closed.ok()) return std::move(closed.error()).with_context(config_.filename);
  return {};
}

}  // namespace calf::vmm
