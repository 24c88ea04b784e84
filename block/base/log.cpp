#include "block/base/log.h"

#include <algorithm>
#include <cstdio>

namespace calf {
namespace {

// Length of the valid UTF-8 sequence at the start of `text`, 0 if there is none. C1 controls
// (U+0080–U+009F) count as invalid: terminals act on them.
size_t utf8_length(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  uint8_t first = byte(0);
  size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  uint32_t code = first & (0x7f >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return overlong || surrogate || code < 0xa0 || code > 0x10ffff ? 0 : length;
}

}  // namespace

std::string quote_for_terminal(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    uint8_t c = static_cast<uint8_t>(text[i]);
    size_t length = c >= 0x80 ? utf8_length(text.substr(i)) : 1;
    if (c < 0x20 || c == 0x7f || length == 0) {
      out += fmt::format("\\x{:02x}", c);
      ++i;
    } else {
      out += text.substr(i, length);
      i += length;
    }
  }
  return out;
}

std::string quote_for_shell(std::string_view text) {
  auto is_control = [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7f; };
  const bool controls = std::any_of(text.begin(), text.end(), is_control);
  std::string out = controls ? "$'" : "'";
  for (char c : text) {
    if (is_control(c)) {
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
    } else if (c == '\'') {
      out += controls ? "\\'" : "'\\''";
    } else if (c == '\\' && controls) {
      out += "\\\\";
    } else {
      out += c;
    }
  }
  return out + "'";
}

void Log::write(LogLevel level, std::string_view text) {
  if (level > level_) return;
  std::string line = program_ + ": ";
  if (level == LogLevel::kWarning) line += "warning: ";
  // Lines of a message are its maker's; everything else that is not printable is quoted.
  while (true) {
    size_t newline = text.find('\n');
    line += quote_for_terminal(text.substr(0, newline));
    line += '\n';
    if (newline == std::string_view::npos) break;
    text.remove_prefix(newline + 1);
  }
  std::lock_guard lock(mutex_);
  if (writer_ != nullptr) {
    writer_(context_, line);
  } else {
    std::fwrite(line.data(), 1, line.size(), stderr);
    std::fflush(stderr);
  }
}

bool RateLimit::allow() {
  std::lock_guard lock(mutex_);
  auto now = std::chrono::steady_clock::now();
  if (now - start_ > window_) {
    start_ = now;
    used_ = 0;
  }
  return used_++ < burst_;
}

}  // namespace calf
