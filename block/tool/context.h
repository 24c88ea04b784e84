// What every subcommand is handed: the program's name, its executor, its formats, and how to talk
// to the person in front.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "block/base/result.h"
#include "block/crypto/secret_store.h"
#include "block/format_driver.h"
#include "block/io/executor.h"

namespace calf::img {

// Exit codes that more than one subcommand has.
constexpr int kExitOk = 0;
constexpr int kExitFailure = 1;

// Text on stdout and stderr. Unlike fmt::print() these do not throw when the reader has gone (main
// looks at stdout's state at the end).
void write_text(FILE* file, std::string_view text);
template <class... Args>
void put(fmt::format_string<Args...> format, Args&&... args) {
  write_text(stdout, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void put_error(fmt::format_string<Args...> format, Args&&... args) {
  write_text(stderr, fmt::format(format, std::forward<Args>(args)...));
}

class Context {
 public:
  // All outlive the context.
  Context(std::string program, Executor& used_executor, const block::FormatTable& known_formats,
          crypto::SecretStore& defined_secrets)
      : executor(used_executor),
        formats(known_formats),
        secrets(defined_secrets),
        program_(std::move(program)) {}

  Executor& executor;
  const block::FormatTable& formats;
  // What --object defined so far.
  crypto::SecretStore& secrets;

  // The base name of argv[0].
  const std::string& program() const { return program_; }
  // Called by the name of the program we stand in for: say exactly what it says, no more.
  bool exact() const { return program_.starts_with("qemu-img"); }

  // "PROG: TEXT" on stderr. Further lines of `text` are hints, printed without the prefix. What was
  // printed on stdout before comes out before. Control characters are quoted.
  void error(std::string_view text) const;
  void error(const Error& error) const;
  template <class... Args>
  void errorf(fmt::format_string<Args...> format, Args&&... args) const {
    error(fmt::format(format, std::forward<Args>(args)...));
  }
  // "PROG: warning: TEXT" on stderr.
  void warning(std::string_view text) const;
  // A line on stderr without prefix: hints, findings, messages of the engines.
  void note(std::string_view line) const;
  // error(), then where to find help. Returns the exit code of usage errors.
  int usage_error(std::string_view text) const;

 private:
  std::string program_;
};

}  // namespace calf::img
