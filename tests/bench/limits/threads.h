// Work in parts, done by this thread and another one.
#pragma once

#include <atomic>
#include <cstddef>
#include <thread>

namespace calf::bench {

// `work_of()` makes a thread its `work(part)`, which returns 0 or the errno that ends everything.
template <class WorkOf>
int by_threads(size_t threads, size_t parts, WorkOf work_of) {
  std::atomic<size_t> next{0};
  std::atomic<int> error{0};
  auto run = [&] {
    auto work = work_of();
    for (size_t i = next++; i < parts && error == 0; i = next++) {
      if (const int failed = work(i); failed != 0) error = failed;
    }
  };
  std::thread other;
  if (threads > 1) other = std::thread(run);
  run();
  if (other.joinable()) other.join();
  return error;
}

}  // namespace calf::bench
