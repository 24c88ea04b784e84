#include "tests/support/crash_proof.h"

namespace calf::test {

std::function<Result<void>(const CrashProof::Disk&, const SimulatedFile::Options&)>
CrashProof::on_image(std::function<Result<void>(qcow2::Image&)> change) {
  return [this, change = std::move(change)](const Disk& disk, const SimulatedFile::Options& file) {
    qcow2::OpenOptions options;
    options.writable = true;
    auto image = bench_.open(disk, std::move(options), file);
    if (!image.ok()) return Result<void>(std::move(image.error()));
    Result<void> done = change(**image);
    Result<void> closed = bench_.close(**image);
    return done.ok() ? std::move(closed) : std::move(done);
  };
}

std::function<Result<void>(const CrashProof::Disk&, const SimulatedFile::Options&)>
CrashProof::repair(qcow2::Repair how) {
  return [this, how](const Disk& disk, const SimulatedFile::Options& file) {
    for (qcow2::Repair pass : {how, qcow2::Repair::kNone}) {
      auto result = bench_.check(disk, pass, file);
      if (!result.ok()) return Result<void>(std::move(result.error()));
      if (pass != qcow2::Repair::kNone) continue;
      if (result->corruptions + result->leaks + result->check_errors != 0) {
        return Result<void>(make_error(ErrorKind::kCorrupt, "The repair has left something"));
      }
    }
    return Result<void>();
  };
}

void CrashProof::cut_at(const SimulatedDisk& recorded, size_t prefix, std::mt19937_64* random) {
  SCOPED_TRACE(fmt::format("cut at {} of {}{}", prefix, recorded.log.size(),
                           random != nullptr ? ", reordered" : ""));
  auto after = std::make_shared<SimulatedDisk>();
  after->content = recorded.after_cut(prefix, random);
  bench_.messages.clear();
  look(after, prefix == recorded.log.size());
}

void CrashProof::power_cuts() {
  auto recorded = std::make_shared<SimulatedDisk>();
  recorded->content = before_->content;
  recorded->start_log();
  ASSERT_OK(operation(recorded, {}));
  const size_t length = recorded->log.size();
  ASSERT_NE(length, 0u) << "The operation has written nothing";
  const size_t step = 1 + length / max_prefixes;
  std::mt19937_64 random(length);
  for (size_t prefix = 0; prefix <= length; ++prefix) {
    const bool edge = prefix < 32 || prefix + 32 > length;
    if (!edge && prefix % step != 0) continue;
    cut_at(*recorded, prefix, nullptr);
    for (unsigned i = 0; i < random_cuts && !testing::Test::HasFailure(); ++i)
      cut_at(*recorded, prefix, &random);
    if (testing::Test::HasFailure()) return;
  }
}

bool CrashProof::fail_at(uint64_t n, int code, bool for_good) {
  SCOPED_TRACE(fmt::format("operation {} of the file fails with {}{}", n, code,
                           for_good ? ", as do all later ones" : ""));
  auto disk = std::make_shared<SimulatedDisk>();
  disk->content = before_->content;
  uint64_t count = 0;
  bool hit = false;
  SimulatedFile::Options file;
  file.fail = [&](SimulatedFile::Op op, ByteRange) {
    if (code == ENOSPC && op == SimulatedFile::Op::kRead) return 0;
    const bool fail = for_good ? count >= n : count == n;
    ++count;
    hit |= fail;
    return fail ? code : 0;
  };
  Result<void> done = operation(disk, file);
  if (!hit) {
    EXPECT_OK(done);
  }
  bench_.messages.clear();
  look(disk, done.ok());
  return hit;
}

void CrashProof::host_errors() {
  for (bool for_good : {false, true}) {
    for (int code : {EIO, ENOSPC}) {
      for (uint64_t n = 0; fail_at(n, code, for_good); ++n) {
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

}  // namespace calf::test
