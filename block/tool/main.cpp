// calf-img: makes, converts, checks and shows disk images. A drop-in for qemu-img 7.2 (called by
// that name it keeps to the letter of its output).
//
// Global options end at the first word that is none; the rest is the subcommand's.

#include <unistd.h>
#include <charconv>

#include <csignal>
#include <cstdio>
#include <optional>
#include <string_view>

#include "block/formats/known_formats.h"
#include "block/tool/commands.h"
#include "block/tool/help.h"

namespace {

using namespace calf;
using namespace calf::img;

constexpr unsigned kMaxThreads = 256;

std::string base_name(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

int run_command(const Context& context, int argc, char** argv) {
  std::string_view word = argv[0];
  for (const Command& command : commands()) {
    if (word != command.name) continue;
    if (command.run != nullptr) return command.run(context, argc, argv);
    context.errorf("{} is not supported yet (qemu-img has it)", word);
    return kExitFailure;
  }
  return context.usage_error(fmt::format("Command not found: {}", word));
}

bool is_prefix_of(std::string_view word, std::string_view option) {
  return word.size() > 2 && option.starts_with(word);
}

int run(const Context& context, int argc, char** argv) {
  if (argc < 2) return context.usage_error("Not enough arguments");
  int i = 1;
  for (; i < argc; ++i) {
    std::string_view word = argv[i];
    if (word == "-h" || is_prefix_of(word, "--help")) {
      print_help(context);
      return kExitOk;
    }
    if (word == "-V" || is_prefix_of(word, "--version")) {
      print_version(context);
      return kExitOk;
    }
    if (word == "-T" || is_prefix_of(word, "--trace")) {
      if (++i == argc) {
        return context.usage_error(fmt::format("missing argument for option '{}'", word));
      }
      continue;
    }
    if (!context.exact() && word == "--threads" && i + 1 < argc) {
      ++i;
      continue;
    }
    if (!context.exact() && word.starts_with("--threads=")) continue;
    if (word.starts_with("-T") || word.starts_with("--trace=")) continue;
    if (word == "--") {
      ++i;
      break;
    }
    if (word.starts_with("-")) {
      return context.usage_error(fmt::format("unrecognized option '{}'", word));
    }
    break;
  }
  if (i >= argc) return kExitOk;
  return run_command(context, argc - i, argv + i);
}

// The value of --threads, wherever it stands: the threads exist before the subcommand reads its
// options. 0: as many as there are processors. Nothing if it makes no sense.
std::optional<unsigned> threads_option(int argc, char** argv) {
  constexpr std::string_view kName = "--threads";
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    if (word == "--") break;
    if (!word.starts_with(kName)) continue;
    std::string_view value = word.substr(kName.size());
    if (value.empty() && i + 1 < argc) {
      value = argv[i + 1];
    } else if (value.starts_with('=')) {
      value.remove_prefix(1);
    } else {
      continue;  // an error that the subcommand reports
    }
    unsigned threads = 0;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), threads);
    bool good = error == std::errc() && end == value.data() + value.size();
    if (!good || threads < 1 || threads > kMaxThreads) return std::nullopt;
    return threads;
  }
  return 0;
}

int main_with(const std::string& program, unsigned threads, int argc, char** argv) {
  OffloadPool pool(threads);
  Executor::Options options;
  options.pool = &pool;
  options.alone = true;
  auto executor = Executor::create(options);
  if (!executor.ok()) {
    put_error("{}: {}\n", program, executor.error().message());
    return kExitFailure;
  }
  block::FormatTable formats = block::known_formats();
  crypto::SecretStore secrets;
  Context context(program, **executor, formats, secrets);
  return run(context, argc, argv);
}

}  // namespace

int main(int argc, char** argv) {
  // Output may be long (map, check).
  constexpr size_t kOutputBuffer = 64 << 10;
  std::setvbuf(stdout, nullptr, ::isatty(STDOUT_FILENO) != 0 ? _IOLBF : _IOFBF, kOutputBuffer);
  // A reader that goes away is an error of the write, not our end.
  std::signal(SIGPIPE, SIG_IGN);
  std::string program = base_name(argc > 0 ? argv[0] : "calf-img");
  std::optional<unsigned> threads = 0;
  if (!program.starts_with("qemu-img")) threads = threads_option(argc, argv);
  if (!threads) {
    put_error("{}: --threads takes a number from 1 to {}\n", program, kMaxThreads);
    return kExitFailure;
  }
  int code = main_with(program, *threads, argc, argv);
  bool lost = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  if (lost && code == kExitOk) {
    put_error("{}: could not write the output\n", program);
    return kExitFailure;
  }
  return code;
}
