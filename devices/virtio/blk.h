// Blk: virtio's block device on a node of the image engine.
//
//     QueueRunner --take()--> parse --spawn--> serve(): node read/write/… --finish()--> QueueRunner
//
// One executor per disk: requests of all queues are coroutines there, in flight together, each
// ended in one place (finish). Errors of the node become a status byte, or stop the machine, as the
// policies say.
//
// virtio 1.2, 5.2. Not supported: secure erase, zoned devices, lifetime, SCSI passthrough.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "block/base/log.h"
#include "block/base/result.h"
#include "block/io/executor.h"
#include "block/node.h"
#include "devices/virtio/blk_request.h"
#include "devices/virtio/queue_device.h"

namespace calf::virtio {

// What happens when the node fails a request (QEMU's rerror= and werror=).
enum class ErrorPolicy : uint8_t {
  kReport,   // the driver gets S_IOERR
  kIgnore,   // the driver gets S_OK
  kStop,     // the machine stops, the request is tried again when it goes on
  kNoSpace,  // kStop where the host's disk is full, else kReport
};
// "report", "ignore", "stop" or "enospc".
Result<ErrorPolicy> parse_error_policy(std::string_view text);

struct BlkOptions {
  uint16_t queues = 1;               // 1 to kMaxQueues
  uint16_t queue_size = 256;         // power of two, 8 to 1024
  std::string serial;                // up to 20 bytes
  bool read_only = false;            // beside what the node says
  bool writeback = true;             // initial write cache mode
  uint32_t logical_block_size = 0;   // 0: 512
  uint32_t physical_block_size = 0;  // 0: the node's write_unit, or more
  bool discard = true;               // offer DISCARD, and unmapping WRITE_ZEROES
  ErrorPolicy on_read_error = ErrorPolicy::kReport;
  ErrorPolicy on_write_error = ErrorPolicy::kNoSpace;
  // Stops the machine; on the executor's thread, must not wait. Requests then wait for
  // Blk::retry_stopped(). Null: the stopping policies report.
  std::function<void(const Error&)> on_stop;
};

class Blk final : public QueueDevice {
 public:
  static constexpr uint16_t kMaxQueues = 64;

  // `executor` and `node` outlive the device; the node belongs to the executor. Called before that
  // executor has requests of others, or on its thread. Fails with a text that names the option.
  static Result<std::unique_ptr<Blk>> create(Executor& executor, block::Node& node,
                                             BlkOptions options, Log& log);

  // The node has another size now: tells the driver. Any thread.
  void resized();
  // The machine goes on: what waits for that is tried again. Any thread.
  void retry_stopped();

  uint16_t type() const override { return kTypeBlock; }
  uint32_t pci_class() const override { return 0x010000; }  // mass storage, SCSI, as others do
  const char* name() const override { return "virtio-blk"; }
  uint64_t features() const override { return features_; }
  uint16_t queue_count() const override { return options_.queues; }
  uint16_t queue_size_max() const override { return options_.queue_size; }
  void read_config(uint64_t offset, std::span<uint8_t> data) const override;
  void write_config(uint64_t offset, std::span<const uint8_t> data) override;
  uint8_t config_generation() const override;

 private:
  // What finishing a request needs, whatever became of it. Owns the memory views.
  struct PendingRequest {
    QueueRunner* runner = nullptr;
    Chain chain;
  };

  Blk(Executor& executor, block::Node& node, BlkOptions options, Log& log);
  void fill_config();
  uint64_t usable_size() const;

  // QueueDevice
  void starting(uint64_t features) override;
  void stopping() override;
  void take(QueueRunner& runner, Chain chain) override;

  static Task<void> serve(Blk* self, PendingRequest pending);
  Async<> perform(const BlkRequest& request);
  Async<> perform_segments(const BlkRequest& request);
  void finish(const PendingRequest& pending, BlkStatus status, uint32_t data_written);
  void get_id(IoSlice to) const;
  bool stops(bool is_read, const Error& error) const;
  BlkStatus status_of(BlkType type, const Error& error);
  bool write_through() const;

  block::Node* node_;
  BlkOptions options_;
  Log* log_;
  RateLimit log_limit_;
  uint64_t features_ = 0;

  mutable std::mutex config_mutex_;
  BlkConfig config_;
  uint8_t generation_ = 0;

  // Executor's thread.
  BlkLimits limits_;
  bool flush_negotiated_ = false;
  bool config_wce_negotiated_ = false;
  bool abandoning_ = false;  // a reset is going on: nothing waits for the machine to go on
  WaitQueue stopped_;
};

}  // namespace calf::virtio
