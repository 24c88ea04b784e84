// Short forms for tests that drive qcow2 images: run a coroutine, open, read, write, check.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "block/io/executor.h"
#include "block/qcow2/check.h"
#include "block/qcow2/create.h"
#include "block/qcow2/image.h"
#include "tests/support/simulated_file.h"

namespace calf::test {

using Bytes = std::vector<uint8_t>;

// Bytes that differ from place to place and from one `tag` to the next.
Bytes pattern(uint64_t tag, size_t size);

class ImageBench {
 public:
  ImageBench();

  Executor& executor() { return *executor_; }
  template <class T>
  T run(Task<T> task) {
    return executor_->run(std::move(task));
  }

  // A new, empty image on a new disk. With options.data_file the data file is a new disk too, put
  // into `data`.
  std::shared_ptr<SimulatedDisk> make(const qcow2::CreateOptions& options,
                                      std::shared_ptr<SimulatedDisk>* data = nullptr);
  // Opens for writing unless told otherwise. Messages go to `messages`.
  Result<std::unique_ptr<qcow2::Image>> open(std::shared_ptr<SimulatedDisk> disk,
                                             qcow2::OpenOptions options,
                                             SimulatedFile::Options file = {});
  Result<std::unique_ptr<qcow2::Image>> open(std::shared_ptr<SimulatedDisk> disk);

  Result<void> write(block::Node& node, uint64_t offset, const Bytes& bytes);
  Result<void> write_compressed(qcow2::Image& node, uint64_t offset, const Bytes& bytes);
  Result<Bytes> read(block::Node& node, uint64_t offset, size_t size);
  Result<void> zero(block::Node& node, ByteRange range, bool unmap);
  Result<void> discard(block::Node& node, ByteRange range);
  Result<void> flush(block::Node& node);
  Result<void> close(block::Node& node);

  // Checks the image on `disk`; findings go to `messages`.
  Result<qcow2::CheckResult> check(std::shared_ptr<SimulatedDisk> disk,
                                   qcow2::Repair repair = qcow2::Repair::kNone,
                                   SimulatedFile::Options file = {});
  // Fails the test if check finds anything (leaks only if `leaks_allowed`).
  void expect_clean(std::shared_ptr<SimulatedDisk> disk, bool leaks_allowed = false);

  std::vector<std::string> messages;

 private:
  std::unique_ptr<Executor> executor_;
};

class ImageTest : public testing::Test, public ImageBench {};

// EXPECT_OK(result): shows the error's text.
template <class T>
testing::AssertionResult is_ok(const Result<T>& result) {
  if (result.ok()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << result.error().message();
}
#define EXPECT_OK(...) EXPECT_TRUE(::calf::test::is_ok(__VA_ARGS__))
#define ASSERT_OK(...) ASSERT_TRUE(::calf::test::is_ok(__VA_ARGS__))

}  // namespace calf::test
