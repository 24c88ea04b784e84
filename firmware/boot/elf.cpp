#include "firmware/boot/elf.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "block/base/endian.h"

namespace calf::firmware {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr uint32_t kXenPhys32Entry = 18;  // Xen, public/elfnote.h

Error bad_elf(std::string_view how) {
  return make_error(ErrorKind::kInvalid, "the ELF kernel is damaged: {}", how);
}

// The part of the file that a header speaks of, if it is all there.
std::optional<Bytes> slice(Bytes file, uint64_t offset, uint64_t length) {
  if (offset > file.size() || length > file.size() - offset) return std::nullopt;
  return file.subspan(offset, length);
}

template <class T>
std::optional<T> object_at(Bytes file, uint64_t offset) {
  auto bytes = slice(file, offset, sizeof(T));
  if (!bytes) return std::nullopt;
  T object;
  std::memcpy(&object, bytes->data(), sizeof object);
  return object;
}

// Looks through a PT_NOTE segment. Names and descriptions are padded to 4 bytes there, whatever
// p_align says: this is how kernels are linked.
std::optional<uint64_t> find_pvh_entry(Bytes notes) {
  uint64_t at = 0;
  while (auto header = object_at<Elf64_Nhdr>(notes, at)) {  // the 32-bit form is the same
    uint64_t name_at = at + sizeof *header;
    uint64_t text_at = name_at + align_up(header->n_namesz, 4);
    auto name = slice(notes, name_at, header->n_namesz);
    auto text = slice(notes, text_at, header->n_descsz);
    if (!name || !text) return std::nullopt;
    using namespace std::string_view_literals;
    constexpr std::string_view kXen = "Xen\0"sv;
    if (header->n_type == kXenPhys32Entry && std::ranges::equal(*name, kXen)) {
      if (auto wide = object_at<le64>(*text, 0)) return wide->value();
      if (auto narrow = object_at<le32>(*text, 0)) return narrow->value();
    }
    at = text_at + align_up(header->n_descsz, 4);
  }
  return std::nullopt;
}

Result<ElfSegment> read_segment(Bytes file, uint64_t offset, uint64_t file_size,
                                uint64_t memory_size, uint64_t physical, uint64_t virtual_address) {
  auto bytes = slice(file, offset, file_size);
  if (!bytes) return bad_elf("a segment lies outside of the file");
  if (file_size > memory_size) return bad_elf("a segment is larger in the file than in memory");
  auto range = make_range(physical, memory_size);
  if (!range || !make_range(virtual_address, memory_size)) {
    return bad_elf("a segment wraps around the end of memory");
  }
  return ElfSegment{*range, virtual_address, *bytes};
}

// Kernels give the entry as a physical address; some other programs as a virtual one.
std::optional<uint64_t> physical_entry(const ElfImage& image, uint64_t entry) {
  for (const ElfSegment& segment : image.segments) {
    if (segment.physical.contains(entry)) return entry;
  }
  for (const ElfSegment& segment : image.segments) {
    if (ByteRange{segment.virtual_address, segment.physical.length}.contains(entry)) {
      return segment.physical.offset + (entry - segment.virtual_address);
    }
  }
  return std::nullopt;
}

template <class Ehdr, class Phdr>
Result<ElfImage> parse(Bytes file) {
  auto header = object_at<Ehdr>(file, 0);
  if (!header) return bad_elf("it is shorter than its header");
  if (header->e_phentsize != sizeof(Phdr)) return bad_elf("odd size of program headers");
  if (header->e_phnum == 0 || header->e_phnum == PN_XNUM) {
    return bad_elf("it has no program headers");
  }
  ElfImage image;
  image.is_64bit = sizeof(Ehdr) == sizeof(Elf64_Ehdr);
  std::optional<uint64_t> pvh_entry;
  for (uint64_t i = 0; i < header->e_phnum; ++i) {
    auto table = make_range(header->e_phoff, (i + 1) * sizeof(Phdr));
    if (!table) return bad_elf("program headers lie outside of the file");
    auto entry = object_at<Phdr>(file, header->e_phoff + i * sizeof(Phdr));
    if (!entry) return bad_elf("program headers lie outside of the file");
    if (entry->p_type == PT_NOTE) {
      auto notes = slice(file, entry->p_offset, entry->p_filesz);
      if (!notes) return bad_elf("its notes lie outside of the file");
      if (!pvh_entry) pvh_entry = find_pvh_entry(*notes);
    } else if (entry->p_type == PT_LOAD && entry->p_memsz != 0) {
      TRY(ElfSegment segment, read_segment(file, entry->p_offset, entry->p_filesz, entry->p_memsz,
                                           entry->p_paddr, entry->p_vaddr));
      image.segments.push_back(segment);
    }
  }
  if (image.segments.empty()) return bad_elf("there is nothing to load in it");

  auto entry = physical_entry(image, header->e_entry);
  if (!entry) return bad_elf("its entry is outside of what it loads");
  image.entry = *entry;
  if (pvh_entry) {
    bool loaded = std::ranges::any_of(
        image.segments, [&](const ElfSegment& s) { return s.physical.contains(*pvh_entry); });
    if (!loaded || *pvh_entry > UINT32_MAX) return bad_elf("its PVH entry is not loaded");
    image.pvh_entry = static_cast<uint32_t>(*pvh_entry);
  }
  return image;
}

}  // namespace

bool looks_like_elf(Bytes file) {
  return file.size() >= SELFMAG && std::memcmp(file.data(), ELFMAG, SELFMAG) == 0;
}

Result<ElfImage> parse_elf(Bytes file) {
  if (!looks_like_elf(file)) return bad_elf("it does not start as an ELF file");
  if (file.size() < EI_NIDENT + sizeof(le16) * 2) return bad_elf("it is shorter than its header");
  if (file[EI_DATA] != ELFDATA2LSB) {
    return make_error(ErrorKind::kUnsupported, "the ELF kernel is big-endian, not for x86");
  }
  uint16_t machine = *object_at<le16>(file, EI_NIDENT + sizeof(le16));
  if (machine != EM_X86_64 && machine != EM_386) {
    return make_error(ErrorKind::kUnsupported, "the ELF kernel is for another processor (type {})",
                      machine);
  }
  switch (file[EI_CLASS]) {
    case ELFCLASS64:
      return parse<Elf64_Ehdr, Elf64_Phdr>(file);
    case ELFCLASS32:
      return parse<Elf32_Ehdr, Elf32_Phdr>(file);
    default:
      return bad_elf("it is neither 32-bit nor 64-bit");
  }
}

}  // namespace calf::firmware
