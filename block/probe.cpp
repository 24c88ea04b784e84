#include "block/probe.h"

#include <algorithm>

namespace calf::block {
namespace {

using namespace std::string_view_literals;

struct Signature {
  size_t offset;
  std::string_view bytes;
  std::string_view format;
};

constexpr Signature kSignatures[] = {
    {0, "QFI\xfb\0\0\0\1"sv, "qcow"},
    {0, "KDMV"sv, "vmdk"},
    {0, "COWD"sv, "vmdk"},
    {0, "# Disk DescriptorFile"sv, "vmdk"},
    {0x40, "\x7f\x10\xda\xbe"sv, "vdi"},
    {0, "vhdxfile"sv, "vhdx"},
    {0, "conectix"sv, "vpc"},
    {0, "LUKS\xba\xbe\0\1"sv, "luks"},
    {0, "QED\0"sv, "qed"},
    {0, "WithoutFreeSpace"sv, "parallels"},
    {0, "WithouFreSpacExt"sv, "parallels"},
    {0, "Bochs Virtual HD Image"sv, "bochs"},
};

bool matches(std::span<const uint8_t> head, size_t offset, std::string_view bytes) {
  return head.size() >= offset + bytes.size() &&
         std::equal(bytes.begin(), bytes.end(), head.begin() + static_cast<ptrdiff_t>(offset),
                    [](char a, uint8_t b) { return static_cast<uint8_t>(a) == b; });
}

}  // namespace

std::string_view probe_format(std::span<const uint8_t> head) {
  // Any version but 1: a version that nobody knows yet is still no raw disk.
  for (const Signature& s : kSignatures) {
    if (matches(head, s.offset, s.bytes)) return s.format;
  }
  if (matches(head, 0, "QFI\xfb"sv)) return "qcow2";
  return "raw";
}

}  // namespace calf::block
