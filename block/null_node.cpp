#include "block/null_node.h"

namespace calf::block {

NullNode::NullNode(Executor& executor, const char* driver, Options options)
    : executor_(executor), driver_(driver), options_(options), name_(std::string(driver) + "://") {
  limits_.discard_granularity = 1;
}

Async<> NullNode::answer() {
  if (options_.latency.count() > 0) {
    auto when = std::chrono::steady_clock::now() + options_.latency;
    co_await executor_.sleep_until(when);
  }
  co_return Result<void>();
}

Async<> NullNode::read(uint64_t, IoSlice to) {
  to.fill(0);  // never what our memory held before
  return answer();
}

Async<> NullNode::write(uint64_t, IoSlice, WriteFlags) {
  return answer();
}

Async<> NullNode::write_zeroes(ByteRange, ZeroFlags) {
  return answer();
}

Async<> NullNode::discard(ByteRange) {
  return answer();
}

Async<> NullNode::flush() {
  return answer();
}

Async<Extent> NullNode::map(ByteRange range) {
  Extent extent;
  extent.range = range;
  if (options_.read_zeroes) {
    extent.allocated = extent.zero = true;
    extent.host_offset = range.offset;
    extent.host_file = &name_;
  }
  co_return extent;
}

Async<> NullNode::truncate(uint64_t, Preallocation) {
  co_return Error(ErrorKind::kUnsupported, "A null disk has a fixed size");
}

Async<> NullNode::close() {
  co_return Result<void>();
}

}  // namespace calf::block
