// QueueRunner: one running queue on an executor.
//
//     kick eventfd --> walk the available ring --> Consumer::take(chain) …
//     QueueRunner::finish(head)
//                       (kicks suppressed)                                       |
//     interrupt   <--  one index update and one decision per batch  <------------+
//
// A batch is what ends in one turn of the executor: finish() writes the used elements, the end of
// the turn makes them visible together. So that a driver can go on with the first answers while the
// last requests are on their way, one turn takes kPart chains at most.
//
// While the executor has nothing to do it looks at the ring for a moment before it sleeps
// (idle_poller.h); kicks are off meanwhile.
//
// No more chains are taken than the ring has entries; a driver that offers a buffer twice waits for
// its own. Everything here is on the executor's thread.
#pragma once

#include <cstdint>

#include "block/base/task.h"
#include "block/io/executor.h"
#include "block/io/idle_poller.h"
#include "block/io/sync.h"
#include "devices/virtio/chain.h"
#include "devices/virtio/device.h"
#include "devices/virtio/queue.h"

namespace calf::virtio {

class QueueRunner final : private IdlePoller {
 public:
  class Consumer {
   public:
    virtual ~Consumer() = default;
    // Starts to work on `chain` and calls runner.finish() once, now or later.
    virtual void take(QueueRunner& runner, Chain chain) = 0;
  };

  QueueRunner(Executor& executor, Queue queue, int kick_fd, Notifier& notifier, Consumer& consumer)
      : executor_(&executor),
        queue_(std::move(queue)),
        kick_fd_(kick_fd),
        notifier_(&notifier),
        consumer_(&consumer),
        stopped_(executor),
        drained_(executor) {}

  // Works until stop() was called and everything in flight has ended.
  Task<void> run();
  void stop();

  // The chain with this head is done; `written` bytes of its writable part were filled.
  void finish(uint16_t head, uint32_t written);
  // The chain cannot be answered at all: finishes it and breaks the queue.
  void fail(uint16_t head, std::string_view why);

  uint16_t index() const { return queue_.index(); }
  unsigned in_flight() const { return in_flight_; }
  const QueueCounters& counters() const { return counters_; }

 private:
  // A third of a usual depth of 32: the driver has the first answers while the rest is read, for
  // less than a tenth of a system call a request.
  static constexpr unsigned kPart = 12;

  // True if there was anything to take.
  bool walk();
  bool end_turn() override;
  void publish();
  void start_looking() override;
  bool look() override { return walk(); }
  bool stop_looking() override;
  void break_queue(std::string_view why);
  void take_kicks();
  void kick_self();

  Executor* executor_;
  Queue queue_;
  int kick_fd_;
  Notifier* notifier_;
  Consumer* consumer_;
  unsigned in_flight_ = 0;
  bool stopping_ = false;
  bool broken_ = false;
  bool full_ = false;     // the walk stopped because the ring's worth of chains is in flight
  bool looking_ = false;  // by turns of the executor: no kick is asked for
  bool dirty_ = false;    // used elements wait for publish()
  bool more_ = false;     // the ring is to be looked at again, with or without a kick
  unsigned taken_in_turn_ = 0;
  QueueCounters counters_;
  WaitQueue stopped_;  // run() waits here, for stop(), when the queue is broken
  WaitQueue drained_;  // run() waits here, for the last finish()
};

}  // namespace calf::virtio
