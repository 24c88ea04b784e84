#include "block/ops/bench.h"

#include <algorithm>
#include <vector>

#include "block/io/aligned_buffer.h"
#include "block/ops/window.h"

namespace calf::ops {
namespace {

Async<> one_request(block::Node& node, uint64_t offset, std::span<uint8_t> buffer, bool write) {
  FlatIo io(buffer);
  Result<void> r;
  if (write) {
    r = co_await node.write(offset, io.slice(), {});
  } else {
    r = co_await node.read(offset, io.slice());
  }
  if (!r.ok()) co_return std::move(r.error()).with_context("Failed request");
  co_return r;
}

}  // namespace

Async<> bench(Executor& executor, block::Node& node, BenchOptions options,
              const JobControl& control) {
  uint64_t size = node.size();
  if (size < options.size) {
    co_return make_error(ErrorKind::kInvalid, "The image is smaller than one request of {} bytes",
                         options.size);
  }
  if (options.offset > size - options.size) {
    co_return Error(ErrorKind::kIo, "Failed request: Input/output error");
  }
  // Requests share buffers: what they read nobody looks at. One for each in flight, so that they
  // are not fought over.
  AlignedBuffer memory(static_cast<size_t>(options.size) * options.depth);
  std::fill_n(memory.data(), memory.size(), options.pattern);
  Window window(executor, options.depth);
  uint64_t offset = options.offset;
  Result<void> result;
  for (uint64_t i = 0; i < options.count && result.ok(); ++i) {
    // Requests that nobody has to wait for end at once: let others run now and then.
    if ((i + 1) % kStepsBetweenYields == 0) co_await executor.yield();
    result = control.check();
    if (!result.ok()) break;
    if (offset + options.size > size) offset = offset % (size - options.size + 1);
    size_t slot = static_cast<size_t>(i % options.depth);
    std::span<uint8_t> buffer = memory.span().subspan(slot * static_cast<size_t>(options.size),
                                                      static_cast<size_t>(options.size));
    Async<> task = one_request(node, offset, buffer, options.write);
    result = co_await window.start(std::move(task));
    offset = (offset + options.step) % size;
    bool flush = options.flush_interval != 0 && (i + 1) % options.flush_interval == 0;
    if (flush && result.ok()) {
      if (options.drain) {
        result = co_await window.finish();
        if (result.ok()) result = co_await node.flush();
      } else {
        Async<> task_flush = node.flush();
        result = co_await window.start(std::move(task_flush));
      }
    }
  }
  Result<void> finished = co_await window.finish();
  if (!result.ok()) co_return result;
  co_return finished;
}

}  // namespace calf::ops
