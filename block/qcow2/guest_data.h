// GuestData: moves guest bytes between memory and their place in the file, encrypted if the image
// is. All data clusters are read and written here and nowhere else, so no plain text reaches the
// file of an encrypted image.
//
//     guest memory ──copy──> bounce buffer ──encrypt──> file        (the guest's memory is never
//     guest memory <──copy── bounce buffer <──decrypt── file         changed or shown half-way)
//
// The sector number that gives the initialisation vector: LUKS counts from the begin of the file
// (host offset), the legacy AES from the begin of the disk (guest offset).
#pragma once

#include <cstdint>
#include <memory>

#include "block/crypto/sector_cipher.h"
#include "block/io/executor.h"
#include "block/io/io_slice.h"
#include "block/qcow2/host_file.h"

namespace calf::qcow2 {

class GuestData {
 public:
  GuestData(Executor& executor, HostFile& file) : executor_(executor), file_(&file) {}

  enum class IvFrom : uint8_t { kHostOffset, kGuestOffset };
  void set_cipher(std::unique_ptr<crypto::SectorCipher> cipher, IvFrom iv) {
    cipher_ = std::move(cipher);
    iv_ = iv;
  }
  // The image has an external data file.
  void set_file(HostFile& file) { file_ = &file; }
  bool encrypted() const { return cipher_ != nullptr; }

  // `guest` bytes stand at `host`, one to one for the length of the slice. Of encrypted images,
  // whole sectors.
  Async<> read(uint64_t guest, uint64_t host, IoSlice to);
  Async<> write(uint64_t guest, uint64_t host, IoSlice from);

 private:
  uint64_t sector_of(uint64_t guest, uint64_t host) const;

  Executor& executor_;
  HostFile* file_;
  std::unique_ptr<crypto::SectorCipher> cipher_;
  IvFrom iv_ = IvFrom::kHostOffset;
};

}  // namespace calf::qcow2
