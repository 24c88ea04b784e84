#include "devices/virtio/queue_device.h"

#include <cassert>
#include <utility>

namespace calf::virtio {

void QueueDevice::activate(Activation activation) {
  executor_->post([this, activation = std::move(activation)] { start(activation); });
}

void QueueDevice::start(const Activation& activation) {
  assert(runners_.empty());
  notifier_ = activation.notifier;
  starting(activation.features);
  QueueRunner::Consumer& consumer = *this;
  for (const QueueSetup& setup : activation.queues) {
    Result<Queue> queue = Queue::create(*activation.memory, setup, activation.features);
    if (!queue.ok()) {
      notifier_->needs_reset(fmt::format("queue {}: {}", setup.index, queue.error().message()));
      continue;
    }
    runners_.push_back(std::make_unique<QueueRunner>(*executor_, std::move(*queue), setup.kick_fd,
                                                     *notifier_, consumer));
  }
  running_ = runners_.size();
  for (auto& runner : runners_)
    executor_->spawn(run_queue(this, runner.get()));
}

Task<void> QueueDevice::run_queue(QueueDevice* self, QueueRunner* runner) {
  co_await runner->run();
  self->counters_ += runner->counters();
  --self->running_;
  self->end_reset_if_idle();
}

void QueueDevice::reset(std::function<void()> done) {
  executor_->post([this, done = std::move(done)] {
    reset_done_ = done;
    stopping();
    for (auto& runner : runners_)
      runner->stop();
    end_reset_if_idle();
  });
}

void QueueDevice::end_reset_if_idle() {
  if (running_ != 0 || !reset_done_) return;
  // The last runner's coroutine is still on the stack here, but past its last use of the runner.
  runners_.clear();
  notifier_ = nullptr;
  std::exchange(reset_done_, nullptr)();
}

}  // namespace calf::virtio
