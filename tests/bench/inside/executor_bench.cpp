// What a coroutine, a turn of the executor and a trip to another thread cost.
#include <benchmark/benchmark.h>

#include "block/base/task.h"
#include "block/io/executor.h"

namespace calf {
namespace {

Task<int> leaf(int value) {
  co_return value + 1;
}

Task<void> awaits(benchmark::State& state) {
  int value = 0;
  for (auto _ : state)
    value = co_await leaf(value);
  benchmark::DoNotOptimize(value);
}

Task<void> yields(Executor& executor, benchmark::State& state) {
  for (auto _ : state)
    co_await executor.yield();
}

Task<void> offloads(Executor& executor, benchmark::State& state) {
  for (auto _ : state)
    co_await executor.offload([] {});
}

void report_none(benchmark::State& state) {
  state.SkipWithError("this host has no engine for the executor");
}

void await_a_coroutine(benchmark::State& state) {
  auto executor = Executor::create();
  if (!executor.ok()) return report_none(state);
  (*executor)->run(awaits(state));
}
BENCHMARK(await_a_coroutine);

void turn_of_the_executor(benchmark::State& state) {
  auto executor = Executor::create();
  if (!executor.ok()) return report_none(state);
  (*executor)->run(yields(**executor, state));
}
BENCHMARK(turn_of_the_executor);

void trip_to_another_thread(benchmark::State& state) {
  auto executor = Executor::create();
  if (!executor.ok()) return report_none(state);
  (*executor)->run(offloads(**executor, state));
}
BENCHMARK(trip_to_another_thread)->UseRealTime();

}  // namespace
}  // namespace calf
