// QueueDevice: a device whose queues run on an executor. It turns activate() and reset(), which
// come from vCPU threads, into queue runners on the executor's thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "block/io/executor.h"
#include "devices/virtio/device.h"
#include "devices/virtio/queue_runner.h"

namespace calf::virtio {

class QueueDevice : public Device, protected QueueRunner::Consumer {
 public:
  void activate(Activation activation) final;
  void reset(std::function<void()> done) final;
  QueueCounters counters() const final { return counters_; }

 protected:
  // `executor` outlives the device, and runs until the device was reset.
  explicit QueueDevice(Executor& executor) : executor_(&executor) {}
  Executor& executor() { return *executor_; }

  // On the executor's thread. The queues are about to run / the device is being reset: whatever
  // keeps a request from ending is to let go of it.
  virtual void starting(uint64_t features) = 0;
  virtual void stopping() {}
  // Null while the device is stopped. Executor's thread.
  Notifier* notifier() { return notifier_; }

 private:
  void start(const Activation& activation);
  static Task<void> run_queue(QueueDevice* self, QueueRunner* runner);
  void end_reset_if_idle();

  Executor* executor_;
  // All on the executor's thread.
  Notifier* notifier_ = nullptr;
  std::vector<std::unique_ptr<QueueRunner>> runners_;
  size_t running_ = 0;
  QueueCounters counters_;  // of queues that have ended
  std::function<void()> reset_done_;
};

}  // namespace calf::virtio
