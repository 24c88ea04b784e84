#include "block/qcow2/guest_data.h"

#include "block/crypto/encrypted_io.h"

namespace calf::qcow2 {

uint64_t GuestData::sector_of(uint64_t guest, uint64_t host) const {
  return (iv_ == IvFrom::kHostOffset ? host : guest) / crypto::kSectorSize;
}

Async<> GuestData::read(uint64_t guest, uint64_t host, IoSlice to) {
  if (cipher_ == nullptr) return file_->read(host, to);
  return crypto::read_encrypted(executor_, *cipher_, *file_, host, sector_of(guest, host), to);
}

Async<> GuestData::write(uint64_t guest, uint64_t host, IoSlice from) {
  if (cipher_ == nullptr) return file_->write(host, from);
  return crypto::write_encrypted(executor_, *cipher_, *file_, host, sector_of(guest, host), from);
}

}  // namespace calf::qcow2
