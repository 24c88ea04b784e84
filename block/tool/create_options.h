// The options of -o for new images: which there are, in the order of the `Formatting` line, and how
// to turn them into what an engine wants. Contract section 4.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/crypto/secret_store.h"
#include "block/luks/create.h"
#include "block/node.h"
#include "block/qcow2/create.h"
#include "block/tool/context.h"
#include "block/tool/encrypt_options.h"
#include "block/tool/option_list.h"

namespace calf::img {

enum class OptionType : uint8_t { kText, kSize, kNumber, kSwitch };

struct OptionDescription {
  const char* name;
  OptionType type;
  // Null: not shown unless given.
  const char* shown_default;
  const char* help;
};

// Is `value` one for the option? The errors of contract section 2.1.
Result<void> check_option_value(const OptionDescription& option, std::string_view value);
// Its line in an overview.
std::string option_line(const OptionDescription& option);

// Those of the format, then, with `protocol`, those of the file below it. Empty for formats that
// cannot be created.
std::vector<OptionDescription> create_options(std::string_view format, bool protocol);

// Why images of that format cannot be created.
Error cannot_create(std::string_view format);

// The overview of `-o help`; the options of the file too if the target is known.
void print_create_options(std::string_view format, bool with_file);

// Checked values: every name is known, every value fits its type.
class CreateOptions {
 public:
  static Result<CreateOptions> parse(std::string_view format, const OptionList& list);

  std::optional<std::string> text(std::string_view name) const { return list_.get(name); }
  std::optional<uint64_t> number(std::string_view name) const;
  bool is_on(std::string_view name) const;
  // The options with which the new image is opened: where its passphrase is.
  std::optional<std::pair<std::string, std::string>> key_secret() const {
    return key_secret_option(list_);
  }
  void set(std::string_view name, std::string_view value) { list_.set(name, value); }

  // Notes in the new overlay what its base looks like now (block/base_fingerprint.h). Nothing if
  // the program stands in for qemu-img, whose users may change a base after they made its overlays.
  Async<> note_base(const Context& context, std::string path, std::string format);

  // " name=value name=value" in the order of the table, defaults included.
  std::string formatting(std::string_view format) const;

  // Not yet validated as a whole.
  Result<qcow2::CreateOptions> for_qcow2(const crypto::SecretStore& secrets) const;
  // A luks volume.
  Result<luks::CreateOptions> for_luks(const crypto::SecretStore& secrets) const;
  // Of a raw file.
  Result<block::Preallocation> raw_preallocation() const;

 private:
  OptionList list_;
  std::optional<std::vector<uint8_t>> base_fingerprint_;
};

}  // namespace calf::img
