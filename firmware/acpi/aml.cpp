#include "firmware/acpi/aml.h"

#include <cassert>

namespace calf::firmware::aml {
namespace {

enum Op : uint8_t {
  kZero = 0x00,
  kOne = 0x01,
  kName = 0x08,
  kByte = 0x0A,
  kWord = 0x0B,
  kDword = 0x0C,
  kString = 0x0D,
  kQword = 0x0E,
  kScope = 0x10,
  kBuffer = 0x11,
  kPackage = 0x12,
  kExtended = 0x5B,
  kExtendedDevice = 0x82,
};

void append(Bytes& out, const Bytes& more) {
  out.insert(out.end(), more.begin(), more.end());
}

void append_le(Bytes& out, uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i)
    out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

// PkgLength (20.2.4) counts itself: one byte up to 63, else a nibble and one to three more bytes.
Bytes with_length(const Bytes& content) {
  Bytes out;
  uint64_t size = content.size();
  if (size + 1 < 64) {
    out.push_back(static_cast<uint8_t>(size + 1));
  } else {
    unsigned more = size + 2 < (1u << 12) ? 1 : size + 3 < (1u << 20) ? 2 : 3;
    uint64_t total = size + 1 + more;
    assert(total < (1u << 28));
    out.push_back(static_cast<uint8_t>(more << 6 | (total & 0xF)));
    append_le(out, total >> 4, more);
  }
  append(out, content);
  return out;
}

Bytes name_string(std::string_view name) {
  assert(name.size() == 4);
  return Bytes(name.begin(), name.end());
}

// Address space descriptors (6.4.3.5): word, dword and qword differ in the width of five numbers.
enum class Space : uint8_t { kMemory = 0, kIo = 1, kBus = 2 };

Bytes window(uint8_t tag, unsigned width, Space space, uint8_t type_flags, uint64_t first,
             uint64_t last) {
  constexpr uint8_t kMinAndMaxFixed = 0x0C;
  Bytes out{tag};
  append_le(out, 3 + 5 * width, 2);
  out.push_back(static_cast<uint8_t>(space));
  out.push_back(kMinAndMaxFixed);
  out.push_back(type_flags);
  append_le(out, 0, width);  // granularity
  append_le(out, first, width);
  append_le(out, last, width);
  append_le(out, 0, width);  // translation
  append_le(out, last - first + 1, width);
  return out;
}

constexpr uint8_t kTagDword = 0x87, kTagWord = 0x88, kTagQword = 0x8A;
constexpr uint8_t kReadWrite = 1;
constexpr uint8_t kEntireRange = 3;

}  // namespace

Bytes concat(std::span<const Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts)
    append(out, part);
  return out;
}

Bytes integer(uint64_t value) {
  if (value <= 1) return {static_cast<uint8_t>(value == 0 ? kZero : kOne)};
  Bytes out;
  if (value <= UINT8_MAX) {
    out.push_back(kByte);
    append_le(out, value, 1);
  } else if (value <= UINT16_MAX) {
    out.push_back(kWord);
    append_le(out, value, 2);
  } else if (value <= UINT32_MAX) {
    out.push_back(kDword);
    append_le(out, value, 4);
  } else {
    out.push_back(kQword);
    append_le(out, value, 8);
  }
  return out;
}

Bytes string(std::string_view text) {
  Bytes out{kString};
  out.insert(out.end(), text.begin(), text.end());
  out.push_back(0);
  return out;
}

Bytes eisa_id(std::string_view id) {
  assert(id.size() == 7);
  auto letter = [&](size_t i) { return static_cast<uint32_t>(id[i] - '@') & 0x1F; };
  auto digit = [&](size_t i) {
    return static_cast<uint32_t>(id[i] <= '9' ? id[i] - '0' : id[i] - 'A' + 10);
  };
  uint32_t packed = letter(0) << 26 | letter(1) << 21 | letter(2) << 16 | digit(3) << 12 |
                    digit(4) << 8 | digit(5) << 4 | digit(6);
  Bytes out{kDword};  // the packed number is big-endian
  for (unsigned shift : {24u, 16u, 8u, 0u})
    out.push_back(static_cast<uint8_t>(packed >> shift));
  return out;
}

Bytes package(std::span<const Bytes> elements) {
  assert(elements.size() <= UINT8_MAX);
  Bytes content{static_cast<uint8_t>(elements.size())};
  append(content, concat(elements));
  Bytes out{kPackage};
  append(out, with_length(content));
  return out;
}

Bytes name(std::string_view name, const Bytes& value) {
  Bytes out{kName};
  append(out, name_string(name));
  append(out, value);
  return out;
}

Bytes scope(std::string_view name, std::span<const Bytes> objects) {
  Bytes content = name_string(name);
  append(content, concat(objects));
  Bytes out{kScope};
  append(out, with_length(content));
  return out;
}

Bytes device(std::string_view name, std::span<const Bytes> objects) {
  Bytes content = name_string(name);
  append(content, concat(objects));
  Bytes out{kExtended, kExtendedDevice};
  append(out, with_length(content));
  return out;
}

Bytes resources(std::span<const Bytes> descriptors) {
  Bytes data = concat(descriptors);
  data.push_back(0x79);  // end tag,
  data.push_back(0x00);  // its checksum not used
  Bytes content = integer(data.size());
  append(content, data);
  Bytes out{kBuffer};
  append(out, with_length(content));
  return out;
}

Bytes io(uint16_t port, uint8_t length) {
  Bytes out{0x47, 0x01};  // 6.4.2.5, decodes 16 bits
  append_le(out, port, 2);
  append_le(out, port, 2);
  out.push_back(1);  // alignment
  out.push_back(length);
  return out;
}

Bytes irq(uint8_t line) {
  assert(line < 16);
  Bytes out{0x22};  // 6.4.2.1, short form
  append_le(out, 1u << line, 2);
  return out;
}

Bytes memory32(uint32_t base, uint32_t length) {
  Bytes out{0x86};  // 6.4.3.4
  append_le(out, 9, 2);
  out.push_back(kReadWrite);
  append_le(out, base, 4);
  append_le(out, length, 4);
  return out;
}

Bytes bus_window(uint16_t first, uint16_t last) {
  return window(kTagWord, 2, Space::kBus, 0, first, last);
}

Bytes io_window(ByteRange range) {
  return window(kTagWord, 2, Space::kIo, kEntireRange, range.offset, range.end() - 1);
}

Bytes memory_window32(ByteRange range) {
  return window(kTagDword, 4, Space::kMemory, kReadWrite, range.offset, range.end() - 1);
}

Bytes memory_window64(ByteRange range) {
  return window(kTagQword, 8, Space::kMemory, kReadWrite, range.offset, range.end() - 1);
}

}  // namespace calf::firmware::aml
