// Node: one layer of an image. Files, formats, filters and the tests' simulated disk all speak this
// interface.
//
//     virtio-blk / calf-img
//            |  offsets in the virtual disk
//        qcow2::Image ----- backing ----> qcow2::Image ----> …
//            |  offsets in the file          |
//         FileNode                        FileNode
//
// Threads: a node belongs to one Executor; its coroutines run on that executor's thread only and
// interleave at co_await. Requests may be in flight in any number and finish in any order. Two
// requests that overlap are ordered by the caller or not at all (each sector then holds one or the
// other, as on a disk).
//
// Lengths and offsets are bytes. A caller keeps requests inside [0, size()); any byte range will
// do, whatever the host wants aligned.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "block/base/byte_range.h"
#include "block/base/result.h"
#include "block/base/task.h"
#include "block/io/io_slice.h"

namespace calf::block {

struct Limits {
  // What is written in other than multiples of this costs a read of what lies around it (1: nothing
  // does; never above 4096).
  uint32_t write_unit = 1;
  // Memory of requests is best aligned to this (a node bounces what is not).
  uint32_t memory_alignment = 1;
  // The unit in which this layer allocates (cluster size), 0 if it has none.
  uint32_t cluster_size = 0;
  // Discards smaller than this free nothing; 0 means that discard does nothing at all.
  uint32_t discard_granularity = 0;
};

// What one layer knows of a stretch of guest bytes.
struct Extent {
  ByteRange range;
  // This layer answers for the range (false: the backing node does, or zeroes where there is none).
  bool allocated = false;
  // The range is known to read as zeroes. With `data` too: space is reserved and would be read.
  bool zero = false;
  // The range must be read to know its content.
  bool data = false;
  // Stored compressed or encrypted: no host_offset, as bytes differ.
  bool encoded = false;
  // Where the bytes stand in `host_file`, one to one.
  std::optional<uint64_t> host_offset;
  // The name of the file that host_offset refers to; owned by the node, null if there is no
  // host_offset.
  const std::string* host_file = nullptr;
};

struct WriteFlags {
  // The write is durable when the request ends.
  bool fua = false;
  // Called, at most once, when it is decided where in the file all of the bytes go: what is written
  // from then on goes behind them, while these are still on their way. A node that cannot say does
  // not call it. May be null; outlives the await.
  const std::function<void()>* placed = nullptr;

  void tell_placed() const {
    if (placed != nullptr) (*placed)();
  }
};

struct ZeroFlags {
  // The space may be given back (the range still reads as zeroes).
  bool may_unmap = false;
  bool fua = false;
};

enum class Preallocation : uint8_t { kOff, kMetadata, kFalloc, kFull };

class Node {
 public:
  virtual ~Node() = default;
  Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // Bytes that a reader sees.
  virtual uint64_t size() const = 0;
  virtual const Limits& limits() const = 0;
  virtual bool read_only() const = 0;

  // Fills `to` from `offset`. On error its content is undefined. A file is read as zeroes past its
  // end (so that aligned requests may reach over an end that is not).
  virtual Async<> read(uint64_t offset, IoSlice to) = 0;
  // On error any part of the range may have been written. A file that is written past its end
  // grows; what lies between reads as zeroes.
  virtual Async<> write(uint64_t offset, IoSlice from, WriteFlags flags) = 0;
  // The range reads as zeroes afterwards; never uncovers a backing node.
  virtual Async<> write_zeroes(ByteRange range, ZeroFlags flags) = 0;
  // A hint: the range reads as it did, or as zeroes; never uncovers a backing node.
  virtual Async<> discard(ByteRange range) = 0;
  // Everything that ended before the call is durable afterwards.
  virtual Async<> flush() = 0;
  // What this layer (not its backing) knows of the longest prefix of `range` with one status.
  // `range` is not empty and inside size(); the answer starts where it starts and is not empty.
  virtual Async<Extent> map(ByteRange range) = 0;
  // The same without waiting, if enough is in memory to say something; the prefix may be shorter
  // than map() would make it. Nothing: ask map().
  virtual std::optional<Extent> known(ByteRange /*range*/) { return std::nullopt; }
  // Sets the size; new bytes read as zeroes. A device and an export keep theirs: to less is no
  // error there and changes nothing, to more is refused.
  virtual Async<> truncate(uint64_t size, Preallocation preallocation) = 0;
  // Writes back what is cached, marks the image clean, releases what it holds. Nothing is in
  // flight, and nothing but destruction follows. Errors here mean lost data: the caller reports
  // them.
  virtual Async<> close() = 0;

  // The node that answers where this layer has nothing; null if there is none.
  virtual Node* backing() const { return nullptr; }
  // The name under which a person knows this node.
  virtual const std::string& name() const = 0;
  // "file", "raw", "qcow2", …
  virtual const char* format() const = 0;
};

// For a format whose disk is as long as its file: that is a device or an export.
inline Error keeps_its_size(const Node& file) {
  return make_error(ErrorKind::kUnsupported, "Cannot resize {} nodes: '{}' keeps its size",
                    file.format(), file.name());
}

}  // namespace calf::block
