#include "block/vmdk/descriptor.h"

#include <charconv>

namespace calf::vmdk {
namespace {

constexpr uint64_t kMaxSectors = uint64_t{1} << 54;  // 8 EiB

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::string_view unquoted(std::string_view text) {
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') {
    return text.substr(1, text.size() - 2);
  }
  return text;
}

template <class T>
std::optional<T> number(std::string_view text, int base) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// The next word, or quoted text, off the front of `line`; with its quotes.
std::string_view take_word(std::string_view* line) {
  *line = trim(*line);
  size_t end = line->find_first_of(" \t");
  if (!line->empty() && line->front() == '"') {
    size_t quote = line->find('"', 1);
    end = quote == std::string_view::npos ? quote : quote + 1;
  }
  std::string_view word = line->substr(0, end);
  line->remove_prefix(word.size());
  return word;
}

Error bad_line(std::string_view line) {
  return make_error(ErrorKind::kCorrupt, "Invalid extent line: {}", line.substr(0, 200));
}

// A plain file beside the descriptor. Whoever could name others here would read the host's files
// through the image.
Result<void> check_name(std::string_view name) {
  bool bad = name.empty() || name == "." || name == ".." || name.size() > kMaxName ||
             name.find('/') != name.npos || name.find('\0') != name.npos;
  if (!bad) return {};
  return make_error(ErrorKind::kUnsupported,
                    "The extent '{}' is not a file in the folder of its descriptor, and is not "
                    "followed",
                    name.substr(0, 200));
}

Result<ExtentLine> parse_extent(std::string_view whole) {
  std::string_view line = whole;
  std::string_view access = take_word(&line);
  ExtentLine extent;
  std::optional<uint64_t> sectors = number<uint64_t>(take_word(&line), 10);
  extent.kind_text = std::string(take_word(&line));
  if (!sectors || *sectors == 0 || *sectors > kMaxSectors) return bad_line(whole);
  extent.sectors = *sectors;
  if (access == "NOACCESS") {
    return make_error(ErrorKind::kUnsupported, "An extent without access: {}",
                      whole.substr(0, 200));
  }
  if (extent.kind_text == "ZERO") {
    extent.kind = ExtentKind::kZero;
    return extent;
  }
  extent.name = std::string(unquoted(take_word(&line)));
  if (extent.kind_text == "SPARSE") {
    extent.kind = ExtentKind::kSparse;
  } else if (extent.kind_text == "FLAT" || extent.kind_text == "VMFS") {
    std::string_view first = take_word(&line);
    std::optional<uint64_t> offset = first.empty() ? 0 : number<uint64_t>(first, 10);
    if (!offset || *offset > kMaxSectors) return bad_line(whole);
    extent.first_sector = *offset;
  } else {
    return make_error(ErrorKind::kUnsupported, "Unsupported extent type '{}'",
                      extent.kind_text.substr(0, 100));
  }
  return extent;
}

bool is_monolithic(std::string_view create_type) {
  return create_type == "monolithicSparse" || create_type == "streamOptimized";
}

Result<void> take_setting(std::string_view key, std::string_view value, Descriptor* out) {
  if (key == "version") {
    std::optional<uint32_t> version = number<uint32_t>(value, 10);
    if (!version || *version < 1 || *version > 3) {
      return make_error(ErrorKind::kUnsupported, "Unsupported descriptor version '{}'",
                        value.substr(0, 100));
    }
  } else if (key == "CID" || key == "parentCID") {
    std::optional<uint32_t> id = number<uint32_t>(value, 16);
    if (!id) return make_error(ErrorKind::kCorrupt, "Invalid {} in the descriptor", key);
    (key == "CID" ? out->cid : out->parent_cid) = *id;
  } else if (key == "createType") {
    out->create_type = std::string(unquoted(value));
  } else if (key == "parentFileNameHint") {
    out->parent_hint = std::string(unquoted(value));
  }
  return {};
}

}  // namespace

Result<Descriptor> parse_descriptor(std::string_view text) {
  // The room for it is filled up with NULs.
  text = text.substr(0, text.find('\0'));
  Descriptor descriptor;
  uint64_t total = 0;
  while (!text.empty()) {
    size_t end = text.find('\n');
    std::string_view line = trim(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty() || line.front() == '#' || line.starts_with("ddb.")) continue;
    if (line.starts_with("RW ") || line.starts_with("RDONLY ") || line.starts_with("NOACCESS ")) {
      if (descriptor.extents.size() >= kMaxExtents) {
        return make_error(ErrorKind::kUnsupported, "More than {} extents", kMaxExtents);
      }
      TRY(ExtentLine extent, parse_extent(line));
      total += extent.sectors;
      if (total > kMaxSectors) return Error(ErrorKind::kCorrupt, "The extents are too long");
      descriptor.extents.push_back(std::move(extent));
      continue;
    }
    size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    TRY_VOID(
        take_setting(trim(line.substr(0, equals)), trim(line.substr(equals + 1)), &descriptor));
  }
  if (descriptor.create_type.empty()) {
    return Error(ErrorKind::kCorrupt, "invalid VMDK image descriptor");
  }
  if (!is_monolithic(descriptor.create_type)) {
    for (const ExtentLine& extent : descriptor.extents) {
      if (extent.kind != ExtentKind::kZero) TRY_VOID(check_name(extent.name));
    }
  }
  return descriptor;
}

}  // namespace calf::vmdk
