#include "block/tool/describe.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <ctime>

#include "block/base/log.h"
#include "block/luks/luks_node.h"
#include "block/open_gate.h"
#include "block/qcow2/image.h"
#include "block/tool/sizes.h"
#include "block/vmdk/image.h"

namespace calf::img {
namespace {

constexpr uint64_t kNanosInSecond = 1'000'000'000;

Json describe_snapshot(const qcow2::SnapshotInfo& s) {
  Json json = Json::object();
  if (s.icount) json.add("icount", *s.icount);
  json.add("vm-clock-nsec", s.vm_clock_nsec % kNanosInSecond);
  json.add("name", s.name);
  json.add("date-sec", uint64_t{s.date_sec});
  json.add("date-nsec", uint64_t{s.date_nsec});
  json.add("vm-clock-sec", s.vm_clock_nsec / kNanosInSecond);
  json.add("id", s.id);
  json.add("vm-state-size", s.vm_state_size);
  return json;
}

Json describe_bitmap(const qcow2::BitmapInfo& bitmap) {
  Json flags = Json::list();
  if (bitmap.in_use) flags.push("in-use");
  if (bitmap.automatic) flags.push("auto");
  Json json = Json::object();
  json.add("flags", std::move(flags));
  json.add("name", bitmap.name);
  json.add("granularity", uint64_t{1} << (bitmap.granularity_bits & 63));
  return json;
}

// `inside`: of the LUKS header in another format, which says so.
Json describe_luks(const crypto::LuksHeader& header, bool inside) {
  Json data = Json::object();
  data.add("ivgen-alg", crypto::to_string(header.cipher.iv));
  data.add("hash-alg", crypto::to_string(header.hash));
  data.add("cipher-alg", crypto::to_string(header.cipher.algorithm));
  data.add("uuid", header.uuid);
  if (header.cipher.iv_hash) {
    data.add("ivgen-hash-alg", crypto::to_string(*header.cipher.iv_hash));
  }
  if (inside) data.add("format", "luks");
  data.add("cipher-mode", crypto::to_string(header.cipher.mode));
  Json slots = Json::list();
  for (const crypto::LuksSlot& slot : header.slots) {
    Json json = Json::object();
    json.add("active", slot.active);
    if (slot.active) json.add("iters", slot.iterations);
    json.add("key-offset", slot.offset);
    if (slot.active) json.add("stripes", slot.stripes);
    slots.push(std::move(json));
  }
  data.add("slots", std::move(slots));
  data.add("payload-offset", header.payload_offset);
  data.add("master-key-iters", header.digest_iterations);
  return data;
}

Json format_specific(const qcow2::ImageInfo& info) {
  Json data = Json::object();
  bool v3 = info.version >= 3;
  data.add("compat", v3 ? "1.1" : "0.10");
  data.add("compression-type", qcow2::to_string(info.compression));
  if (v3) data.add("lazy-refcounts", info.lazy_refcounts);
  if (!info.bitmaps.empty()) {
    Json bitmaps = Json::list();
    for (const auto& bitmap : info.bitmaps)
      bitmaps.push(describe_bitmap(bitmap));
    data.add("bitmaps", std::move(bitmaps));
  }
  data.add("refcount-bits", uint64_t{info.refcount_bits});
  if (info.data_file) data.add("data-file", *info.data_file);
  if (info.encryption != qcow2::Encryption::kNone) {
    Json encrypt = Json::object();
    if (info.luks) {
      encrypt = describe_luks(*info.luks, true);
    } else {
      encrypt.add("format", "aes");
    }
    data.add("encrypt", std::move(encrypt));
  }
  if (info.has_data_file) data.add("data-file-raw", info.data_file_raw);
  if (v3) {
    data.add("corrupt", info.corrupt);
    data.add("extended-l2", info.extended_l2);
  }
  return data;
}

Json format_specific(const vmdk::ImageInfo& info) {
  Json data = Json::object();
  data.add("cid", uint64_t{info.cid});
  data.add("parent-cid", uint64_t{info.parent_cid});
  data.add("create-type", info.create_type);
  Json extents = Json::list();
  for (const vmdk::ExtentInfo& extent : info.extents) {
    Json json = Json::object();
    if (extent.compressed) json.add("compressed", true);
    json.add("virtual-size", extent.virtual_size);
    json.add("filename", extent.filename);
    if (extent.cluster_size != 0) json.add("cluster-size", extent.cluster_size);
    json.add("format", extent.format);
    extents.push(std::move(json));
  }
  data.add("extents", std::move(extents));
  return data;
}

std::string local_time(uint32_t seconds) {
  std::time_t time = seconds;
  std::tm parts{};
  char text[32];
  if (::localtime_r(&time, &parts) == nullptr ||
      std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts) == 0) {
    return "?";
  }
  return text;
}

std::string snapshot_row(const qcow2::SnapshotInfo& s) {
  uint64_t millis = s.vm_clock_nsec / 1'000'000;
  std::string clock = fmt::format("{:02}:{:02}:{:02}.{:03}", millis / 3'600'000,
                                  millis / 60'000 % 60, millis / 1000 % 60, millis % 1000);
  return fmt::format("{:<9} {:<16} {:>8}{:>20}{:>13}{:>11}\n", quote_for_terminal(s.id),
                     quote_for_terminal(s.name), human_size(s.vm_state_size),
                     local_time(s.date_sec), clock, s.icount ? std::to_string(*s.icount) : "");
}

}  // namespace

ImageDescription describe(const block::Node& node, const std::string& filename,
                          const std::string& path) {
  ImageDescription image;
  image.filename = filename;
  image.format = node.format();
  image.virtual_size = node.size();
  struct stat st {};
  if (::stat(path.c_str(), &st) == 0) image.disk_size = static_cast<uint64_t>(st.st_blocks) * 512;
  if (const auto* qcow2 = dynamic_cast<const qcow2::Image*>(&node)) {
    image.qcow2 = qcow2->info();
    image.encrypted = image.qcow2->encryption != qcow2::Encryption::kNone;
    image.cluster_size = image.qcow2->cluster_size;
    image.backing_name = image.qcow2->backing_name;
    image.backing_format = image.qcow2->backing_format;
    image.specific = format_specific(*image.qcow2);
  } else if (const auto* volume = dynamic_cast<const luks::LuksNode*>(&node)) {
    image.encrypted = true;
    image.specific = describe_luks(volume->header(), false);
  } else if (const auto* vmdk = dynamic_cast<const vmdk::Image*>(&node)) {
    vmdk::ImageInfo info = vmdk->info();
    image.cluster_size = vmdk->limits().cluster_size;
    image.specific = format_specific(info);
    if (info.parent_cid != vmdk::kNoParent && vmdk->parent()) {
      image.backing_name = vmdk->parent();
      image.backing_format = "vmdk";
    }
  }
  if (image.backing_name) {
    Result<std::string> full = block::resolve_recorded_name(path, *image.backing_name);
    if (full.ok()) image.full_backing_name = std::move(*full);
  }
  return image;
}

Json to_json(const ImageDescription& image) {
  Json json = Json::object();
  const qcow2::ImageInfo* q = image.qcow2 ? &*image.qcow2 : nullptr;
  if (image.backing_format) json.add("backing-filename-format", *image.backing_format);
  if (q != nullptr && !q->snapshots.empty()) {
    Json snapshots = Json::list();
    for (const auto& snapshot : q->snapshots)
      snapshots.push(describe_snapshot(snapshot));
    json.add("snapshots", std::move(snapshots));
  }
  json.add("virtual-size", image.virtual_size);
  json.add("filename", image.filename);
  if (image.cluster_size != 0) json.add("cluster-size", image.cluster_size);
  json.add("format", image.format);
  if (image.disk_size) json.add("actual-size", *image.disk_size);
  if (image.specific) {
    Json specific = Json::object();
    specific.add("type", image.format);
    specific.add("data", *image.specific);
    json.add("format-specific", std::move(specific));
  }
  if (image.backing_name && !image.full_backing_name.empty()) {
    json.add("full-backing-filename", image.full_backing_name);
  }
  if (image.encrypted) json.add("encrypted", true);
  if (image.backing_name) json.add("backing-filename", *image.backing_name);
  json.add("dirty-flag", q != nullptr && q->dirty);
  return json;
}

std::string to_text(const ImageDescription& image) {
  const qcow2::ImageInfo* q = image.qcow2 ? &*image.qcow2 : nullptr;
  std::string out;
  out += fmt::format("image: {}\n", quote_for_terminal(image.filename));
  out += fmt::format("file format: {}\n", image.format);
  out += fmt::format("virtual size: {} ({} bytes)\n", human_size(image.virtual_size),
                     image.virtual_size);
  out += fmt::format("disk size: {}\n",
                     image.disk_size ? human_size(*image.disk_size) : "unavailable");
  if (image.encrypted) out += "encrypted: yes\n";
  if (image.cluster_size != 0) out += fmt::format("cluster_size: {}\n", image.cluster_size);
  if (q != nullptr && q->dirty) out += "cleanly shut down: no\n";
  if (image.backing_name) {
    out += fmt::format("backing file: {}", quote_for_terminal(*image.backing_name));
    if (image.full_backing_name.empty()) {
      out += " (cannot determine actual path)";
    } else if (image.full_backing_name != *image.backing_name) {
      out += fmt::format(" (actual path: {})", quote_for_terminal(image.full_backing_name));
    }
    out += "\n";
    if (image.backing_format) {
      out += fmt::format("backing file format: {}\n", quote_for_terminal(*image.backing_format));
    }
  }
  if (q != nullptr && !q->snapshots.empty()) out += snapshot_list(q->snapshots);
  if (image.specific) out += "Format specific information:\n" + image.specific->to_lines(1);
  return out;
}

std::string snapshot_list(const std::vector<qcow2::SnapshotInfo>& snapshots) {
  std::string out = fmt::format("Snapshot list:\n{:<10}{:<17}{:>8}{:>20}{:>13}{:>11}\n", "ID",
                                "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
  for (const auto& snapshot : snapshots)
    out += snapshot_row(snapshot);
  return out;
}

}  // namespace calf::img
