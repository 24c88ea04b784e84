// The input is a vmdk file: a descriptor, or a sparse extent. Every file that a descriptor names is
// the input again. Opening, reading and mapping end, and believe nothing but the file's own bytes.
#include <cstdint>
#include <memory>
#include <vector>

#include "block/vmdk/image.h"
#include "tests/support/simulated_file.h"

namespace calf::vmdk {
namespace {

constexpr size_t kMaxInput = 1 << 20;
constexpr uint64_t kMaxRead = 64 << 10;

std::unique_ptr<block::Node> file_of(Executor& executor,
                                     const std::shared_ptr<test::SimulatedDisk>& disk) {
  test::SimulatedFile::Options options;
  options.writable = false;
  return std::make_unique<test::SimulatedFile>(executor, disk, options);
}

Async<std::unique_ptr<block::Node>> give(std::unique_ptr<block::Node> node) {
  co_return node;
}

Async<> look_at(Image& image) {
  (void)image.info();
  const uint64_t size = image.size();
  std::vector<uint8_t> bytes(kMaxRead);
  for (uint64_t at : {uint64_t{0}, size / 2, size - std::min(size, kMaxRead)}) {
    uint64_t length = std::min(size - at, kMaxRead);
    if (length == 0) continue;
    FlatIo io(std::span<uint8_t>(bytes).first(length));
    Result<void> read = co_await image.read(at, io.slice());
    (void)read;
    ByteRange range{at, size - at};
    Result<block::Extent> extent = co_await image.map(range);
    (void)extent;
  }
  co_return co_await image.close();
}

void one_input(std::span<const uint8_t> input) {
  Executor::Options options;
  options.engine = Executor::Engine::kThreads;
  static std::unique_ptr<Executor> executor = std::move(*Executor::create(options));
  auto disk = std::make_shared<test::SimulatedDisk>();
  disk->content.write(0, input);
  OpenExtent again = [&](std::string) { return give(file_of(*executor, disk)); };
  auto image = executor->run(Image::open(*executor, file_of(*executor, disk), std::move(again)));
  if (!image.ok()) return;
  Result<void> looked = executor->run(look_at(**image));
  (void)looked;
}

}  // namespace
}  // namespace calf::vmdk

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > calf::vmdk::kMaxInput) return 0;
  calf::vmdk::one_input({data, size});
  return 0;
}
