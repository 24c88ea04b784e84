#include "vmm/vcpu_group.h"

#include <signal.h>

#include <algorithm>
#include <string>
#include <system_error>

namespace calf::vmm {

VcpuGroup::~VcpuGroup() {
  quit();
}

Result<void> VcpuGroup::start(std::function<void(unsigned)> body) {
  TRY_VOID(kvm::Vcpu::install_interrupt_signal());
  body_ = std::move(body);
  for (unsigned i = 0; i < vcpus_.size(); ++i) {
    // std::thread has no other way to report that the host is out of threads.
    try {
      threads_.emplace_back([this, i] { thread_main(i); });
    } catch (const std::system_error& error) {
      return Error::from_errno(error.code().value(), "Could not start a vCPU's thread");
    }
  }
  return {};
}

void VcpuGroup::thread_main(unsigned index) {
  // Signals to the process are the control thread's; this one takes faults and the interrupt
  // signal.
  sigset_t mask;
  sigfillset(&mask);
  sigdelset(&mask, kvm::Vcpu::interrupt_signal());
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  std::string name = "calf-vcpu" + std::to_string(index);
  pthread_setname_np(pthread_self(), name.c_str());
  {
    std::lock_guard lock(mutex_);
    running_.emplace_back(&vcpus_[index], pthread_self());
  }
  body_(index);
  std::lock_guard lock(mutex_);
  std::erase_if(running_, [&](const auto& entry) { return entry.first == &vcpus_[index]; });
}

void VcpuGroup::give_order(Order order) {
  std::lock_guard lock(mutex_);
  if (order_.load() == Order::kQuit) return;
  order_.store(order);
  if (order != Order::kRun) {
    for (auto& [vcpu, thread] : running_)
      vcpu->interrupt(thread);
  }
  changed_.notify_all();
}

void VcpuGroup::order_park() {
  give_order(Order::kPark);
}

void VcpuGroup::release() {
  give_order(Order::kRun);
}

void VcpuGroup::wait_parked() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return standing_ == threads_.size() || order_ != Order::kPark; });
}

bool VcpuGroup::stand_still() {
  std::unique_lock lock(mutex_);
  if (order_ == Order::kPark) {
    ++standing_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return order_ != Order::kPark; });
    // Only here: a thread that has not woken up when the next order to park comes stands still.
    --standing_;
  }
  return order_ == Order::kRun;
}

void VcpuGroup::quit() {
  give_order(Order::kQuit);
  for (std::thread& thread : threads_)
    thread.join();
  threads_.clear();
}

}  // namespace calf::vmm
