#include "devices/virtio/rng.h"

#include <sys/random.h>

#include <algorithm>
#include <array>

namespace calf::virtio {

void Rng::read_config(uint64_t, std::span<uint8_t> data) const {
  std::fill(data.begin(), data.end(), uint8_t{0});
}

void Rng::take(QueueRunner& runner, Chain chain) {
  std::array<uint8_t, kMaxBytes> bytes;
  size_t wanted = std::min(chain.writable_bytes, kMaxBytes);
  // Up to 256 bytes always come whole; more may come short if a signal arrives, which is fine.
  ssize_t got = wanted == 0 ? 0 : ::getrandom(bytes.data(), wanted, GRND_NONBLOCK);
  // Nothing yet, early after the host's boot: the driver gets an empty buffer and asks again.
  size_t count = got > 0 ? static_cast<size_t>(got) : 0;
  chain.writable().slice(0, count).copy_from(std::span(bytes).first(count));
  runner.finish(chain.head, static_cast<uint32_t>(count));
}

}  // namespace calf::virtio
