// RangeLock: shared and exclusive holds on ranges, between coroutines of one executor.
//
// Holds that overlap are granted in order of arrival, shared ones side by side, so nobody starves.
// A holder lives in its coroutine's frame; nothing is allocated. Who holds one range does not wait
// for another (or takes them in ascending order): that is what keeps it free of deadlock.
//
//   RangeLock::Holder hold(locks, range, RangeLock::Mode::kExclusive);
//   co_await hold.acquire();
#pragma once

#include <cassert>
#include <coroutine>
#include <cstdint>

#include "block/base/byte_range.h"
#include "block/io/executor.h"

namespace calf {

class RangeLock {
 public:
  enum class Mode : uint8_t { kShared, kExclusive };

  explicit RangeLock(Executor& executor) : executor_(&executor) {}
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;
  ~RangeLock() { assert(first_ == nullptr); }

  class Holder {
   public:
    Holder(RangeLock& lock, ByteRange range, Mode mode)
        : lock_(&lock), range_(range), mode_(mode) {}
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;
    ~Holder() { release(); }

    // Awaited once (or once more after release()).
    auto acquire() {
      struct Awaiter {
        Holder* self;
        bool await_ready() const noexcept { return self->lock_->enter(self); }
        void await_suspend(std::coroutine_handle<> handle) { self->waiter_ = handle; }
        void await_resume() const noexcept { assert(self->granted_); }
      };
      return Awaiter{this};
    }
    void release() {
      if (linked_) lock_->leave(this);
    }
    bool held() const { return granted_; }

   private:
    friend class RangeLock;
    bool conflicts(const Holder& other) const {
      return (mode_ == Mode::kExclusive || other.mode_ == Mode::kExclusive) &&
             range_.overlaps(other.range_);
    }

    RangeLock* lock_;
    ByteRange range_;
    Mode mode_;
    bool linked_ = false;
    bool granted_ = false;
    Holder* previous_ = nullptr;
    Holder* next_ = nullptr;
    std::coroutine_handle<> waiter_{};
  };

 private:
  // Links `holder` last; true if nothing before it is in its way.
  bool enter(Holder* holder) {
    holder->linked_ = true;
    holder->previous_ = last_;
    holder->next_ = nullptr;
    (last_ != nullptr ? last_->next_ : first_) = holder;
    last_ = holder;
    if (holder->mode_ == Mode::kExclusive) ++exclusive_;
    holder->granted_ = !blocked(*holder);
    return holder->granted_;
  }

  void leave(Holder* holder) {
    assert(holder->granted_);
    Holder* after = holder->next_;
    (holder->previous_ != nullptr ? holder->previous_->next_ : first_) = holder->next_;
    (holder->next_ != nullptr ? holder->next_->previous_ : last_) = holder->previous_;
    holder->linked_ = holder->granted_ = false;
    // Without exclusive holders nobody was waiting.
    if (exclusive_ == 0) return;
    if (holder->mode_ == Mode::kExclusive) --exclusive_;
    for (Holder* h = after; h != nullptr; h = h->next_) {
      if (h->granted_ || !h->range_.overlaps(holder->range_) || blocked(*h)) continue;
      h->granted_ = true;
      executor_->make_ready(h->waiter_);
    }
  }

  bool blocked(const Holder& holder) const {
    if (exclusive_ == 0) return false;
    for (const Holder* h = first_; h != &holder; h = h->next_) {
      if (h->conflicts(holder)) return true;
    }
    return false;
  }

  Executor* executor_;
  Holder* first_ = nullptr;
  Holder* last_ = nullptr;
  uint64_t exclusive_ = 0;
};

}  // namespace calf
