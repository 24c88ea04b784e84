// The input is a program: three bytes of geometry, then operations of four bytes each on a new
// image, held against a flat array. Every read agrees with it, and the image is clean at the end.
//
//     kind (write, zero, discard, compressed, flush, reopen, grow, fail) | where | how long |
//     pattern
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "block/qcow2/check.h"
#include "block/qcow2/create.h"
#include "block/qcow2/image.h"
#include "tests/support/simulated_file.h"

namespace calf::qcow2 {
namespace {

constexpr size_t kMaxInput = 4096;
constexpr uint64_t kSectors = 512;
using Bytes = std::vector<uint8_t>;

class Program {
 public:
  explicit Program(std::span<const uint8_t> input) : input_(input) {
    Executor::Options options;
    options.engine = Executor::Engine::kThreads;
    static std::unique_ptr<Executor> one = std::move(*Executor::create(options));
    executor_ = one.get();
  }
  void run();

 private:
  static void expect(bool fact) {
    if (!fact) std::abort();
  }
  Async<> make(block::Node& node, CreateOptions options) {
    co_return co_await create(*executor_, node, options);
  }
  void open();
  void close() { expect(executor_->run(image_->close()).ok()); }
  void step(std::span<const uint8_t> op);
  void write(ByteRange range, uint8_t tag, bool compressed);
  void expect_same();
  void expect_clean();

  std::span<const uint8_t> input_;
  Executor* executor_;
  std::shared_ptr<test::SimulatedDisk> disk_ = std::make_shared<test::SimulatedDisk>();
  std::unique_ptr<Image> image_;
  Bytes flat_;
};

Async<> write_plain(Image& image, uint64_t offset, const Bytes& bytes) {
  FlatIo io(std::span<const uint8_t>{bytes});
  co_return co_await image.write(offset, io.slice(), {});
}
Async<> write_packed(Image& image, uint64_t offset, const Bytes& bytes) {
  FlatIo io(std::span<const uint8_t>{bytes});
  co_return co_await image.write_compressed(offset, io.slice());
}
Async<> read_all(Image& image, Bytes& bytes) {
  FlatIo io(std::span<uint8_t>{bytes});
  co_return co_await image.read(0, io.slice());
}

void Program::open() {
  test::SimulatedFile::Options file;
  std::unique_ptr<block::Node> node =
      std::make_unique<test::SimulatedFile>(*executor_, disk_, file);
  OpenOptions options;
  options.writable = true;
  auto image = executor_->run(Image::open(*executor_, std::move(node), std::move(options)));
  expect(image.ok());
  image_ = std::move(*image);
}

void Program::write(ByteRange range, uint8_t tag, bool compressed) {
  if (compressed) {
    const uint64_t cluster = image_->limits().cluster_size;
    range.offset = align_down(range.offset, cluster);
    range.length = std::min(cluster, flat_.size() - range.offset);
  }
  Bytes bytes(range.length);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<uint8_t>(tag + (tag & 1) * (i / 7));
  Result<void> done = executor_->run(compressed ? write_packed(*image_, range.offset, bytes)
                                                : write_plain(*image_, range.offset, bytes));
  expect(done.ok());
  std::copy(bytes.begin(), bytes.end(), flat_.begin() + static_cast<ptrdiff_t>(range.offset));
}

void Program::step(std::span<const uint8_t> op) {
  const uint64_t sectors = flat_.size() / 512;
  const uint64_t first = op[1] * sectors / 256;
  const uint64_t count = std::min<uint64_t>(1 + op[2] % 64, sectors - first);
  const ByteRange range{first * 512, count * 512};
  auto clear = [&] {
    std::fill_n(flat_.begin() + static_cast<ptrdiff_t>(range.offset), range.length, 0);
  };
  switch (op[0] % 8) {
    case 0:
    case 1:
      return write(range, op[3], false);
    case 2:
      return write(range, op[3], true);
    case 3: {
      block::ZeroFlags flags;
      flags.may_unmap = (op[3] & 1) != 0;
      expect(executor_->run(image_->write_zeroes(range, flags)).ok());
      return clear();
    }
    case 4: {
      expect(executor_->run(image_->discard(range)).ok());
      // Parts of clusters keep what they hold.
      Bytes now(flat_.size());
      expect(executor_->run(read_all(*image_, now)).ok());
      for (uint64_t at = range.offset; at < range.end(); ++at)
        expect(now[at] == flat_[at] || now[at] == 0);
      flat_ = std::move(now);
      return;
    }
    case 5:
      return expect(executor_->run(image_->flush()).ok());
    case 6:
      close();
      return open();
    default: {
      const uint64_t size = flat_.size() + 512 * (1 + op[3] % 32);
      expect(executor_->run(image_->truncate(size, block::Preallocation::kOff)).ok());
      flat_.resize(size);
    }
  }
}

void Program::expect_same() {
  Bytes now(flat_.size(), 0xee);
  expect(executor_->run(read_all(*image_, now)).ok());
  expect(now == flat_);
}

void Program::expect_clean() {
  test::SimulatedFile::Options file;
  std::unique_ptr<block::Node> node =
      std::make_unique<test::SimulatedFile>(*executor_, disk_, file);
  OpenOptions options;
  options.for_check = true;
  auto image = executor_->run(Image::open(*executor_, std::move(node), std::move(options)));
  expect(image.ok());
  FindingSink sink = [](std::string_view) {};
  Result<CheckResult> result = executor_->run(check(**image, Repair::kNone, sink));
  expect(result.ok() && result->corruptions + result->leaks + result->check_errors == 0);
  expect(executor_->run((*image)->close()).ok());
}

void Program::run() {
  CreateOptions options;
  options.version = (input_[0] & 1) != 0 ? 3 : 2;
  options.cluster_size = uint64_t{512} << (input_[0] >> 1) % 5;
  if (options.version == 3) {
    options.refcount_bits = uint64_t{1} << input_[1] % 7;
    options.lazy_refcounts = (input_[2] & 1) != 0;
    options.compression = (input_[2] & 2) != 0 ? Compression::kZstd : Compression::kZlib;
  }
  options.size = kSectors * 512;
  flat_.assign(options.size, 0);
  {
    test::SimulatedFile node(*executor_, disk_, {});
    expect(executor_->run(make(node, options)).ok());
  }
  open();
  for (size_t at = 3; at + 4 <= input_.size(); at += 4)
    step(input_.subspan(at, 4));
  expect_same();
  close();
  expect_clean();
}

}  // namespace
}  // namespace calf::qcow2

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3 || size > calf::qcow2::kMaxInput) return 0;
  calf::qcow2::Program program({data, size});
  program.run();
  return 0;
}
