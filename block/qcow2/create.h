// Writes a new, empty qcow2 file: header, refcount table, first refcount blocks, L1 table.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "block/base/result.h"
#include "block/crypto/luks_keys.h"
#include "block/crypto/secret_store.h"
#include "block/io/executor.h"
#include "block/node.h"
#include "block/qcow2/image_info.h"

namespace calf::qcow2 {

struct EncryptOptions {
  // kAes or kLuks.
  Encryption method = Encryption::kLuks;
  crypto::LuksFormat luks;
  crypto::PassphraseSource passphrase;
};

struct CreateOptions {
  // Virtual size in bytes; rounded up to 512.
  uint64_t size = 0;
  // 2 (compat 0.10) or 3 (compat 1.1).
  unsigned version = 3;
  uint64_t cluster_size = 65536;
  uint64_t refcount_bits = 16;
  Compression compression = Compression::kZlib;
  std::optional<std::string> backing_name;
  std::optional<std::string> backing_format;
  // What to note about the base (block/base_fingerprint.h).
  std::optional<std::vector<uint8_t>> base_fingerprint;
  // The name to record of a file for guest data.
  std::optional<std::string> data_file;
  bool data_file_raw = false;
  std::optional<EncryptOptions> encrypt;
  bool lazy_refcounts = false;
  bool extended_l2 = false;
  block::Preallocation preallocation = block::Preallocation::kOff;
};

// Bytes of the LUKS header of such an image, 0 without one.
uint64_t encryption_header_bytes(const CreateOptions& options);

// Errors carry qemu-img's texts (contract section 6.2).
Result<void> validate(const CreateOptions& options);

// Validates, then writes into `file`, whose content is dropped. `data` is the (empty) file that
// options.data_file names, else null. `options` outlives the await. On error the files are left as
// they are and should be removed by whoever made them.
Async<> create(Executor& executor, block::Node& file, const CreateOptions& options,
               block::Node* data = nullptr);

}  // namespace calf::qcow2
