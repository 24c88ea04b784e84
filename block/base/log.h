// Messages to the person who runs the program: one line each, on stderr, prefixed by the program's
// name.
//
// A Log is made in main and handed down. Guests and images can cause messages, so text that comes
// from them is quoted (no terminal escapes get through) and repeated messages are limited by
// RateLimit.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

namespace calf {

enum class LogLevel : uint8_t { kError, kWarning, kInfo, kDebug };

class Log {
 public:
  using Writer = void (*)(void* context, std::string_view line);

  // `program` is the prefix; messages above `level` are dropped.
  explicit Log(std::string program, LogLevel level = LogLevel::kWarning)
      : program_(std::move(program)), level_(level) {}
  // For tests: lines (with newline) go to `writer` instead of stderr.
  Log(std::string program, LogLevel level, Writer writer, void* context)
      : program_(std::move(program)), level_(level), writer_(writer), context_(context) {}

  template <class... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) {
    write(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void warning(fmt::format_string<Args...> format, Args&&... args) {
    write(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) {
    if (level_ >= LogLevel::kInfo) {
      write(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
    }
  }
  template <class... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) {
    if (level_ >= LogLevel::kDebug) {
      write(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
    }
  }

  // Thread-safe. Control characters in `text` are written as \xNN.
  void write(LogLevel level, std::string_view text);

 private:
  std::string program_;
  LogLevel level_;
  Writer writer_ = nullptr;
  void* context_ = nullptr;
  std::mutex mutex_;
};

// At most `burst` messages in any window; the owner asks allow() before each message that a guest
// can provoke.
class RateLimit {
 public:
  explicit RateLimit(unsigned burst = 10,
                     std::chrono::steady_clock::duration window = std::chrono::seconds(5))
      : burst_(burst), window_(window) {}
  bool allow();

 private:
  std::mutex mutex_;
  unsigned burst_;
  std::chrono::steady_clock::duration window_;
  std::chrono::steady_clock::time_point start_{};
  unsigned used_ = 0;
};

// `text` with control characters, quotes' backslashes and bytes above 0x7e that are not valid UTF-8
// written as \xNN.
std::string quote_for_terminal(std::string_view text);
// `text` as one word of a command that the reader may paste into a shell: 'a b', 'it'\''s'; with
// control characters $'a\x0ab' (bash).
std::string quote_for_shell(std::string_view text);

}  // namespace calf
