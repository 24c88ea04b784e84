#include "block/luks/create.h"

#include <cerrno>

#include "block/luks/luks_file.h"

namespace calf::luks {

Result<uint64_t> file_size(const CreateOptions& options) {
  TRY(crypto::LuksFormat format, crypto::complete(options.format));
  const uint64_t begin = crypto::new_luks_payload_offset(crypto::key_size(format.cipher));
  if (options.size > static_cast<uint64_t>(INT64_MAX) - 511 - begin) {
    return Error(ErrorKind::kNoSpace, EFBIG, "The requested file size is too large");
  }
  return begin + align_up(options.size, 512);
}

Async<> create(Executor& executor, block::Node& file, const CreateOptions& options) {
  CO_TRY(crypto::LuksFormat format, crypto::complete(options.format));
  CO_TRY(uint64_t size, file_size(options));
  CO_TRY(crypto::SecretBytes passphrase, options.passphrase());
  CO_TRY_VOID(co_await file.truncate(0, block::Preallocation::kOff));
  LuksFile store(file);
  CO_TRY(crypto::LuksVolume volume,
         co_await crypto::format_luks(executor, store, format, passphrase));
  (void)volume;
  co_return co_await file.truncate(size, options.preallocation);
}

}  // namespace calf::luks
