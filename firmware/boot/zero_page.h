// Linux's zero page (struct boot_params): what a kernel that is entered behind its setup code is
// told. Documentation/arch/x86/zero-page.rst.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "block/base/byte_range.h"
#include "block/base/result.h"
#include "devices/core/guest_memory.h"
#include "firmware/boot/bzimage.h"
#include "firmware/memory_map.h"

namespace calf::firmware {

struct ZeroPageInfo {
  uint32_t command_line = 0;  // address
  ByteRange initrd;           // empty: none; below 4 GiB
  std::optional<devices::Gpa> rsdp;
};

// The 4096 bytes. `header` is the image's, or make_setup_header() for a kernel without one.
// kResource if the memory map has more entries than the page has room for.
Result<std::vector<uint8_t>> make_zero_page(SetupHeader header, const ZeroPageInfo& info,
                                            const MemoryMap& map);

// For a plain vmlinux: what its bzImage would have said.
SetupHeader make_setup_header();

}  // namespace calf::firmware
