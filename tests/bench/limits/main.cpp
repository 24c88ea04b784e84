#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include "tests/bench/limits/limits.h"

namespace {

using namespace calf::bench;
using Words = std::span<char*>;

uint64_t number(const char* word) {
  return std::strtoull(word, nullptr, 10);
}

int failed(int error) {
  std::fprintf(stderr, "bench_limits: %s\n", std::strerror(error));
  return 1;
}

int done(int error) {
  return error == 0 ? 0 : failed(error);
}

// For those that make something ready before: the time that counts.
int timed(double seconds) {
  if (seconds < 0) return failed(static_cast<int>(-seconds));
  std::printf("Run completed in %.6f seconds.\n", seconds);
  return 0;
}

bool last_is(Words words, size_t at, std::string_view text) {
  return words.size() > at && words[at] == text;
}

std::optional<CodecKind> codec(const char* word) {
  if (word == std::string_view("zlib")) return CodecKind::kZlib;
  if (word == std::string_view("zstd")) return CodecKind::kZstd;
  return std::nullopt;
}

int io(IoLimit limit) {
  if (limit.count == 0 || limit.depth == 0 || limit.bytes == 0 || limit.every < limit.bytes)
    return failed(EINVAL);
  return timed(run_io_limit(limit));
}

IoLimit io_words(IoLimit::Work work, Words w) {
  IoLimit limit{};
  limit.work = work;
  limit.file = w[0];
  limit.count = number(w[1]);
  limit.depth = static_cast<unsigned>(number(w[2]));
  limit.direct = last_is(w, 3, "direct");
  return limit;
}

int allocate(Words w) {
  IoLimit limit = io_words(IoLimit::Work::kAllocate, w);
  limit.bytes = number(w[3]);
  limit.every = number(w[4]);
  limit.base = std::string_view(w[5]) == "-" ? nullptr : w[5];
  limit.direct = last_is(w, 6, "direct");
  return io(limit);
}

int pack(Words w) {
  const auto kind = codec(w[0]);
  return kind ? timed(run_pack_limit(*kind, w[1], w[2])) : failed(EINVAL);
}

int unpack(Words w) {
  const auto kind = codec(w[0]);
  return kind ? timed(run_unpack_limit(*kind, w[1], w.size() > 2 ? w[2] : nullptr))
              : failed(EINVAL);
}

int measured(Words w) {
  const int status = run_measured(w[0], &w[1]);
  return status < 0 ? failed(-status) : status;
}

struct Command {
  std::string_view name;
  size_t words;  // at least
  const char* usage;
  int (*run)(Words);
};

constexpr std::array kCommands = {
    Command{"kvm", 0, "[SAY [stay]]",
            [](Words w) {
              return done(run_kvm_limit(w.empty() ? nullptr : w[0], last_is(w, 1, "stay")));
            }},
    Command{"kvm-answers", 2, "FILE COUNT [direct]",
            [](Words w) {
              return timed(run_kvm_answers_limit(w[0], number(w[1]), last_is(w, 2, "direct")));
            }},
    Command{"read", 3, "FILE COUNT DEPTH [direct]",
            [](Words w) { return io(io_words(IoLimit::Work::kRead, w)); }},
    Command{"write", 3, "FILE COUNT DEPTH [direct]",
            [](Words w) { return io(io_words(IoLimit::Work::kWrite, w)); }},
    Command{"allocate", 6, "FILE COUNT DEPTH BYTES EVERY BASE|- [direct]", allocate},
    Command{"copy", 2, "FROM TO", [](Words w) { return done(run_copy_limit(w[0], w[1])); }},
    Command{"compare", 2, "FILE FILE", [](Words w) { return done(run_compare_limit(w[0], w[1])); }},
    Command{"scan", 1, "FILE", [](Words w) { return done(run_scan_limit(w[0])); }},
    Command{"look", 1, "FILE", [](Words w) { return done(run_look_limit(w[0])); }},
    Command{"store", 2, "FILE BYTES",
            [](Words w) { return done(run_store_limit(w[0], number(w[1]))); }},
    Command{"pack", 3, "zlib|zstd FROM TO", pack},
    Command{"unpack", 2, "zlib|zstd FROM [TO]", unpack},
    Command{"inflate", 3, "FILE CLUSTERS THREADS [random]",
            [](Words w) {
              return timed(
                  run_inflate_limit({w[0], number(w[1]), static_cast<unsigned>(number(w[2])),
                                     last_is(w, 3, "random")}));
            }},
    Command{"gunzip", 1, "FILE", [](Words w) { return timed(run_gunzip_limit(w[0])); }},
    Command{"touch", 1, "MIB", [](Words w) { return done(touch_memory(number(w[0]) << 20)); }},
    Command{"run", 2, "REPORT COMMAND...", measured},
};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  const Words words(argv + std::min(argc, 2), argv + argc);
  const auto command = std::ranges::find(kCommands, name, &Command::name);
  if (command != kCommands.end() && words.size() >= command->words) return command->run(words);
  std::fputs("usage:\n", stderr);
  for (const Command& known : kCommands) {
    std::fprintf(stderr, "  bench_limits %s %s\n", known.name.data(), known.usage);
  }
  return 2;
}
