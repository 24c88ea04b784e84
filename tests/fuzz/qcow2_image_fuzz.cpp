// The input is a qcow2 file. Whatever stands in it: opening, reading, mapping and checking end, and
// writing does too; nothing outside the file's own bytes is believed.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "block/qcow2/check.h"
#include "block/qcow2/image.h"
#include "tests/support/simulated_file.h"

namespace calf::qcow2 {
namespace {

constexpr uint64_t kMaxRead = 256 << 10;
constexpr size_t kMaxInput = 1 << 20;

Async<> read_some(Image& image) {
  const uint64_t size = image.size();
  const uint64_t cluster = image.limits().cluster_size;
  std::vector<uint8_t> bytes(kMaxRead);
  // The beginning, the end, and something between.
  for (uint64_t at : {uint64_t{0}, size / 2, size > kMaxRead ? size - kMaxRead : 0}) {
    at = align_down(at, 512);
    for (uint64_t end = std::min(size, at + kMaxRead); at < end;) {
      uint64_t n = std::min({end - at, cluster, kMaxRead});
      FlatIo io(std::span<uint8_t>(bytes).first(n));
      Result<void> ignored = co_await image.read(at, io.slice());
      (void)ignored;
      at += n;
    }
  }
  if (size != 0) {
    ByteRange range{0, std::min(size, uint64_t{1} << 30)};
    Result<block::Extent> ignored = co_await image.map(range);
    (void)ignored;
  }
  co_return Result<void>();
}

Async<> write_some(Image& image) {
  const uint64_t size = image.size();
  std::vector<uint8_t> bytes(4096, 0x5a);
  for (uint64_t at : {uint64_t{0}, size / 3, size / 2}) {
    at = align_down(at, 512);
    if (at >= size) continue;
    FlatIo io(std::span<const uint8_t>(bytes).first(std::min<uint64_t>(size - at, bytes.size())));
    Result<void> ignored = co_await image.write(at, io.slice(), {});
    ByteRange range{at, std::min<uint64_t>(size - at, 1 << 20)};
    ignored = co_await image.discard(range);
    block::ZeroFlags flags;
    ignored = co_await image.write_zeroes(range, flags);
  }
  Result<void> ignored = co_await image.flush();
  co_return ignored;
}

std::unique_ptr<Image> open(Executor& executor, std::shared_ptr<test::SimulatedDisk> disk,
                            OpenOptions options) {
  test::SimulatedFile::Options file;
  std::unique_ptr<block::Node> node =
      std::make_unique<test::SimulatedFile>(executor, std::move(disk), file);
  auto image = executor.run(Image::open(executor, std::move(node), std::move(options)));
  return image.ok() ? std::move(*image) : nullptr;
}

void close(Executor& executor, Image& image) {
  Result<void> ignored = executor.run(image.close());
  (void)ignored;
}

void one_input(std::span<const uint8_t> input) {
  Executor::Options executor_options;
  executor_options.engine = Executor::Engine::kThreads;
  static std::unique_ptr<Executor> executor = std::move(*Executor::create(executor_options));
  auto disk = std::make_shared<test::SimulatedDisk>();
  disk->content.write(0, input);

  OpenOptions info;
  info.info_only = true;
  if (auto image = open(*executor, disk, info)) {
    (void)image->info();
    close(*executor, *image);
  }
  if (auto image = open(*executor, disk, OpenOptions{})) {
    Result<void> ignored = executor->run(read_some(*image));
    close(*executor, *image);
  }
  for (Repair repair : {Repair::kNone, Repair::kAll}) {
    OpenOptions options;
    options.for_check = true;
    options.writable = repair != Repair::kNone;
    auto copy = std::make_shared<test::SimulatedDisk>(*disk);
    if (auto image = open(*executor, copy, options)) {
      FindingSink sink = [](std::string_view) {};
      Result<CheckResult> ignored = executor->run(check(*image, repair, sink));
      close(*executor, *image);
    }
  }
  OpenOptions options;
  options.writable = true;
  if (auto image = open(*executor, disk, options)) {
    Result<void> ignored = executor->run(write_some(*image));
    close(*executor, *image);
  }
}

}  // namespace
}  // namespace calf::qcow2

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > calf::qcow2::kMaxInput) return 0;
  calf::qcow2::one_input({data, size});
  return 0;
}
