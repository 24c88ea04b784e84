#include "block/qcow2/overlap.h"

#include <algorithm>
#include <map>

namespace calf::qcow2 {

std::string_view area_name(uint16_t mask) {
  static constexpr std::pair<Area, std::string_view> kNames[] = {
      {Area::kHeader, "qcow2_header"},
      {Area::kActiveL1, "active L1 table"},
      {Area::kActiveL2, "active L2 table"},
      {Area::kRefcountTable, "refcount table"},
      {Area::kRefcountBlock, "refcount block"},
      {Area::kSnapshotTable, "snapshot table"},
      {Area::kInactiveL1, "inactive L1 table"},
      {Area::kBitmapDirectory, "bitmap directory"},
      {Area::kEncryptionHeader, "encryption header"},
  };
  for (auto [area, name] : kNames) {
    if ((mask & static_cast<uint16_t>(area)) != 0) return name;
  }
  return "unknown area";
}

ByteRange MetadataMap::to_clusters(ByteRange bytes) const {
  uint64_t first = geometry_.cluster_index(bytes.offset);
  uint64_t last = geometry_.cluster_index(bytes.end() - 1);
  return {first, last - first + 1};
}

void MetadataMap::add_area(Area area, ByteRange range) {
  if (!range.empty()) areas_.push_back({area, to_clusters(range)});
}

void MetadataMap::remove_area(Area area, uint64_t offset) {
  uint64_t first = geometry_.cluster_index(offset);
  auto it = std::find_if(areas_.begin(), areas_.end(), [&](const Named& named) {
    return named.area == area && named.clusters.offset == first;
  });
  if (it != areas_.end()) areas_.erase(it);
}

void MetadataMap::seal() {
  // Sweep over the borders, counting how many areas of each kind are open.
  std::vector<std::tuple<uint64_t, int, Area>> borders;
  for (const Named& named : areas_) {
    borders.emplace_back(named.clusters.offset, +1, named.area);
    borders.emplace_back(named.clusters.end(), -1, named.area);
  }
  std::sort(borders.begin(), borders.end());
  pieces_.clear();
  std::map<uint16_t, int> open;
  for (size_t i = 0; i < borders.size(); ++i) {
    auto [at, step, area] = borders[i];
    int& count = open[static_cast<uint16_t>(area)];
    count += step;
    if (count == 0) open.erase(static_cast<uint16_t>(area));
    if (i + 1 == borders.size() || std::get<0>(borders[i + 1]) == at || open.empty()) continue;
    uint16_t mask = 0;
    for (auto [kind, n] : open)
      mask = static_cast<uint16_t>(mask | kind);
    pieces_.push_back({at, {std::get<0>(borders[i + 1]), mask}});
  }
}

void MetadataMap::add_table(Area area, uint64_t offset) {
  const uint64_t cluster = geometry_.cluster_index(offset);
  tables_end_ = std::max(tables_end_, cluster + 1);
  uint16_t& mask = tables_[cluster];
  mask = static_cast<uint16_t>(mask | static_cast<uint16_t>(area));
}

void MetadataMap::remove_table(Area area, uint64_t offset) {
  auto it = tables_.find(geometry_.cluster_index(offset));
  if (it == tables_.end()) return;
  it->second = static_cast<uint16_t>(it->second & ~static_cast<uint16_t>(area));
  if (it->second == 0) tables_.erase(it);
}

bool MetadataMap::is_table(Area area, uint64_t offset) const {
  auto it = tables_.find(geometry_.cluster_index(offset));
  return it != tables_.end() && (it->second & static_cast<uint16_t>(area)) != 0;
}

uint16_t MetadataMap::find(ByteRange range, uint16_t except) const {
  ByteRange clusters = to_clusters(range);
  unsigned found = 0;
  auto it = std::upper_bound(pieces_.begin(), pieces_.end(), clusters.offset,
                             [](uint64_t at, const auto& piece) { return at < piece.first; });
  if (it != pieces_.begin()) --it;
  for (; it != pieces_.end() && it->first < clusters.end(); ++it) {
    if (it->second.end > clusters.offset) found |= it->second.mask;
  }
  const uint64_t tables_end = std::min(clusters.end(), tables_end_);
  for (uint64_t at = clusters.offset; at < tables_end; ++at) {
    auto table = tables_.find(at);
    if (table != tables_.end()) found |= table->second;
  }
  return static_cast<uint16_t>(found & ~unsigned{except});
}

}  // namespace calf::qcow2
