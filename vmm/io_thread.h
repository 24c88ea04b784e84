// IoThread: a thread that drives one executor, for a disk or another device with I/O of its own.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "block/base/result.h"
#include "block/io/executor.h"

namespace calf::vmm {

class IoThread {
 public:
  // `name` is the thread's, at most 15 characters count.
  static Result<std::unique_ptr<IoThread>> start(std::string name);
  // Ends when all spawned tasks have ended.
  ~IoThread();
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  Executor& executor() { return *executor_; }

 private:
  IoThread() = default;
  std::unique_ptr<Executor> executor_;
  std::thread thread_;
};

}  // namespace calf::vmm
