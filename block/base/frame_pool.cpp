#include "block/base/frame_pool.h"

#include <array>
#include <new>

namespace calf {

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CALF_FRAMES_UNPOOLED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define CALF_FRAMES_UNPOOLED 1
#endif

#ifdef CALF_FRAMES_UNPOOLED

void* FramePool::take(size_t size) {
  return ::operator new(size);
}
void FramePool::give(void* block, size_t /*size*/) noexcept {
  ::operator delete(block);
}

#else

namespace {

struct Spare {
  Spare* next;
};

struct Class {
  Spare* first;
  unsigned count;
};

// Trivial, so that it can be looked at without asking whether it has been made yet, and is still
// there when the thread's objects go.
struct Spares {
  std::array<Class, FramePool::kLargest / FramePool::kStep> classes;
  bool closed;  // the thread ends: nothing is kept any more
};
constinit thread_local Spares spares{};

// At the thread's end its spare blocks go back.
struct Closing {
  bool armed = false;
  ~Closing() {
    spares.closed = true;
    for (Class& c : spares.classes) {
      while (c.first != nullptr) {
        Spare* block = c.first;
        c.first = block->next;
        ::operator delete(block);
      }
    }
  }
};
thread_local Closing closing;

constexpr size_t class_of(size_t size) {
  return (size - 1) / FramePool::kStep;
}

}  // namespace

void* FramePool::take(size_t size) {
  if (size - 1 >= kLargest) return ::operator new(size);
  Class& c = spares.classes[class_of(size)];
  if (c.first == nullptr) {
    closing.armed = true;  // names it, which makes it
    return ::operator new((class_of(size) + 1) * kStep);
  }
  Spare* block = c.first;
  c.first = block->next;
  --c.count;
  return block;
}

void FramePool::give(void* block, size_t size) noexcept {
  if (size - 1 >= kLargest) return ::operator delete(block);
  Class& c = spares.classes[class_of(size)];
  if (c.count >= kKept || spares.closed) return ::operator delete(block);
  c.first = new (block) Spare{c.first};
  ++c.count;
}

#endif

}  // namespace calf
