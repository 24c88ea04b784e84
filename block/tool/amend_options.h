// The options of amend -o. Contract section 4.2.
#pragma once

#include <string_view>

#include "block/crypto/secret_store.h"
#include "block/qcow2/amend.h"
#include "block/tool/option_list.h"

namespace calf::img {

bool can_amend(std::string_view format);
// The overview of `-o help`.
void print_amend_options(std::string_view format);

// Checked as far as possible without the image. `info` is the image's, for options that must not
// change (null for luks).
Result<qcow2::AmendOptions> amend_options(std::string_view format, const OptionList& list,
                                          const crypto::SecretStore& secrets, bool force,
                                          const qcow2::ImageInfo* info);

}  // namespace calf::img
