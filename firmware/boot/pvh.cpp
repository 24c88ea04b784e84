#include "firmware/boot/pvh.h"

#include "firmware/table_area.h"

namespace calf::firmware {

Result<std::vector<uint8_t>> make_pvh_info(const PvhInfo& info, const MemoryMap& map,
                                           uint64_t address, uint64_t room) {
  std::vector<uint8_t> out;
  auto append = [&](const auto& object) {
    std::span<const uint8_t> bytes = bytes_of(object);
    out.insert(out.end(), bytes.begin(), bytes.end());
  };
  PvhStartInfo start{};
  start.magic = kPvhMagic;
  start.version = 1;
  start.command_line = info.command_line;
  if (info.rsdp) start.rsdp = raw(*info.rsdp);
  start.module_count = info.initrd.empty() ? 0 : 1;
  start.modules = info.initrd.empty() ? 0 : address + sizeof start;
  start.memory_map = address + sizeof start + sizeof(PvhModule);
  start.memory_map_entries = static_cast<uint32_t>(map.e820().size());
  append(start);
  append(PvhModule{info.initrd.offset, info.initrd.length, 0, 0});
  for (const E820Entry& entry : map.e820()) {
    append(PvhMemoryRange{entry.base, entry.length, entry.type, 0});
  }
  if (out.size() > room) {
    return make_error(ErrorKind::kResource,
                      "{} memory ranges do not fit into the start information", map.e820().size());
  }
  return out;
}

}  // namespace calf::firmware
