// VcpuGroup: the threads that run the vCPUs, and how they are made to stand still.
//
//     control thread:  order_park() -> wait_parked() -> change machine state -> release()
//     vCPU thread:     … KVM_RUN … may_run()? no -> stand_still() … KVM_RUN …
//
// A vCPU thread that stands still has finished its last instruction: KVM holds the vCPU's whole
// state, and any thread may read and write it.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "block/base/result.h"
#include "vmm/kvm/vcpu.h"

namespace calf::vmm {

class VcpuGroup {
 public:
  // The vCPUs outlive the group's threads and do not move.
  explicit VcpuGroup(std::vector<kvm::Vcpu>& vcpus) : vcpus_(vcpus) {}
  // Joins.
  ~VcpuGroup();
  VcpuGroup(const VcpuGroup&) = delete;
  VcpuGroup& operator=(const VcpuGroup&) = delete;

  // Starts one thread per vCPU that calls `body` with the vCPU's number. `body` looks at may_run()
  // after clear_interrupt() and before each KVM_RUN. On an error some threads may run: quit().
  Result<void> start(std::function<void(unsigned)> body);

  // ---- Any thread ----
  // vCPUs will not enter the guest again, and leave it soon.
  void order_park();

  // ---- Not a vCPU thread ----
  // Returns when every thread stands still. Nobody may give another order meanwhile.
  void wait_parked();
  void release();
  // Ends and joins all threads.
  void quit();

  // ---- A vCPU thread ----
  bool may_run() const { return order_.load() == Order::kRun; }
  // Waits until the order changes. False: the thread is to end.
  bool stand_still();

 private:
  enum class Order : uint8_t { kRun, kPark, kQuit };
  void give_order(Order order);
  void thread_main(unsigned index);

  std::vector<kvm::Vcpu>& vcpus_;
  std::function<void(unsigned)> body_;
  std::vector<std::thread> threads_;
  // Sequentially consistent: the order is stored before interrupt() sets immediate_exit, and loaded
  // after clear_interrupt().
  std::atomic<Order> order_{Order::kRun};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<kvm::Vcpu*, pthread_t>> running_;  // under mutex_
  unsigned standing_ = 0;                                  // under mutex_
};

}  // namespace calf::vmm
