#include "block/tool/context.h"

#include <cstdio>

#include "block/base/log.h"

namespace calf::img {
namespace {

// All of `text` in one piece, so that lines of several processes do not mix.
void to_stderr(const std::string& text) {
  std::fflush(stdout);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

std::string quoted_lines(std::string_view text) {
  std::string out;
  while (true) {
    size_t end = text.find('\n');
    out += quote_for_terminal(text.substr(0, end));
    out += '\n';
    if (end == std::string_view::npos) return out;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

void write_text(FILE* file, std::string_view text) {
  // A failure stays in the stream's error flag.
  [[maybe_unused]] size_t n = std::fwrite(text.data(), 1, text.size(), file);
}

void Context::error(std::string_view text) const {
  to_stderr(program_ + ": " + quoted_lines(text));
}

void Context::error(const Error& error) const {
  std::string_view text = error.message();
  // The third line of a lock error names the holder, which qemu-img does not.
  if (exact() && error.kind() == ErrorKind::kLocked) {
    size_t first = text.find('\n');
    size_t second = first == std::string_view::npos ? first : text.find('\n', first + 1);
    text = text.substr(0, second);
  }
  this->error(text);
}

void Context::warning(std::string_view text) const {
  to_stderr(program_ + ": warning: " + quoted_lines(text));
}

void Context::note(std::string_view line) const {
  to_stderr(quoted_lines(line));
}

int Context::usage_error(std::string_view text) const {
  error(text);
  to_stderr(fmt::format("Try '{} --help' for more information\n", program_));
  return kExitFailure;
}

}  // namespace calf::img
