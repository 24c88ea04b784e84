// What an exit costs until its device is found, by the number of devices.
#include <benchmark/benchmark.h>

#include <array>
#include <deque>

#include "devices/core/bus.h"
#include "devices/core/device.h"

namespace calf::devices {
namespace {

class Register final : public ByteDevice {
 public:
  uint8_t read_byte(uint64_t) override { return value_; }
  void write_byte(uint64_t, uint8_t value) override { value_ = value; }

 private:
  uint8_t value_ = 0;
};

void find_a_device(benchmark::State& state) {
  Bus bus;
  std::deque<Register> devices(static_cast<size_t>(state.range(0)));
  uint64_t at = 0;
  for (Register& device : devices) {
    if (!bus.map({at, 8}, device).ok()) return state.SkipWithError("the bus refuses a device");
    at += 8;
  }
  std::array<uint8_t, 1> byte{};
  for (uint64_t address = 0; auto _ : state) {
    benchmark::DoNotOptimize(bus.read(address, byte));
    address = (address + 8 * 7) % at;
  }
}
BENCHMARK(find_a_device)->Arg(8)->Arg(64);

}  // namespace
}  // namespace calf::devices
