#include "block/tool/amend_options.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <span>

#include "block/tool/context.h"
#include "block/tool/create_options.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

using enum OptionType;

constexpr OptionDescription kQcow2[] = {
    {"backing_file", kText, nullptr, "File name of a base image"},
    {"backing_fmt", kText, nullptr, "Image format of the base image"},
    {"compat", kText, nullptr, "Compatibility level (v2 [0.10] or v3 [1.1])"},
    {"data_file", kText, nullptr, "File name of an external data file"},
    {"data_file_raw", kSwitch, nullptr, "The external data file must stay valid as a raw image"},
    {"encrypt.iter-time", kNumber, nullptr, "Time to spend in PBKDF in milliseconds"},
    {"encrypt.keyslot", kNumber, nullptr, "Select a single keyslot to modify explicitly"},
    {"encrypt.new-secret", kText, nullptr,
     "New secret to set in the matching keyslots. Empty string to erase"},
    {"encrypt.old-secret", kText, nullptr, "Select all keyslots that match this password"},
    {"encrypt.state", kText, nullptr, "Select new state of affected keyslots (active/inactive)"},
    {"lazy_refcounts", kSwitch, nullptr, "Postpone refcount updates"},
    {"refcount_bits", kNumber, nullptr, "Width of a reference count entry in bits"},
    {"size", kSize, nullptr, "Virtual disk size"},
};
constexpr OptionDescription kLuks[] = {
    {"iter-time", kNumber, nullptr, "Time to spend in PBKDF in milliseconds"},
    {"keyslot", kNumber, nullptr, "Select a single keyslot to modify explicitly"},
    {"new-secret", kText, nullptr,
     "New secret to set in the matching keyslots. Empty string to erase"},
    {"old-secret", kText, nullptr, "Select all keyslots that match this password"},
    {"state", kText, nullptr, "Select new state of affected keyslots (active/inactive)"},
};

std::span<const OptionDescription> known_options(std::string_view format) {
  if (format == "qcow2") return kQcow2;
  if (format == "luks") return kLuks;
  return {};
}

Result<void> check_names(std::string_view format, const OptionList& list) {
  for (const auto& item : list.items()) {
    const std::string& name = item.first;
    auto is_it = [&](const OptionDescription& option) { return name == option.name; };
    std::span<const OptionDescription> known = known_options(format);
    auto option = std::find_if(known.begin(), known.end(), is_it);
    if (option != known.end()) {
      TRY_VOID(check_option_value(*option, item.second));
      continue;
    }
    std::vector<OptionDescription> others = create_options(format, false);
    const bool at_creation = std::any_of(others.begin(), others.end(), is_it);
    return make_error(ErrorKind::kInvalid, "Invalid parameter '{}'{}", name,
                      at_creation ? "\nThis option is only supported for image creation" : "");
  }
  return {};
}

Result<std::optional<crypto::LuksKeyChange>> key_change(const OptionList& list,
                                                        std::string_view prefix,
                                                        const crypto::SecretStore& secrets,
                                                        bool force) {
  auto get = [&](const char* name) { return list.get(std::string(prefix) + name); };
  const bool any = std::any_of(list.items().begin(), list.items().end(), [&](const auto& item) {
    return !prefix.empty() ? item.first.starts_with(prefix) : true;
  });
  if (!any) return std::optional<crypto::LuksKeyChange>();
  crypto::LuksKeyChange change;
  change.force = force;
  std::optional<std::string> state = get("state");
  if (!state) return make_error(ErrorKind::kInvalid, "Parameter '{}state' is missing", prefix);
  if (*state != "active" && *state != "inactive") {
    return make_error(ErrorKind::kInvalid, "Parameter 'state' does not accept value '{}'", *state);
  }
  change.activate = *state == "active";
  if (auto number = get("keyslot")) {
    TRY(change.slot, parse_size(*number));
  }
  if (auto number = get("iter-time")) {
    TRY(change.iter_time, parse_size(*number));
  }
  if (auto id = get("old-secret")) {
    TRY(change.old_passphrase, secrets.passphrase(*id));
  }
  if (auto id = get("new-secret")) {
    TRY(change.new_passphrase, secrets.passphrase(*id));
  }
  return std::optional(std::move(change));
}

Result<void> check_fixed(const OptionList& list, const qcow2::ImageInfo& info) {
  if (list.get("backing_file") && list.get("backing_file") != info.backing_name.value_or("")) {
    return Error(ErrorKind::kInvalid,
                 "Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.");
  }
  if (list.get("backing_fmt") && list.get("backing_fmt") != info.backing_format.value_or("")) {
    return Error(ErrorKind::kInvalid,
                 "Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.");
  }
  if (list.get("data_file") && !info.has_data_file) {
    return Error(ErrorKind::kInvalid,
                 "data-file can only be set for images that use an external data file");
  }
  if (list.get("data_file_raw") == "on" && !info.data_file_raw) {
    return Error(ErrorKind::kInvalid, "data-file-raw cannot be set on existing images");
  }
  return {};
}

}  // namespace

bool can_amend(std::string_view format) {
  return !known_options(format).empty();
}

void print_amend_options(std::string_view format) {
  put("Amend options for '{}':\n", format);
  for (const OptionDescription& option : known_options(format))
    put("{}\n", option_line(option));
}

Result<qcow2::AmendOptions> amend_options(std::string_view format, const OptionList& list,
                                          const crypto::SecretStore& secrets, bool force,
                                          const qcow2::ImageInfo* info) {
  TRY_VOID(check_names(format, list));
  qcow2::AmendOptions options;
  TRY(options.keys, key_change(list, format == "qcow2" ? "encrypt." : "", secrets, force));
  if (format != "qcow2" || info == nullptr) return options;
  TRY_VOID(check_fixed(list, *info));
  if (list.get("data_file") != info->data_file) options.data_file = list.get("data_file");
  options.drop_data_file_raw = list.get("data_file_raw") == "off" && info->data_file_raw;
  if (auto compat = list.get("compat")) {
    if (*compat == "0.10" || *compat == "v2") {
      options.version = 2;
    } else if (*compat == "1.1" || *compat == "v3") {
      options.version = 3;
    } else {
      return make_error(ErrorKind::kInvalid, "Unknown compatibility level {}", *compat);
    }
  }
  if (auto lazy = list.get("lazy_refcounts")) options.lazy_refcounts = *lazy == "on";
  if (auto bits = list.get("refcount_bits")) {
    TRY(options.refcount_bits, parse_size(*bits));
  }
  if (auto size = list.get("size")) {
    TRY(options.size, parse_size(*size));
  }
  return options;
}

}  // namespace calf::img
