// Thousands of damaged images through the subcommands: none may crash, hang or eat memory.
//
// usage: mutation_run [--images N] [--first N] [--jobs N] [--keep FOLDER]
//
// Image number N is the same on every machine; `--first N --images 1 --keep FOLDER` makes it again
// and leaves it, with the command that failed on it, in FOLDER. Each command runs in a process of
// its own that may use 10 s of processor time (30 s in all) and 512 MiB.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "block/formats/known_formats.h"
#include "block/tool/commands.h"
#include "tests/hostile/mutation/mutator.h"
#include "tests/hostile/mutation/seeds.h"

namespace calf::test {
namespace {

constexpr rlim_t kCpuSeconds = 10;
constexpr unsigned kWallSeconds = 30;
constexpr rlim_t kMemory = rlim_t{512} << 20;
constexpr rlim_t kLargestFile = rlim_t{1} << 30;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLimitMemory = false;  // the shadow is larger
#elif defined(__has_feature)
constexpr bool kLimitMemory = !__has_feature(address_sanitizer);
#else
constexpr bool kLimitMemory = true;
#endif

void limit(int resource, rlim_t value) {
  rlimit both{value, value};
  setrlimit(resource, &both);
}

// No subcommands: what a failure looks like.
constexpr const char* kCrash = "!crash";
constexpr const char* kEat = "!eat";

// The child: never returns.
[[noreturn]] void run_here(const Words& words, bool limited) {
  int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd <= 2; ++fd) {
    // A sanitizer's last words are to be seen.
    if (fd != 2 || kLimitMemory) dup2(null, fd);
  }
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  limit(RLIMIT_CORE, 0);
  if (limited) {
    limit(RLIMIT_CPU, kCpuSeconds);
    limit(RLIMIT_FSIZE, kLargestFile);
    if (kLimitMemory) limit(RLIMIT_AS, kMemory);
    alarm(kWallSeconds);
  }
  if (words[0] == kCrash) std::abort();
  if (words[0] == kEat) {
    std::vector<uint8_t> meal(2 * kMemory, 1);
    asm volatile("" : : "r"(meal.data()) : "memory");  // or clang sees that nobody needs it
    _exit(meal.back() == 1 ? 0 : 1);
  }
  auto executor = Executor::create();
  if (!executor.ok()) _exit(125);
  block::FormatTable formats = block::known_formats();
  crypto::SecretStore secrets;
  img::Context context("calf-img", **executor, formats, secrets);
  std::vector<std::string> copy = words;
  std::vector<char*> argv;
  for (std::string& word : copy)
    argv.push_back(word.data());
  argv.push_back(nullptr);
  int code = 127;
  for (const img::Command& command : img::commands()) {
    if (words[0] != command.name || command.run == nullptr) continue;
    code = command.run(context, static_cast<int>(words.size()), argv.data());
  }
  _exit(code);
}

// How the command ended: the status of waitpid().
int run_command(const Words& words, bool limited) {
  const pid_t child = fork();
  if (child == 0) run_here(words, limited);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

int exit_code(const Words& words) {
  int status = run_command(words, false);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

// Null if it ended as a program should.
std::string failure(int status) {
  if (WIFEXITED(status)) {
    const int code = WEXITSTATUS(status);
    return code <= 4 || code == 63 || code == 125 || code == 127
               ? ""
               : fmt::format("exit code {}", code);
  }
  const int signal = WTERMSIG(status);
  if (signal == SIGALRM || signal == SIGXCPU || signal == SIGKILL) return "hangs";
  return strsignal(signal);
}

bool failures_are_seen() {
  return !failure(run_command({kCrash}, true)).empty() &&
         (!kLimitMemory || !failure(run_command({kEat}, true)).empty());
}

// Before the image's words, and after.
struct Line {
  Words before;
  Words after;
};

const std::vector<Line>& lines() {
  static const std::vector<Line> kLines = {
      {{"info", "--output=json"}, {}},
      {{"check"}, {}},
      {{"check", "-r", "leaks"}, {}},
      {{"check", "-r", "all"}, {}},
      {{"map", "--output=json"}, {}},
      {{"measure", "-O", "qcow2"}, {}},
      {{"convert", "-O", "raw"}, {"OUT"}},
      {{"convert", "-O", "qcow2", "-c"}, {"OUT"}},
      {{"convert", "-O", "qcow2", "-l", "first"}, {"OUT"}},
      {{"compare"}, {"SEED"}},
      {{"snapshot", "-l"}, {}},
      {{"snapshot", "-c", "new"}, {}},
      {{"snapshot", "-a", "first"}, {}},
      {{"snapshot", "-d", "first"}, {}},
      {{"resize"}, {"+3M"}},
      {{"resize", "--shrink"}, {"-200k"}},
      {{"amend", "-o", "compat=0.10"}, {}},
      {{"amend", "-o", "compat=1.1,lazy_refcounts=on,refcount_bits=64"}, {}},
      {{"amend", "-o", "refcount_bits=1"}, {}},
      {{"bitmap", "--add"}, {"b1"}},
      {{"bitmap", "--clear"}, {"b0"}},
      {{"bitmap", "--remove"}, {"b0"}},
      {{"bitmap", "--merge", "b0", "--add"}, {"b2"}},
      {{"rebase", "-u", "-b", ""}, {}},
      {{"rebase", "-b", ""}, {}},
      {{"commit"}, {}},
      {{"bench", "-w", "-q", "-c", "20", "-s", "4096", "-S", "20480"}, {}},
      {{"audit", "--json"}, {}},
  };
  return kLines;
}

struct Options {
  uint64_t images = 300;
  uint64_t first = 0;
  unsigned jobs = 1;
  std::string keep;
};

class Run {
 public:
  Run(std::string folder, Options options) : folder_(std::move(folder)), options_(options) {
    seeds_ = make_seeds(folder_, exit_code);
    for (const Seed& seed : seeds_) {
      std::ifstream file(seed.path, std::ios::binary);
      mutators_.emplace_back(Bytes((std::istreambuf_iterator<char>(file)), {}));
    }
  }

  bool has_seeds() const { return !seeds_.empty(); }
  size_t seeds() const { return seeds_.size(); }
  // The number of failures of one worker.
  uint64_t work(unsigned worker);

 private:
  uint64_t one_image(uint64_t number, const std::string& here);
  void report(uint64_t number, const Words& words, const std::string& what,
              const std::string& failure, const Bytes& image);

  std::string folder_;
  Options options_;
  std::vector<Seed> seeds_;
  std::vector<Mutator> mutators_;
};

void write_file(const std::string& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

void Run::report(uint64_t number, const Words& words, const std::string& what,
                 const std::string& failure, const Bytes& image) {
  std::string line;
  for (const std::string& word : words)
    line += " " + (word.empty() ? "''" : word);
  fmt::print("image {} ({}):{}\n   calf-img{}: {}\n", number, seeds_[number % seeds_.size()].name,
             what, line, failure);
  std::fflush(stdout);
  if (!options_.keep.empty()) {
    write_file(fmt::format("{}/{}-{}", options_.keep, number, words[0]), image);
  }
}

uint64_t Run::one_image(uint64_t number, const std::string& here) {
  const Seed& seed = seeds_[number % seeds_.size()];
  std::string what;
  const Bytes image = mutators_[number % seeds_.size()].make(number, &what);
  std::mt19937_64 random(number + 1);
  uint64_t failures = 0;
  for (size_t i = 0; i < lines().size(); ++i) {
    // The cheap ones that everybody runs first always, of the rest a third.
    if (i >= 5 && random() % 3 != 0) continue;
    const Line& line = lines()[i];
    const std::string path = here + "/image";
    write_file(path, image);
    Words words = line.before;
    for (const std::string& word : seed.words(path))
      words.push_back(word);
    for (const std::string& word : line.after)
      words.push_back(word == "OUT" ? here + "/out" : word == "SEED" ? seed.path : word);
    const std::string bad = failure(run_command(words, true));
    std::filesystem::remove(here + "/out");
    if (bad.empty()) continue;
    ++failures;
    report(number, words, what, bad, image);
  }
  return failures;
}

uint64_t Run::work(unsigned worker) {
  const std::string here = fmt::format("{}/worker{}", folder_, worker);
  std::filesystem::create_directory(here);
  uint64_t failures = 0;
  for (uint64_t i = worker; i < options_.images; i += options_.jobs)
    failures += one_image(options_.first + i, here);
  return failures;
}

uint64_t number_of(const char* text) {
  return std::strtoull(text, nullptr, 0);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string word = argv[i];
    if (word == "--images") options.images = number_of(argv[i + 1]);
    if (word == "--first") options.first = number_of(argv[i + 1]);
    if (word == "--jobs") options.jobs = static_cast<unsigned>(number_of(argv[i + 1]));
    if (word == "--keep") options.keep = argv[i + 1];
  }
  return options;
}

int run(const Options& options, const std::string& folder) {
  const auto begin = std::chrono::steady_clock::now();
  if (!failures_are_seen()) {
    fmt::print("a crash or an allocation beyond the limit would go unnoticed\n");
    return 1;
  }
  Run all(folder, options);
  if (!all.has_seeds()) {
    fmt::print("no seed could be made\n");
    return 1;
  }
  std::fflush(stdout);
  std::vector<pid_t> workers;
  for (unsigned i = 0; i < options.jobs; ++i) {
    const pid_t worker = fork();
    if (worker == 0) _exit(all.work(i) == 0 ? 0 : 1);
    workers.push_back(worker);
  }
  bool clean = true;
  for (pid_t worker : workers) {
    int status = 0;
    waitpid(worker, &status, 0);
    clean &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin);
  fmt::print("images {} to {} of {} seeds: {}, {} s\n", options.first,
             options.first + options.images - 1, all.seeds(),
             clean ? "no crash, no hang" : "FAILURES above", seconds.count());
  return clean ? 0 : 1;
}

}  // namespace
}  // namespace calf::test

// A finding of a sanitizer is not to look like an error message's exit code.
extern "C" const char* __asan_default_options() {
  return "exitcode=99";
}
extern "C" const char* __ubsan_default_options() {
  return "exitcode=99";
}

int main(int argc, char** argv) {
  const calf::test::Options options = calf::test::parse(argc, argv);
  std::string folder = std::filesystem::temp_directory_path() / "calf-mutation-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return 1;
  int code = calf::test::run(options, folder);
  std::filesystem::remove_all(folder);
  return code;
}
