#include "tests/firmware/boot/boot_images.h"

#include <libdeflate.h>
#include <lz4.h>
#include <lzma.h>
#include <zstd.h>

#include <cstring>
#include <random>

namespace calf::firmware::testing_support {

Bytes sample_text(size_t size) {
  std::mt19937 random(1);
  Bytes text(size);
  for (size_t i = 0; i < size; ++i)
    text[i] = static_cast<uint8_t>(random() % 16);
  for (size_t i = 0; i + 5 <= size; i += 50)
    text[i] = 0xE8;  // call
  return text;
}

namespace {

template <class Ehdr, class Phdr>
Bytes make_elf_of(const ElfSpec& spec) {
  Bytes note;
  if (spec.pvh_note) {
    Elf64_Nhdr first{4, 3, 77};  // another note, with padding, before ours
    append(note, first);
    append(note, std::array<char, 8>{'X', 'e', 'n', 0, 1, 2, 3, 0});
    append(note, Elf64_Nhdr{4, 4, 18});
    append(note, std::array<char, 4>{'X', 'e', 'n', 0});
    append(note, le32(static_cast<uint32_t>(spec.physical) + spec.pvh_entry_offset));
  }
  Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = spec.is_64bit ? ELFCLASS64 : ELFCLASS32;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;
  header.e_machine = spec.is_64bit ? EM_X86_64 : EM_386;
  header.e_version = EV_CURRENT;
  header.e_entry = static_cast<decltype(header.e_entry)>(spec.physical + spec.entry_offset);
  header.e_phoff = sizeof header;
  header.e_ehsize = sizeof header;
  header.e_phentsize = sizeof(Phdr);
  header.e_phnum = spec.pvh_note ? 2 : 1;
  uint64_t text_at = 0x200, note_at = text_at + spec.text.size();

  Phdr load{};
  load.p_type = PT_LOAD;
  load.p_offset = text_at;
  load.p_filesz = static_cast<decltype(load.p_filesz)>(spec.text.size());
  load.p_memsz = static_cast<decltype(load.p_memsz)>(spec.memory_size);
  load.p_paddr = static_cast<decltype(load.p_paddr)>(spec.physical);
  load.p_vaddr = static_cast<decltype(load.p_vaddr)>(spec.virtual_address);
  Phdr notes{};
  notes.p_type = PT_NOTE;
  notes.p_offset = static_cast<decltype(notes.p_offset)>(note_at);
  notes.p_filesz = static_cast<decltype(notes.p_filesz)>(note.size());

  Bytes file;
  append(file, header);
  append(file, load);
  if (spec.pvh_note) append(file, notes);
  file.resize(text_at);
  file.insert(file.end(), spec.text.begin(), spec.text.end());
  file.insert(file.end(), note.begin(), note.end());
  return file;
}

Bytes pack_lz4(std::span<const uint8_t> data) {
  constexpr size_t kBlock = 8 << 20;
  Bytes out;
  append(out, le32(0x184C2102));
  for (size_t at = 0; at < data.size(); at += kBlock) {
    auto piece = data.subspan(at, std::min(kBlock, data.size() - at));
    Bytes packed(static_cast<size_t>(LZ4_compressBound(static_cast<int>(piece.size()))));
    int size = LZ4_compress_default(
        reinterpret_cast<const char*>(piece.data()), reinterpret_cast<char*>(packed.data()),
        static_cast<int>(piece.size()), static_cast<int>(packed.size()));
    append(out, le32(static_cast<uint32_t>(size)));
    out.insert(out.end(), packed.begin(), packed.begin() + size);
  }
  return out;
}

// As `xz --check=crc32 --x86 --lzma2`.
Bytes pack_xz(std::span<const uint8_t> data) {
  lzma_options_lzma options;
  lzma_lzma_preset(&options, 6);
  lzma_filter filters[] = {
      {LZMA_FILTER_X86, nullptr}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
  Bytes out(lzma_stream_buffer_bound(data.size()));
  size_t size = 0;
  EXPECT_EQ(lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, nullptr, data.data(), data.size(),
                                      out.data(), &size, out.size()),
            LZMA_OK);
  out.resize(size);
  return out;
}

Bytes pack_lzma(std::span<const uint8_t> data) {
  lzma_options_lzma options;
  lzma_lzma_preset(&options, 6);
  lzma_stream stream = LZMA_STREAM_INIT;
  EXPECT_EQ(lzma_alone_encoder(&stream, &options), LZMA_OK);
  Bytes out(data.size() + 65536);
  stream.next_in = data.data();
  stream.avail_in = data.size();
  stream.next_out = out.data();
  stream.avail_out = out.size();
  EXPECT_EQ(lzma_code(&stream, LZMA_FINISH), LZMA_STREAM_END);
  out.resize(stream.total_out);
  lzma_end(&stream);
  return out;
}

}  // namespace

Bytes make_elf(const ElfSpec& spec) {
  return spec.is_64bit ? make_elf_of<Elf64_Ehdr, Elf64_Phdr>(spec)
                       : make_elf_of<Elf32_Ehdr, Elf32_Phdr>(spec);
}

Bytes pack(PayloadFormat format, std::span<const uint8_t> data) {
  Bytes out;
  switch (format) {
    case PayloadFormat::kGzip: {
      libdeflate_compressor* compressor = libdeflate_alloc_compressor(6);
      out.resize(libdeflate_gzip_compress_bound(compressor, data.size()));
      out.resize(
          libdeflate_gzip_compress(compressor, data.data(), data.size(), out.data(), out.size()));
      libdeflate_free_compressor(compressor);
      return out;
    }
    case PayloadFormat::kZstd:
      out.resize(ZSTD_compressBound(data.size()));
      out.resize(ZSTD_compress(out.data(), out.size(), data.data(), data.size(), 3));
      break;
    case PayloadFormat::kLz4:
      out = pack_lz4(data);
      break;
    case PayloadFormat::kXz:
      out = pack_xz(data);
      break;
    case PayloadFormat::kLzma:
      out = pack_lzma(data);
      break;
    case PayloadFormat::kElf:
      return {data.begin(), data.end()};
    default:
      ADD_FAILURE() << "no packer";
  }
  append(out, le32(static_cast<uint32_t>(data.size())));
  return out;
}

Bytes make_bzimage(const BzImageSpec& spec) {
  constexpr size_t kStub = 0x400;  // protected-mode code before the payload
  constexpr size_t kVersionText = 0x300;
  SetupHeader header{};
  header.setup_sects = spec.setup_sects;
  header.boot_flag = kBootFlag;
  header.jump = 0xEB;
  header.jump_offset = 0x26C - 0x202;
  header.header = kSetupMagic;
  header.version = spec.version;
  header.kernel_version = kVersionText - 0x200;
  header.loadflags = kLoadedHigh;
  header.code32_start = 0x100000;
  header.initrd_addr_max = spec.initrd_addr_max;
  header.kernel_alignment = 0x200000;
  header.relocatable_kernel = 1;
  header.xloadflags = spec.xloadflags;
  header.cmdline_size = spec.cmdline_size;
  header.payload_offset = spec.payload.empty() ? 0 : kStub;
  header.payload_length = static_cast<uint32_t>(spec.payload.size());
  header.pref_address = spec.pref_address;
  header.init_size = spec.init_size;

  Bytes file((spec.setup_sects + 1u) * 512);
  std::memcpy(file.data() + kSetupHeaderOffset, &header, sizeof header);
  std::string_view text("6.1.0-test (builder)");
  std::memcpy(file.data() + kVersionText, text.data(), text.size());
  Bytes stub(kStub, 0xF4);
  file.insert(file.end(), stub.begin(), stub.end());
  file.insert(file.end(), spec.payload.begin(), spec.payload.end());
  return file;
}

TestGuest::TestGuest(uint64_t ram_size) : map_(*MemoryMap::build(ram_size)) {
  void* ram = mmap(nullptr, ram_size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  EXPECT_NE(ram, MAP_FAILED);
  ram_ = static_cast<uint8_t*>(ram);
  std::vector<devices::GuestMemory::Region> regions;
  for (const MemorySlot& slot : map_.slots()) {
    regions.push_back({slot.start, {ram_ + slot.backing_offset, slot.length}, slot.writable});
  }
  memory_ = devices::GuestMemory(std::move(regions));
}

}  // namespace calf::firmware::testing_support
