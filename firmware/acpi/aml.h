// A small encoder of ACPI Machine Language, for objects that are all known when they are written:
// names, numbers, strings, packages, devices, resource descriptors. No methods: byte code is slow
// in a guest, and a static object says the same.
//
//   aml::device("RTC_", {aml::name("_HID", aml::eisa_id("PNP0B00")), …})
//
// ACPI 6.5: chapter 20 (AML), 6.4 (resource descriptors).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "block/base/byte_range.h"

namespace calf::firmware::aml {

using Bytes = std::vector<uint8_t>;

Bytes concat(std::span<const Bytes> parts);

// Data objects (20.2.3), in the shortest form.
Bytes integer(uint64_t value);
Bytes string(std::string_view text);  // ASCII without NUL
// "PNP0A03": three capitals and four hexadecimal digits, packed into a number (19.3.4).
Bytes eisa_id(std::string_view id);
// At most 255 elements.
Bytes package(std::span<const Bytes> elements);
inline Bytes package(std::initializer_list<Bytes> elements) {
  return package(std::span(elements.begin(), elements.size()));
}

// Named objects (20.2.5). A name is four characters, "RTC_".
Bytes name(std::string_view name, const Bytes& value);
Bytes scope(std::string_view name, std::span<const Bytes> objects);
Bytes device(std::string_view name, std::span<const Bytes> objects);
inline Bytes device(std::string_view name, std::initializer_list<Bytes> objects) {
  return device(name, std::span(objects.begin(), objects.size()));
}

// The value of a _CRS: a buffer of descriptors and the end tag.
Bytes resources(std::span<const Bytes> descriptors);
inline Bytes resources(std::initializer_list<Bytes> descriptors) {
  return resources(std::span(descriptors.begin(), descriptors.size()));
}
// What a device decodes itself.
Bytes io(uint16_t port, uint8_t length);
Bytes irq(uint8_t line);  // edge, active high, not shared
Bytes memory32(uint32_t base, uint32_t length);
// What a bridge passes on: windows of which its devices get their addresses.
Bytes bus_window(uint16_t first, uint16_t last);
Bytes io_window(ByteRange range);        // below 64 KiB
Bytes memory_window32(ByteRange range);  // below 4 GiB
Bytes memory_window64(ByteRange range);

}  // namespace calf::firmware::aml
