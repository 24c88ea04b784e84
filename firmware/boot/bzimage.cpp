#include "firmware/boot/bzimage.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "firmware/memory_map.h"

namespace calf::firmware {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr uint64_t kSector = 512;
constexpr uint64_t kHeaderEndBase = 0x202;

Error bad_image(std::string_view how) {
  return make_error(ErrorKind::kInvalid, "the kernel image is damaged: {}", how);
}

// Clears from the member on what the version does not have.
void clear_newer_fields(SetupHeader& header) {
  auto clear_from = [&](size_t offset) {
    std::memset(reinterpret_cast<uint8_t*>(&header) + offset, 0, sizeof header - offset);
  };
  uint16_t version = header.version;
  if (version < 0x203) return clear_from(offsetof(SetupHeader, initrd_addr_max));
  if (version < 0x205) return clear_from(offsetof(SetupHeader, kernel_alignment));
  if (version < 0x206) return clear_from(offsetof(SetupHeader, cmdline_size));
  if (version < 0x208) return clear_from(offsetof(SetupHeader, payload_offset));
  if (version < 0x20A) clear_from(offsetof(SetupHeader, pref_address));
  if (version < 0x20C) header.xloadflags = 0;
}

std::string printable_text(Bytes setup, uint64_t offset) {
  constexpr size_t kMost = 64;
  std::string text;
  for (uint64_t i = offset; i < setup.size() && text.size() < kMost; ++i) {
    if (setup[i] <= ' ' || setup[i] > '~') break;
    text.push_back(static_cast<char>(setup[i]));
  }
  return text;
}

}  // namespace

uint64_t BzImage::command_line_limit() const {
  constexpr uint64_t kOldLimit = 255;
  return header.version >= 0x206 && header.cmdline_size != 0 ? header.cmdline_size.value()
                                                             : kOldLimit;
}

uint64_t BzImage::initrd_limit() const {
  constexpr uint64_t kOldLastByte = 0x37FFFFFF;
  uint64_t last = header.initrd_addr_max != 0 ? header.initrd_addr_max.value() : kOldLastByte;
  return last + 1;
}

bool looks_like_bzimage(Bytes file) {
  constexpr size_t kMagicOffset = kSetupHeaderOffset + offsetof(SetupHeader, header);
  le32 magic;
  if (file.size() < kMagicOffset + sizeof magic) return false;
  std::memcpy(&magic, file.data() + kMagicOffset, sizeof magic);
  return magic == kSetupMagic;
}

Result<BzImage> parse_bzimage(Bytes file) {
  if (!looks_like_bzimage(file)) return bad_image("it has no setup header");
  constexpr size_t kLeast = kSetupHeaderOffset + offsetof(SetupHeader, cmd_line_ptr) + sizeof(le32);
  if (file.size() < kLeast) return bad_image("it is shorter than its setup header");

  BzImage image{};
  // The header ends where its jump leads to; what follows is code.
  uint64_t end = kHeaderEndBase + file[kHeaderEndBase - 1];
  end = std::min({end, file.size(), kSetupHeaderOffset + sizeof image.header});
  if (end < kLeast) return bad_image("its setup header is cut short");
  std::memcpy(&image.header, file.data() + kSetupHeaderOffset, end - kSetupHeaderOffset);
  SetupHeader& header = image.header;
  if (header.boot_flag != kBootFlag) return bad_image("the boot signature is missing");
  if (header.version < 0x202) {
    return make_error(ErrorKind::kUnsupported,
                      "the kernel image is of boot protocol {}.{:02}; 2.02 is the oldest that runs",
                      header.version >> 8, header.version & 0xFF);
  }
  if ((header.loadflags & kLoadedHigh) == 0) {
    return make_error(ErrorKind::kUnsupported,
                      "the kernel image is a zImage (loaded below 1 MiB); use a bzImage");
  }
  clear_newer_fields(header);

  constexpr unsigned kDefaultSectors = 4;
  unsigned sectors = header.setup_sects != 0 ? header.setup_sects : kDefaultSectors;
  uint64_t setup_size = (sectors + 1) * kSector;
  if (setup_size >= file.size()) return bad_image("there is nothing behind its setup code");
  image.setup = file.first(setup_size);
  image.protected_mode = file.subspan(setup_size);

  uint64_t offset = header.payload_offset, length = header.payload_length;
  if (length != 0) {
    uint64_t room = image.protected_mode.size();
    if (offset > room || length > room - offset) {
      return bad_image("its payload lies outside of the file (cut short?)");
    }
    image.payload = image.protected_mode.subspan(offset, length);
  }
  if (header.kernel_version != 0) {
    image.kernel_version = printable_text(image.setup, header.kernel_version + kSector);
  }
  return image;
}

}  // namespace calf::firmware
