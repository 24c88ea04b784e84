// The Linux bzImage file: real-mode setup code with the setup header, then the protected-mode part
// with the packed kernel inside.
//
//   0      0x1F1           (setup_sects + 1) * 512
//   | boot | setup header … setup code | protected-mode code … payload … |
//
// Linux: Documentation/arch/x86/boot.rst. Fields that a header's version or length does not have
// read as zero here. Other programs (iPXE, memtest86+) use the same form without a payload.
//
// Not supported: protocols before 2.02, zImage (protected-mode part loaded low).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "block/base/endian.h"
#include "block/base/result.h"

namespace calf::firmware {

// Offsets in the file and in the zero page; from which version of the protocol.
struct SetupHeader {
  uint8_t setup_sects;         // 1F1
  le16 root_flags;             // 1F2
  le32 syssize;                // 1F4
  le16 ram_size;               // 1F8
  le16 vid_mode;               // 1FA
  le16 root_dev;               // 1FC
  le16 boot_flag;              // 1FE 0xAA55
  uint8_t jump;                // 200 a short jump over the header:
  uint8_t jump_offset;         // 201 the header's end is 202 + this
  le32 header;                 // 202 "HdrS"
  le16 version;                // 206
  le32 realmode_switch;        // 208
  le16 start_sys_seg;          // 20C
  le16 kernel_version;         // 20E text at 200 + this
  uint8_t type_of_loader;      // 210
  uint8_t loadflags;           // 211
  le16 setup_move_size;        // 212
  le32 code32_start;           // 214
  le32 ramdisk_image;          // 218
  le32 ramdisk_size;           // 21C
  le32 bootsect_kludge;        // 220
  le16 heap_end_ptr;           // 224 2.01
  uint8_t ext_loader_ver;      // 226
  uint8_t ext_loader_type;     // 227
  le32 cmd_line_ptr;           // 228 2.02
  le32 initrd_addr_max;        // 22C 2.03
  le32 kernel_alignment;       // 230 2.05
  uint8_t relocatable_kernel;  // 234 2.05
  uint8_t min_alignment;       // 235 2.10
  le16 xloadflags;             // 236 2.12
  le32 cmdline_size;           // 238 2.06
  le32 hardware_subarch;       // 23C 2.07
  le64 hardware_subarch_data;  // 240
  le32 payload_offset;         // 248 2.08
  le32 payload_length;         // 24C
  le64 setup_data;             // 250 2.09
  le64 pref_address;           // 258 2.10
  le32 init_size;              // 260 2.10
  le32 handover_offset;        // 264
  le32 kernel_info_offset;     // 268 2.15
};
inline constexpr uint64_t kSetupHeaderOffset = 0x1F1;
static_assert(sizeof(SetupHeader) == 0x26C - kSetupHeaderOffset);

inline constexpr uint16_t kBootFlag = 0xAA55;
inline constexpr uint32_t kSetupMagic = 0x53726448;  // "HdrS"
inline constexpr uint8_t kUnknownLoader = 0xFF;
inline constexpr uint8_t kLoadedHigh = 1 << 0;      // loadflags
inline constexpr uint8_t kCanUseHeap = 1 << 7;      // loadflags
inline constexpr uint16_t kHas64BitEntry = 1 << 0;  // xloadflags

struct BzImage {
  SetupHeader header;
  std::span<const uint8_t> setup;           // from the start of the file
  std::span<const uint8_t> protected_mode;  // at least one byte
  std::optional<std::span<const uint8_t>> payload;
  std::string kernel_version;  // printable; may be empty

  // The longest command line that it takes, without the zero byte.
  uint64_t command_line_limit() const;
  // An initrd ends at or before this address.
  uint64_t initrd_limit() const;
};

bool looks_like_bzimage(std::span<const uint8_t> file);

// The spans are slices of `file`.
Result<BzImage> parse_bzimage(std::span<const uint8_t> file);

}  // namespace calf::firmware
