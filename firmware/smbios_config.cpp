// -smbios type=N,key=value: which field each key means.
#include <algorithm>
#include <charconv>
#include <optional>
#include <variant>

#include "firmware/smbios.h"

namespace calf::firmware {
namespace {

struct Field {
  unsigned type;
  std::string_view key;
  std::variant<std::string*, uint16_t*, bool*> target;
};

std::vector<Field> fields_of(SmbiosConfig& c) {
  return {
      {0, "vendor", &c.bios.vendor},
      {0, "version", &c.bios.version},
      {0, "date", &c.bios.date},
      {0, "uefi", &c.bios.uefi},
      {1, "manufacturer", &c.system.manufacturer},
      {1, "product", &c.system.product},
      {1, "version", &c.system.version},
      {1, "serial", &c.system.serial},
      {1, "sku", &c.system.sku},
      {1, "family", &c.system.family},
      {2, "manufacturer", &c.board.manufacturer},
      {2, "product", &c.board.product},
      {2, "version", &c.board.version},
      {2, "serial", &c.board.serial},
      {2, "asset", &c.board.asset},
      {2, "location", &c.board.location},
      {3, "manufacturer", &c.chassis.manufacturer},
      {3, "version", &c.chassis.version},
      {3, "serial", &c.chassis.serial},
      {3, "asset", &c.chassis.asset},
      {3, "sku", &c.chassis.sku},
      {4, "sock_pfx", &c.processor.socket_prefix},
      {4, "manufacturer", &c.processor.manufacturer},
      {4, "version", &c.processor.version},
      {4, "serial", &c.processor.serial},
      {4, "asset", &c.processor.asset},
      {4, "part", &c.processor.part},
      {4, "max-speed", &c.processor.max_speed},
      {4, "current-speed", &c.processor.current_speed},
      {17, "loc_pfx", &c.memory.locator_prefix},
      {17, "bank", &c.memory.bank},
      {17, "manufacturer", &c.memory.manufacturer},
      {17, "serial", &c.memory.serial},
      {17, "asset", &c.memory.asset},
      {17, "part", &c.memory.part},
      {17, "speed", &c.memory.speed},
  };
}

template <class T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Error bad_value(unsigned type, std::string_view key, std::string_view value,
                std::string_view wanted) {
  return make_error(ErrorKind::kInvalid, "-smbios type={}: {}='{}' is not {}", type, key, value,
                    wanted);
}

Result<void> assign(const Field& field, std::string_view value) {
  if (auto text = std::get_if<std::string*>(&field.target)) {
    **text = value;
  } else if (auto number = std::get_if<uint16_t*>(&field.target)) {
    auto parsed = parse_number<uint16_t>(value);
    if (!parsed) return bad_value(field.type, field.key, value, "a number from 0 to 65535");
    **number = *parsed;
  } else {
    if (value != "on" && value != "off")
      return bad_value(field.type, field.key, value, "on or off");
    *std::get<bool*>(field.target) = value == "on";
  }
  return {};
}

// release=MAJOR.MINOR
Result<void> assign_release(SmbiosConfig::Bios& bios, std::string_view value) {
  size_t dot = value.find('.');
  auto major = parse_number<uint8_t>(value.substr(0, dot));
  auto minor = dot == value.npos ? std::nullopt : parse_number<uint8_t>(value.substr(dot + 1));
  if (!major || !minor) return bad_value(0, "release", value, "of the form MAJOR.MINOR");
  bios.major = *major;
  bios.minor = *minor;
  return {};
}

}  // namespace

Result<std::array<uint8_t, 16>> parse_uuid(std::string_view text) {
  auto refuse = [&] {
    return make_error(ErrorKind::kInvalid,
                      "'{}' is not a UUID like 550e8400-e29b-41d4-a716-446655440000", text);
  };
  std::array<uint8_t, 16> bytes{};
  size_t at = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) {
      if (at >= text.size() || text[at++] != '-') return refuse();
    }
    if (text.size() - at < 2) return refuse();
    const char* first = text.data() + at;
    auto [end, status] = std::from_chars(first, first + 2, bytes[i], 16);
    if (status != std::errc{} || end != first + 2) return refuse();
    at += 2;
  }
  if (at != text.size()) return refuse();
  return bytes;
}

Result<void> SmbiosConfig::set(unsigned type, std::string_view key, std::string_view value) {
  if (value.find('\0') != value.npos) return bad_value(type, key, value, "free of zero bytes");
  if (type == 0 && key == "release") return assign_release(bios, value);
  if (type == 1 && key == "uuid") {
    TRY(system.uuid, parse_uuid(value));
    return {};
  }
  if (type == 11 && key == "value") {
    oem_strings.emplace_back(value);
    return {};
  }
  std::vector<Field> fields = fields_of(*this);
  auto same_type = [&](const Field& field) { return field.type == type; };
  auto field =
      std::ranges::find_if(fields, [&](const Field& f) { return f.type == type && f.key == key; });
  if (field == fields.end()) {
    if (type == 11 || std::ranges::any_of(fields, same_type)) {
      return make_error(ErrorKind::kUnsupported, "-smbios type={} has no '{}'", type, key);
    }
    return make_error(ErrorKind::kUnsupported,
                      "-smbios type={}: only types 0, 1, 2, 3, 4, 11 and 17 can be set", type);
  }
  if (type == 2) board.present = true;
  return assign(*field, value);
}

}  // namespace calf::firmware
