#include "block/ops/snapshot.h"

#include <chrono>

#include "block/qcow2/image.h"

namespace calf::ops {
namespace {

qcow2::Image* image_of(block::Node& node) {
  return dynamic_cast<qcow2::Image*>(&node);
}

Error cannot_load(Error why) {
  return std::move(why).with_context("Failed to load snapshot");
}

}  // namespace

std::vector<qcow2::SnapshotInfo> list_snapshots(block::Node& node) {
  qcow2::Image* image = image_of(node);
  if (image == nullptr) return {};
  return image->snapshots();
}

Async<> create_snapshot(block::Node& node, std::string name) {
  qcow2::Image* image = image_of(node);
  if (image == nullptr) {
    co_return make_error(ErrorKind::kUnsupported, "Block driver does not support snapshots");
  }
  auto now = std::chrono::system_clock::now().time_since_epoch();
  auto seconds = std::chrono::floor<std::chrono::seconds>(now);
  qcow2::NewSnapshot snapshot;
  snapshot.name = std::move(name);
  snapshot.date_sec = static_cast<uint32_t>(seconds.count());
  snapshot.date_nsec = static_cast<uint32_t>(std::chrono::nanoseconds(now - seconds).count());
  co_return co_await image->create_snapshot(std::move(snapshot));
}

Async<> apply_snapshot(block::Node& node, std::string word) {
  qcow2::Image* image = image_of(node);
  if (image == nullptr) {
    co_return make_error(ErrorKind::kUnsupported, "Block driver does not support snapshots");
  }
  std::optional<size_t> index = qcow2::find_snapshot(image->snapshots(), word);
  if (!index) {
    co_return make_error(ErrorKind::kNotFound,
                         "Failed to load snapshot: No such file or directory");
  }
  co_return co_await image->apply_snapshot(*index);
}

Async<> delete_snapshot(block::Node& node, std::string name) {
  qcow2::Image* image = image_of(node);
  std::optional<size_t> index;
  if (image != nullptr) {
    qcow2::SnapshotKey key{std::nullopt, std::move(name)};
    index = qcow2::find_snapshot(image->snapshots(), key);
  }
  if (!index) co_return make_error(ErrorKind::kNotFound, "snapshot not found");
  co_return co_await image->delete_snapshot(*index);
}

Async<> show_snapshot(block::Node& node, SnapshotChoice choice) {
  qcow2::Image* image = image_of(node);
  if (image == nullptr) {
    co_return cannot_load(make_error(ErrorKind::kUnsupported,
                                     "Block format '{}' used by device '' does not support "
                                     "temporarily loading internal snapshots",
                                     node.format()));
  }
  std::optional<size_t> index = choice.word ? qcow2::find_snapshot(image->snapshots(), *choice.word)
                                            : qcow2::find_snapshot(image->snapshots(), choice.key);
  if (!index) co_return cannot_load(make_error(ErrorKind::kNotFound, "Can't find snapshot"));
  Result<void> shown = co_await image->show_snapshot(*index);
  if (!shown.ok()) co_return cannot_load(std::move(shown.error()));
  co_return shown;
}

}  // namespace calf::ops
