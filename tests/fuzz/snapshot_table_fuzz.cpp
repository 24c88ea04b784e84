// The input is a snapshot table (its first byte says how many entries the header claims) in an
// image that is sound otherwise. Whatever stands there: listing, reading, checking, repairing,
// applying and deleting end, and what -r all leaves is found clean.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "block/base/endian.h"
#include "block/qcow2/check.h"
#include "block/qcow2/create.h"
#include "block/qcow2/image.h"
#include "tests/support/simulated_file.h"

namespace calf::qcow2 {
namespace {

using Disk = std::shared_ptr<test::SimulatedDisk>;
constexpr uint64_t kCluster = 512;
constexpr size_t kMaxInput = 64 << 10;

Executor& executor() {
  static std::unique_ptr<Executor> one = [] {
    Executor::Options options;
    options.engine = Executor::Engine::kThreads;
    return std::move(*Executor::create(options));
  }();
  return *one;
}

Async<> make(block::Node& node) {
  CreateOptions options;
  options.size = 64 << 10;
  options.cluster_size = kCluster;
  co_return co_await create(executor(), node, options);
}

std::unique_ptr<Image> open(const Disk& disk, OpenOptions options) {
  test::SimulatedFile::Options file;
  std::unique_ptr<block::Node> node = std::make_unique<test::SimulatedFile>(executor(), disk, file);
  auto image = executor().run(Image::open(executor(), std::move(node), std::move(options)));
  return image.ok() ? std::move(*image) : nullptr;
}

void close(Image& image) {
  Result<void> ignored = executor().run(image.close());
  (void)ignored;
}

Result<CheckResult> check_once(const Disk& disk, Repair repair) {
  OpenOptions options;
  options.for_check = true;
  options.writable = repair != Repair::kNone;
  auto image = open(disk, options);
  if (!image) return make_error(ErrorKind::kCorrupt, "not opened");
  FindingSink sink = [](std::string_view) {};
  Result<CheckResult> result = executor().run(check(*image, repair, sink));
  close(*image);
  return result;
}

// Header, refcount table, block and L1 table stand in front of the table.
Disk image_with_table(uint8_t count, std::span<const uint8_t> table) {
  auto disk = std::make_shared<test::SimulatedDisk>();
  test::SimulatedFile node(executor(), disk, {});
  if (!executor().run(make(node)).ok()) std::abort();
  const uint64_t place = align_up(disk->content.size(), kCluster);
  disk->content.write(place, table);
  auto put = [&](uint64_t at, auto value) {
    disk->content.write(at, {reinterpret_cast<const uint8_t*>(&value), sizeof value});
  };
  put(60, be32(count));
  put(64, be64(place));
  return disk;
}

void one_input(std::span<const uint8_t> input) {
  const Disk disk = image_with_table(input[0], input.subspan(1));
  auto copy = [&] { return std::make_shared<test::SimulatedDisk>(*disk); };
  OpenOptions info;
  info.info_only = true;
  if (auto image = open(disk, info)) {
    (void)image->info();
    close(*image);
  }
  (void)check_once(disk, Repair::kNone);
  (void)check_once(copy(), Repair::kLeaks);
  OpenOptions options;
  options.writable = true;
  for (bool apply : {true, false}) {
    auto image = open(copy(), options);
    if (!image) continue;
    if (!image->info().snapshots.empty()) {
      Result<void> ignored =
          executor().run(apply ? image->apply_snapshot(0) : image->delete_snapshot(0));
      (void)ignored;
    }
    close(*image);
  }
  // A repair that found nothing it could not put right leaves nothing behind.
  const Disk repaired = copy();
  Result<CheckResult> first = check_once(repaired, Repair::kAll);
  if (!first.ok() || first->corruptions + first->check_errors != 0) return;
  Result<CheckResult> second = check_once(repaired, Repair::kNone);
  if (!second.ok() || second->corruptions + second->leaks != 0) std::abort();
}

}  // namespace
}  // namespace calf::qcow2

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > calf::qcow2::kMaxInput) return 0;
  calf::qcow2::one_input({data, size});
  return 0;
}
