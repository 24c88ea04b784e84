// An executor on a thread of its own, as the machine has one per disk.
#pragma once

#include <memory>
#include <thread>

#include "block/io/executor.h"

namespace calf {

class ExecutorThread {
 public:
  ExecutorThread() : executor_(std::move(*Executor::create())) {
    thread_ = std::thread([this] { executor_->run_until_stopped(); });
  }
  ~ExecutorThread() {
    executor_->stop();
    thread_.join();
  }
  Executor& executor() { return *executor_; }
  // Waits until everything posted so far has run.
  void settle() { executor_->run_blocking(nothing()); }

 private:
  static Task<void> nothing() { co_return; }
  std::unique_ptr<Executor> executor_;
  std::thread thread_;
};

}  // namespace calf
