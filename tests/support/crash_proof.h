// CrashProof: one operation on an image file, held against every way in which it can be cut short.
//
//     before ── operation (open … close) ──> log of writes and flushes
//                    │
//                    ├─ power_cuts():  every prefix of the log, whole and with what was not flushed
//                    │                 kept or lost sector by sector
//                    └─ host_errors(): operation after operation of the file fails, once and for
//                                      good, with EIO and ENOSPC
//
// What each of them leaves is given to `look`, which opens, checks and compares:
//
//     CrashProof proof(*this, make_filled());
//     proof.operation = proof.on_image([&](qcow2::Image& image) { return discard(image, range); });
//     proof.look = [&](const auto& disk, bool finished) {
//       expect_clean(disk, true);
//       …
//     };
//     proof.power_cuts();
//     proof.host_errors();
#pragma once

#include <functional>
#include <memory>

#include "tests/support/image_fixture.h"

namespace calf::test {

class CrashProof {
 public:
  using Disk = std::shared_ptr<SimulatedDisk>;

  // `before`: the file that the operation finds; it is copied, never changed.
  CrashProof(ImageBench& bench, Disk before) : bench_(bench), before_(std::move(before)) {}

  // The operation from open to close. Its file is made with these options. An error where nothing
  // was made to fail fails the test.
  std::function<Result<void>(const Disk& disk, const SimulatedFile::Options& file)> operation;
  // Examines what is left; may change it. `finished`: the operation had reported success, so what
  // it did must be there.
  std::function<void(const Disk& disk, bool finished)> look;
  // Reorderings tried at each prefix.
  unsigned random_cuts = 3;
  // Longer logs are sampled, with the first and the last points of them all there.
  size_t max_prefixes = 400;

  // The operation for an image that is opened for writing, changed by `change` and closed.
  std::function<Result<void>(const Disk&, const SimulatedFile::Options&)> on_image(
      std::function<Result<void>(qcow2::Image&)> change);
  // The operation `check -r`, which checks once more and succeeds if nothing is left.
  std::function<Result<void>(const Disk&, const SimulatedFile::Options&)> repair(qcow2::Repair how);

  void power_cuts();
  void host_errors();

 private:
  void cut_at(const SimulatedDisk& recorded, size_t prefix, std::mt19937_64* random);
  // False if the operation is over before number `n`.
  bool fail_at(uint64_t n, int code, bool for_good);

  ImageBench& bench_;
  Disk before_;
};

}  // namespace calf::test
