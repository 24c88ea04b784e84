#include "block/ops/overlays.h"

#include <algorithm>
#include <filesystem>

#include "block/file_node.h"
#include "block/open_gate.h"
#include "block/probe.h"

namespace calf::ops {
namespace {

namespace fs = std::filesystem;
using block::BackingReference;

// The regular files below `folder`.
Result<std::vector<std::string>> list_files(const std::string& folder,
                                            const std::function<void(std::string_view)>& problem) {
  std::error_code error;
  fs::recursive_directory_iterator at(folder, error);
  if (error) return Error::from_errno(error.value(), fmt::format("Could not read '{}'", folder));
  std::vector<std::string> files;
  while (at != fs::recursive_directory_iterator()) {
    std::error_code ignored;
    if (fs::is_regular_file(at->symlink_status(ignored))) files.push_back(at->path().string());
    if (at->is_directory(ignored) && !at->is_symlink(ignored) &&
        fs::directory_iterator(at->path(), error) == fs::directory_iterator() && error) {
      problem(fmt::format("Could not read '{}': {}", at->path().string(), error.message()));
      at.disable_recursion_pending();
    }
    at.increment(error);
    if (error) return Error::from_errno(error.value(), fmt::format("Could not read '{}'", folder));
  }
  return files;
}

std::string without_links(const std::string& path) {
  std::error_code error;
  fs::path canonical = fs::weakly_canonical(path, error);
  return error ? path : canonical.string();
}

Overlay describe(const std::string& path, const char* format, BackingReference backing) {
  Overlay overlay{path, format, std::move(backing), "", block::BaseState::kUnknown};
  Result<std::string> base = block::resolve_recorded_name(path, overlay.backing.name);
  if (!base.ok()) return overlay;
  overlay.base = without_links(*base);
  std::vector<uint8_t> nothing;
  overlay.base_state = block::look_at_base(*base, overlay.backing.name,
                                           overlay.backing.fingerprint.value_or(nothing));
  return overlay;
}

// Nothing if the file is no overlay.
Async<std::optional<Overlay>> look_at(Executor& executor, const block::FormatTable& formats,
                                      std::string path) {
  block::FileOptions options;
  CO_TRY(std::unique_ptr<block::FileNode> file,
         co_await block::FileNode::open(executor, path, options));
  std::vector<uint8_t> head(block::kProbeBytes);
  FlatIo io{std::span<uint8_t>(head)};
  CO_TRY_VOID(co_await file->read(0, io.slice()));
  const block::FormatDriver* driver = formats.find(block::probe_format(head));
  if (driver == nullptr) co_return std::nullopt;
  Result<std::optional<BackingReference>> backing = co_await driver->backing_of(*file);
  if (!backing.ok()) {
    co_return std::move(backing.error()).with_context(fmt::format("Could not read '{}'", path));
  }
  CO_TRY_VOID(co_await file->close());
  if (!*backing) co_return std::nullopt;
  co_return std::optional(describe(path, driver->name(), std::move(**backing)));
}

}  // namespace

Async<std::vector<Overlay>> find_overlays(
    Executor& executor, const block::FormatTable& formats, std::string folder,
    const std::function<void(std::string_view line)>& problem) {
  CO_TRY(std::vector<std::string> files, list_files(folder, problem));
  std::vector<Overlay> overlays;
  for (const std::string& file : files) {
    Result<std::optional<Overlay>> found = co_await look_at(executor, formats, file);
    if (!found.ok()) {
      problem(found.error().message());
    } else if (*found) {
      overlays.push_back(std::move(**found));
    }
  }
  std::sort(overlays.begin(), overlays.end(), [](const Overlay& a, const Overlay& b) {
    return std::tie(a.base, a.path) < std::tie(b.base, b.path);
  });
  co_return overlays;
}

}  // namespace calf::ops
