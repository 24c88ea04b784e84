// The options of -o that concern encryption: "encrypt.NAME" of qcow2, plain "NAME" of luks.
// Contract sections 4.1 and 4.4.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "block/crypto/luks_keys.h"
#include "block/crypto/secret_store.h"
#include "block/qcow2/create.h"
#include "block/tool/option_list.h"

namespace calf::img {

// `prefix`: "encrypt." or nothing.
Result<crypto::LuksFormat> luks_format(const OptionList& list, std::string_view prefix);

// The secret that is named for a new image: it must be there.
Result<crypto::PassphraseSource> key_secret(const OptionList& list, std::string_view prefix,
                                            const crypto::SecretStore& secrets);

// Nothing if the image is not to be encrypted.
Result<std::optional<qcow2::EncryptOptions>> qcow2_encryption(const OptionList& list,
                                                              const crypto::SecretStore& secrets);

// The options for opening what was just created with `list`: where its passphrase is.
std::optional<std::pair<std::string, std::string>> key_secret_option(const OptionList& list);

}  // namespace calf::img
