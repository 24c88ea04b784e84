#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>

#include "tests/bench/limits/limits.h"

extern char** environ;

namespace calf::bench {
namespace {

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

int run_measured(const char* report, char** command) {
  auto begin = std::chrono::steady_clock::now();
  pid_t child = 0;
  int error = ::posix_spawnp(&child, command[0], nullptr, nullptr, command, environ);
  if (error != 0) return -error;
  int status = 0;
  rusage usage{};
  if (::wait4(child, &status, 0, &usage) != child) return -errno;
  std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  std::FILE* out = std::fopen(report, "w");
  if (out == nullptr) return -errno;
  std::fprintf(out, "%.9f %.6f %ld\n", wall.count(),
               seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_maxrss);
  if (std::fclose(out) != 0) return -errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace calf::bench
