#include "vmm/insn_completer/descriptors.h"

namespace calf::insn {

uint32_t Descriptor::limit() const {
  auto low = static_cast<uint32_t>((bits & 0xffff) | (bits >> 32 & 0xf0000));
  bool granular = (bits >> 55 & 1) != 0;
  return granular ? low << 12 | 0xfff : low;
}

Segment Descriptor::to_segment(uint16_t selector) const {
  Segment segment;
  segment.base = (bits >> 16 & 0xffffff) | (bits >> 32 & 0xff000000);
  segment.limit = limit();
  segment.selector = selector;
  segment.type = type() | (code_or_data() ? kTypeAccessed : 0);
  segment.dpl = dpl();
  segment.present = present();
  segment.code_or_data = code_or_data();
  segment.available = (bits >> 52 & 1) != 0;
  segment.long_mode = long_mode();
  segment.big = (bits >> 54 & 1) != 0;
  segment.granular = (bits >> 55 & 1) != 0;
  return segment;
}

Step<std::optional<Descriptor>> read_descriptor(Execution& e, uint16_t selector) {
  if (is_null(selector)) return std::optional<Descriptor>();
  uint64_t base = e.system.gdt.base;
  uint64_t limit = e.system.gdt.limit;
  if ((selector & kTableIndicator) != 0) {
    if (e.system.ldtr.unusable) return std::optional<Descriptor>();
    base = e.system.ldtr.base;
    limit = e.system.ldtr.limit;
  }
  uint64_t offset = selector & ~uint64_t{7};
  if (offset + 7 > limit) return std::optional<Descriptor>();
  Descriptor descriptor;
  descriptor.linear = base + offset;
  auto bytes = std::span(reinterpret_cast<uint8_t*>(&descriptor.bits), sizeof descriptor.bits);
  TRY_VOID(e.supervisor_memory().read(descriptor.linear, bytes));
  return std::optional<Descriptor>(descriptor);
}

Step<void> mark_accessed(Execution& e, const Descriptor& descriptor) {
  if ((descriptor.type() & kTypeAccessed) != 0) return {};
  uint8_t access_byte = static_cast<uint8_t>(descriptor.bits >> 40) | kTypeAccessed;
  return e.supervisor_memory().write(descriptor.linear + 5, {&access_byte, 1});
}

}  // namespace calf::insn
