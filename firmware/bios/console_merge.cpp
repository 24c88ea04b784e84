#include "firmware/bios/console_merge.h"

#include <utility>

namespace calf::firmware {
namespace {

constexpr size_t kRecent = 1024;
constexpr char kEscape = 0x1B;

bool is_printable(uint8_t byte) {
  return byte > ' ' && byte < 0x7F;
}

// What of `text` a person reads: no escape sequences, no blanks (both sources place text by blanks
// or by movements, as they like).
std::string readable(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == kEscape) {
      ++i;  // '['
      while (i + 1 < text.size() && static_cast<uint8_t>(text[i + 1]) < 0x40)
        ++i;
      ++i;  // the final character
      continue;
    }
    if (is_printable(static_cast<uint8_t>(text[i]))) out += text[i];
  }
  return out;
}

}  // namespace

void ConsoleMerge::reset() {
  MutexLock lock(mutex_);
  mirrored_ = false;
  held_.clear();
  recent_.clear();
}

void ConsoleMerge::print(std::span<const uint8_t> text) {
  std::string now;
  {
    MutexLock lock(mutex_);
    if (held_.empty()) held_since_ = clock_.monotonic();
    held_.append(reinterpret_cast<const char*>(text.data()), text.size());
    now = take_if_due(!mirrored_ || held_.size() > kScreenful);
  }
  emit(now);
}

void ConsoleMerge::note_serial(uint8_t byte) {
  MutexLock lock(mutex_);
  if (!is_printable(byte)) return;
  mirrored_ = true;
  held_.clear();
  recent_ += static_cast<char>(byte);
  if (recent_.size() > 2 * kRecent) recent_.erase(0, kRecent);
}

void ConsoleMerge::settle() {
  std::string now;
  {
    MutexLock lock(mutex_);
    now = take_if_due(false);
  }
  emit(now);
}

std::string ConsoleMerge::take_if_due(bool now) {
  if (held_.empty()) return {};
  if (!now && clock_.monotonic() - held_since_ < kPatience) return {};
  std::string text = std::exchange(held_, {});
  if (!mirrored_) return text;
  // The serial line may have had it first.
  std::string words = readable(text);
  if (recent_.find(words) != std::string::npos) return {};
  mirrored_ = false;
  return text;
}

void ConsoleMerge::emit(const std::string& text) {
  if (!text.empty()) print_({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

}  // namespace calf::firmware
