// What `info` says about one image: the tree behind its JSON and its text. Contract sections 5.2,
// 5.3 and 5.6.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "block/node.h"
#include "block/qcow2/image_info.h"
#include "block/tool/json.h"

namespace calf::img {

struct ImageDescription {
  // As given.
  std::string filename;
  std::string format;
  uint64_t virtual_size = 0;
  bool encrypted = false;
  std::optional<uint64_t> disk_size;
  // 0 if the format has none.
  uint32_t cluster_size = 0;
  std::optional<std::string> backing_name;
  std::optional<std::string> backing_format;
  // "Format specific information".
  std::optional<Json> specific;
  // Of a qcow2 image.
  std::optional<qcow2::ImageInfo> qcow2;
  // The recorded backing name as a path from here; empty if it cannot be one.
  std::string full_backing_name;
};

// `path` is the file behind the image.
ImageDescription describe(const block::Node& node, const std::string& filename,
                          const std::string& path);

Json to_json(const ImageDescription& image);
std::string to_text(const ImageDescription& image);
// The table of snapshots with its title. Contract section 5.6.
std::string snapshot_list(const std::vector<qcow2::SnapshotInfo>& snapshots);

}  // namespace calf::img
