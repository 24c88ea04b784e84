#include "tests/support/image_fixture.h"

namespace calf::test {

Bytes pattern(uint64_t tag, size_t size) {
  Bytes out(size);
  uint64_t x = tag * 0x9e3779b97f4a7c15 + 1;
  for (size_t i = 0; i < size; ++i) {
    if (i % 8 == 0) x = x * 6364136223846793005 + 1442695040888963407;
    out[i] = static_cast<uint8_t>(x >> (8 * (i % 8)));
  }
  return out;
}

ImageBench::ImageBench() {
  Executor::Options options;
  options.engine = Executor::Engine::kThreads;
  executor_ = std::move(*Executor::create(options));
}

namespace {
Async<> create_on(Executor& executor, block::Node& node, const qcow2::CreateOptions& options,
                  block::Node* data) {
  co_return co_await qcow2::create(executor, node, options, data);
}
Async<> write_all(block::Node& node, uint64_t offset, const Bytes& bytes) {
  FlatIo io(std::span<const uint8_t>{bytes});
  co_return co_await node.write(offset, io.slice(), {});
}
Async<> write_packed(qcow2::Image& node, uint64_t offset, const Bytes& bytes) {
  FlatIo io(std::span<const uint8_t>{bytes});
  co_return co_await node.write_compressed(offset, io.slice());
}
Async<Bytes> read_all(block::Node& node, uint64_t offset, size_t size) {
  Bytes out(size, 0xee);
  FlatIo io(std::span<uint8_t>{out});
  CO_TRY_VOID(co_await node.read(offset, io.slice()));
  co_return out;
}
Async<qcow2::CheckResult> check_and_close(qcow2::Image& image, qcow2::Repair repair,
                                          const qcow2::FindingSink& sink) {
  Result<qcow2::CheckResult> result = co_await qcow2::check(image, repair, sink);
  Result<void> closed = co_await image.close();
  if (result.ok() && !closed.ok()) co_return std::move(closed.error());
  co_return result;
}
}  // namespace

std::shared_ptr<SimulatedDisk> ImageBench::make(const qcow2::CreateOptions& options,
                                                std::shared_ptr<SimulatedDisk>* data) {
  auto disk = std::make_shared<SimulatedDisk>();
  SimulatedFile node(*executor_, disk, {});
  if (!options.data_file) {
    EXPECT_OK(run(create_on(*executor_, node, options, nullptr)));
    return disk;
  }
  *data = std::make_shared<SimulatedDisk>();
  SimulatedFile data_node(*executor_, *data, {});
  EXPECT_OK(run(create_on(*executor_, node, options, &data_node)));
  return disk;
}

Result<std::unique_ptr<qcow2::Image>> ImageBench::open(std::shared_ptr<SimulatedDisk> disk,
                                                       qcow2::OpenOptions options,
                                                       SimulatedFile::Options file) {
  if (!options.writable) file.writable = false;
  if (!options.message) {
    options.message = [this](std::string_view line) { messages.emplace_back(line); };
  }
  std::unique_ptr<block::Node> node =
      std::make_unique<SimulatedFile>(*executor_, std::move(disk), std::move(file));
  return run(qcow2::Image::open(*executor_, std::move(node), std::move(options)));
}

Result<std::unique_ptr<qcow2::Image>> ImageBench::open(std::shared_ptr<SimulatedDisk> disk) {
  qcow2::OpenOptions options;
  options.writable = true;
  return open(std::move(disk), std::move(options));
}

Result<void> ImageBench::write(block::Node& node, uint64_t offset, const Bytes& bytes) {
  return run(write_all(node, offset, bytes));
}
Result<void> ImageBench::write_compressed(qcow2::Image& node, uint64_t offset, const Bytes& bytes) {
  return run(write_packed(node, offset, bytes));
}
Result<Bytes> ImageBench::read(block::Node& node, uint64_t offset, size_t size) {
  return run(read_all(node, offset, size));
}
Result<void> ImageBench::zero(block::Node& node, ByteRange range, bool unmap) {
  block::ZeroFlags flags;
  flags.may_unmap = unmap;
  return run(node.write_zeroes(range, flags));
}
Result<void> ImageBench::discard(block::Node& node, ByteRange range) {
  return run(node.discard(range));
}
Result<void> ImageBench::flush(block::Node& node) {
  return run(node.flush());
}
Result<void> ImageBench::close(block::Node& node) {
  return run(node.close());
}

Result<qcow2::CheckResult> ImageBench::check(std::shared_ptr<SimulatedDisk> disk,
                                             qcow2::Repair repair, SimulatedFile::Options file) {
  qcow2::OpenOptions options;
  options.for_check = true;
  options.writable = repair != qcow2::Repair::kNone;
  TRY(auto image, open(std::move(disk), std::move(options), std::move(file)));
  qcow2::FindingSink sink = [this](std::string_view line) { messages.emplace_back(line); };
  return run(check_and_close(*image, repair, sink));
}

void ImageBench::expect_clean(std::shared_ptr<SimulatedDisk> disk, bool leaks_allowed) {
  messages.clear();
  Result<qcow2::CheckResult> result = check(std::move(disk));
  ASSERT_OK(result);
  EXPECT_EQ(result->corruptions, 0u);
  EXPECT_EQ(result->check_errors, 0u);
  EXPECT_TRUE(leaks_allowed || result->leaks == 0) << result->leaks << " leaks";
  if (testing::Test::HasFailure()) {
    for (size_t i = 0; i < messages.size() && i < 20; ++i)
      ADD_FAILURE() << messages[i];
  }
}

}  // namespace calf::test
