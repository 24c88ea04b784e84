// A guest's memory, rings included, is the input: whatever stands there, chains that come out point
// into RAM, and requests that are accepted stay on the disk.
//
//     byte 0: features and ring size     RAM from byte 1: descriptors, available ring, used ring,
//     data
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "devices/virtio/blk_request.h"
#include "devices/virtio/queue.h"

namespace calf::virtio {
namespace {

constexpr uint64_t kRamSize = 8192;
constexpr uint64_t kAvailableAt = 512;
constexpr uint64_t kUsedAt = 1024;
constexpr uint64_t kCapacity = 1u << 20;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

struct FreeRam {
  void operator()(uint8_t* p) const { std::free(p); }
};

void check_chain(const Chain& chain, std::span<const uint8_t> ram) {
  size_t readable = 0;
  size_t writable = 0;
  for (size_t i = 0; i < chain.iovecs.size(); ++i) {
    const iovec& v = chain.iovecs[i];
    const uint8_t* base = static_cast<const uint8_t*>(v.iov_base);
    require(base >= ram.data() && base + v.iov_len <= ram.data() + ram.size(), "iovec in RAM");
    (i < chain.readable_iovecs ? readable : writable) += v.iov_len;
  }
  require(readable == chain.readable_bytes && writable == chain.writable_bytes, "chain sums");
}

void check_request(const Chain& chain, const BlkLimits& limits) {
  ParsedBlkRequest parsed = parse_blk_request(chain, limits);
  if (parsed.status != BlkStatus::kOk) return;
  const BlkRequest& request = parsed.request;
  switch (request.type) {
    case BlkType::kRead:
    case BlkType::kWrite:
      require(ByteRange{0, kCapacity}.contains({request.offset, request.data.size()}),
              "transfer on the disk");
      require((request.offset | request.data.size()) % limits.block_size == 0, "whole blocks");
      if (request.type == BlkType::kRead) {
        request.data.fill(0xa5);
      } else {
        require(!limits.read_only, "no write to a read-only disk");
        (void)request.data.is_zero();
      }
      break;
    case BlkType::kDiscard:
    case BlkType::kWriteZeroes:
      require(!limits.read_only, "no discard of a read-only disk");
      for (const BlkSegment& s : request.segments)
        require(ByteRange{0, kCapacity}.contains(s.range) && !s.range.empty(), "segment on disk");
      break;
    case BlkType::kFlush:
    case BlkType::kGetId:
      break;
  }
}

}  // namespace
}  // namespace calf::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace calf;
  using namespace calf::virtio;
  if (size == 0) return 0;
  uint8_t options = data[0];
  std::unique_ptr<uint8_t, FreeRam> ram(static_cast<uint8_t*>(std::aligned_alloc(4096, kRamSize)));
  std::memset(ram.get(), 0, kRamSize);
  std::memcpy(ram.get(), data + 1, std::min<size_t>(size - 1, kRamSize));
  std::span<uint8_t> bytes(ram.get(), kRamSize);
  // Two regions that touch, so that buffers cross from one into the other.
  devices::GuestMemory memory({{devices::Gpa{0}, bytes.first(4096), true},
                               {devices::Gpa{4096}, bytes.subspan(4096), true}});
  QueueSetup setup;
  setup.size = static_cast<uint16_t>(4u << (options & 3));
  setup.available = devices::Gpa{kAvailableAt};
  setup.used = devices::Gpa{kUsedAt};
  uint64_t features = 0;
  if (options & 4) features |= kFeatureEventIndex;
  if (options & 8) features |= kFeatureIndirectDescriptors;
  BlkLimits limits;
  limits.capacity = kCapacity;
  limits.read_only = (options & 16) != 0;
  limits.block_size = options & 32 ? 4096 : 512;

  Result<Queue> queue = Queue::create(memory, setup, features);
  require(queue.ok(), "the rings are where they belong");
  // A ring holds no more than its size, but what is written into it may move the index again.
  for (int i = 0; i < 64; ++i) {
    Result<std::optional<Chain>> popped = queue->pop();
    if (!popped.ok()) break;
    if (!popped->has_value()) {
      if (!queue->allow_kicks()) break;
      continue;
    }
    const Chain& chain = **popped;
    check_chain(chain, bytes);
    if (has_status_byte(chain)) {
      check_request(chain, limits);
      write_status_byte(chain, BlkStatus::kOk);
    }
    queue->push(chain.head, static_cast<uint32_t>(chain.writable_bytes));
    if (i % 3 == 0) (void)queue->publish();
  }
  (void)queue->publish();
  return 0;
}
