#include <sys/mman.h>

#include <cerrno>

#include "tests/bench/limits/limits.h"

namespace calf::bench {

int touch_memory(uint64_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno;
  // Where the kernel has no huge pages it takes small ones, which do as well.
  (void)::madvise(memory, bytes, MADV_HUGEPAGE);
  constexpr uint64_t kPage = 4096;
  for (uint64_t at = 0; at < bytes; at += kPage)
    static_cast<volatile char*>(memory)[at] = 1;
  return ::munmap(memory, bytes) == 0 ? 0 : errno;
}

}  // namespace calf::bench
