// Access to words that the guest's CPUs share with us: each is read or written exactly once, with a
// stated memory order. Addresses are naturally aligned.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

namespace calf::virtio {

static_assert(std::endian::native == std::endian::little,
              "virtio is little-endian, and shared words are accessed in host order");

template <class T>
T load_shared(const uint8_t* at, std::memory_order order = std::memory_order_relaxed) {
  return std::atomic_ref<T>(*reinterpret_cast<T*>(const_cast<uint8_t*>(at))).load(order);
}

template <class T>
void store_shared(uint8_t* at, T value, std::memory_order order = std::memory_order_relaxed) {
  std::atomic_ref<T>(*reinterpret_cast<T*>(at)).store(value, order);
}

// g++ warns that ThreadSanitizer does not see fences. It need not see this one: it orders two
// accesses that are atomic anyway, and nothing plain is passed on by it.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
// Between "I wrote mine" and "I read yours", where both sides do that.
inline void full_fence() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

}  // namespace calf::virtio
