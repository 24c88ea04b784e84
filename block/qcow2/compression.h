// Codec: compresses and decompresses single clusters. Thread-safe; runs on the offload pool.
//
// zlib images hold raw deflate streams without a header. They are written with libdeflate: a reader
// that inflates a cluster into one buffer (all known ones do) needs no window, so matches may reach
// back through the whole cluster. Reading accepts everything that fills the cluster, as QEMU does,
// even a stream without an end. Nothing is trusted: output never exceeds the cluster, and a frame's
// own claims about sizes or windows allocate nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "block/base/result.h"
#include "block/qcow2/image_info.h"

namespace calf::qcow2 {

class Codec {
 public:
  explicit Codec(Compression type);
  ~Codec();
  Codec(const Codec&) = delete;
  Codec& operator=(const Codec&) = delete;

  // The compressed length, or nothing if it does not fit into `to`.
  std::optional<size_t> compress(std::span<const uint8_t> from, std::span<uint8_t> to);
  // Fills `to` exactly, else an error. `from` may be longer than the stream.
  Result<void> decompress(std::span<const uint8_t> from, std::span<uint8_t> to);

 private:
  struct Context;
  class Lease;
  std::unique_ptr<Context> take();
  void give_back(std::unique_ptr<Context> context);

  Compression type_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Context>> idle_;
};

}  // namespace calf::qcow2
