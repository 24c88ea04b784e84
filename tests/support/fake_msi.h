// Message interrupts and doorbells that remember. Thread-safe: executors trigger, tests look.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>

#include "devices/core/irq.h"

namespace calf::devices {

class FakeMsi final : public MsiController {
 public:
  using Message = std::pair<uint64_t, uint32_t>;  // address, data

  Result<std::unique_ptr<MsiRoute>> make_route() override {
    return std::unique_ptr<MsiRoute>(std::make_unique<Route>(*this));
  }

  // How often this message was sent.
  int count(uint64_t address, uint32_t data) {
    std::lock_guard lock(mutex_);
    auto it = sent_.find({address, data});
    return it == sent_.end() ? 0 : it->second;
  }
  int total() {
    std::lock_guard lock(mutex_);
    return total_;
  }
  // How often a route was programmed.
  int programmed() {
    std::lock_guard lock(mutex_);
    return programmed_;
  }
  // Waits until `done()` holds, looking after every message; false after ten seconds.
  template <class Done>
  bool wait(Done done) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return done(sent_); });
  }
  bool wait_for_total(int at_least) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return total_ >= at_least; });
  }

 private:
  class Route final : public MsiRoute {
   public:
    explicit Route(FakeMsi& owner) : owner_(&owner) {}
    Result<void> set_message(uint64_t address, uint32_t data) override {
      std::lock_guard lock(owner_->mutex_);
      message_ = {address, data};
      set_ = true;
      ++owner_->programmed_;
      return {};
    }
    void trigger() override {
      std::lock_guard lock(owner_->mutex_);
      if (!set_) return;
      ++owner_->sent_[message_];
      ++owner_->total_;
      owner_->changed_.notify_all();
    }

   private:
    FakeMsi* owner_;
    Message message_;
    bool set_ = false;
  };

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Message, int> sent_;
  int total_ = 0;
  int programmed_ = 0;
};

class FakeDoorbells final : public DoorbellController {
 public:
  using Bell = std::tuple<uint64_t, uint32_t, int>;

  Result<void> attach(uint64_t address, uint32_t length, int event_fd) override {
    std::lock_guard lock(mutex_);
    if (refuse_) return make_error(ErrorKind::kResource, "no more doorbells");
    // As KVM: one signal per place.
    if (!attached_.insert({address, length, event_fd}).second) {
      return make_error(ErrorKind::kExists, "there is one already");
    }
    return {};
  }
  void detach(uint64_t address, uint32_t length, int event_fd) override {
    std::lock_guard lock(mutex_);
    attached_.erase({address, length, event_fd});
  }
  void refuse(bool refuse) { refuse_ = refuse; }
  std::set<Bell> attached() {
    std::lock_guard lock(mutex_);
    return attached_;
  }

 private:
  std::mutex mutex_;
  std::set<Bell> attached_;
  bool refuse_ = false;
};

}  // namespace calf::devices
