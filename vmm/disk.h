// Disk: one image chain of the guest, on an executor thread of its own.
//
//     virtio-blk (queues) ─┐
//                          ├─ IoThread ─ node ─ … ─ file
//     BIOS INT 13h ────────┘
//
// Opening runs on the disk's thread while the caller does other things: start_opening(), later
// finish_opening().
#pragma once

#include <memory>
#include <optional>
#include <semaphore>
#include <string>

#include "block/base/log.h"
#include "block/base/result.h"
#include "block/format_driver.h"
#include "block/node.h"
#include "vmm/config.h"
#include "vmm/io_thread.h"

namespace calf::vmm {

struct DiskEnvironment {
  const block::FormatTable& formats;  // outlives the disks
  Log& log;                           // likewise
  std::string scratch_directory;      // empty: beside the image
  std::optional<uint64_t> scratch_limit;
};

class Disk {
 public:
  static Result<std::unique_ptr<Disk>> start_opening(const DiskConfig& config, unsigned number,
                                                     const DiskEnvironment& environment);
  // close() was called, or opening failed.
  ~Disk();

  // Waits for the end of opening.
  Result<void> finish_opening();

  // After finish_opening():
  const DiskConfig& config() const { return config_; }
  Executor& executor() { return io_->executor(); }
  block::Node& node() { return *node_; }
  bool read_only() const { return node_->read_only(); }

  // Writes back and closes the image. Nothing is in flight. The error means lost data.
  Result<void> close();

 private:
  explicit Disk(const DiskConfig& config) : config_(config) {}
  static Task<void> open(Disk* disk, const DiskEnvironment* environment);
  static Async<std::unique_ptr<block::Node>> open_node(Disk* disk,
                                                       const DiskEnvironment* environment);

  const DiskConfig config_;
  std::unique_ptr<IoThread> io_;
  std::binary_semaphore opened_{0};
  bool waited_ = false;
  Result<void> open_result_;
  std::unique_ptr<block::Node> node_;
  // Of the chain, if opening failed for it: a broken image that calf-img may mend.
  std::string damaged_;
};

}  // namespace calf::vmm
