#include "block/lock_holders.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>

namespace calf::block {
namespace {

// Names in a directory that are numbers.
std::vector<long> numbers_in(const std::string& folder) {
  std::vector<long> numbers;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(folder.c_str()), ::closedir);
  if (!dir) return numbers;
  while (const dirent* entry = ::readdir(dir.get())) {
    std::string_view name = entry->d_name;
    long number = 0;
    auto [end, error] = std::from_chars(name.begin(), name.end(), number);
    if (error == std::errc() && end == name.end()) numbers.push_back(number);
  }
  return numbers;
}

// Does the fdinfo file show a lock that covers `byte`? A line is
//   lock:  1: OFDLCK ADVISORY  READ -1 fe:00:10953126 100 101
bool shows_lock(const std::string& fdinfo, off_t byte) {
  std::ifstream in(fdinfo);
  std::string line;
  while (std::getline(in, line)) {
    if (!line.starts_with("lock:")) continue;
    std::istringstream words(line.substr(5));
    std::string number, type, mode, access, pid, inode, first, last;
    words >> number >> type >> mode >> access >> pid >> inode >> first >> last;
    if (type != "OFDLCK") continue;
    long long from = 0;
    long long to = INT64_MAX;
    auto parse = [](const std::string& word, long long& value) {
      return std::from_chars(word.data(), word.data() + word.size(), value).ec == std::errc();
    };
    if (!parse(first, from)) continue;
    if (last != "EOF" && !parse(last, to)) continue;
    if (from <= byte && byte <= to) return true;
  }
  return false;
}

std::string command_of(long pid) {
  std::ifstream in(fmt::format("/proc/{}/comm", pid));
  std::string name;
  std::getline(in, name);
  return name.empty() ? "a process" : name;
}

bool holds(long pid, const struct stat& file, int own_fd, off_t byte) {
  std::string base = fmt::format("/proc/{}", pid);
  for (long fd : numbers_in(base + "/fd")) {
    if (pid == ::getpid() && fd == own_fd) continue;
    struct stat other {};
    if (::stat(fmt::format("{}/fd/{}", base, fd).c_str(), &other) != 0) continue;
    if (other.st_dev != file.st_dev || other.st_ino != file.st_ino) continue;
    if (shows_lock(fmt::format("{}/fdinfo/{}", base, fd), byte)) return true;
  }
  return false;
}

}  // namespace

std::vector<LockHolder> find_lock_holders(int fd, off_t byte) {
  std::vector<LockHolder> holders;
  struct stat file {};
  if (::fstat(fd, &file) != 0) return holders;
  for (long pid : numbers_in("/proc")) {
    if (holds(pid, file, fd, byte)) {
      holders.push_back({static_cast<pid_t>(pid), command_of(pid)});
    }
  }
  return holders;
}

std::string describe_lock_holders(int fd, off_t byte) {
  constexpr size_t kNamed = 3;
  std::vector<LockHolder> holders = find_lock_holders(fd, byte);
  if (holders.empty()) return "";
  if (holders.size() == 1 && holders[0].pid == ::getpid()) {
    return "This very program has it open already: name each image once.";
  }
  std::string who;
  for (size_t i = 0; i < std::min(holders.size(), kNamed); ++i) {
    if (i != 0) who += ", ";
    who += fmt::format("{} (PID {})", holders[i].command, holders[i].pid);
  }
  if (holders.size() > kNamed) who += fmt::format(" and {} more", holders.size() - kNamed);
  return fmt::format(
      "{} {} it open. Wait for the end or stop it; to write a copy of your own, use an overlay; "
      "to just look, calf-img has -U.",
      who, holders.size() == 1 ? "has" : "have");
}

}  // namespace calf::block
