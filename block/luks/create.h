// Writes a new LUKS1 volume: header and one key slot. The payload is left as it is, noise.
#pragma once

#include "block/crypto/luks_keys.h"
#include "block/crypto/secret_store.h"
#include "block/io/executor.h"
#include "block/node.h"

namespace calf::luks {

struct CreateOptions {
  // Of the disk, in bytes; rounded up to 512.
  uint64_t size = 0;
  crypto::LuksFormat format;
  crypto::PassphraseSource passphrase;
  // Of the whole file.
  block::Preallocation preallocation = block::Preallocation::kOff;
};

// Bytes of the file of such a volume; an error if there cannot be one.
Result<uint64_t> file_size(const CreateOptions& options);

// `file` loses its content. `options` outlives the await.
Async<> create(Executor& executor, block::Node& file, const CreateOptions& options);

}  // namespace calf::luks
