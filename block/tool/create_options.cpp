#include "block/tool/create_options.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <set>

#include "block/base_fingerprint.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

using enum OptionType;

constexpr OptionDescription kQcow2Options[] = {
    {"encryption", kSwitch, nullptr,
     "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)"},
    {"encrypt.format", kText, nullptr, "Encrypt the image, format choices: 'aes', 'luks'"},
    {"encrypt.key-secret", kText, nullptr,
     "ID of secret providing qcow AES key or LUKS passphrase"},
    {"encrypt.cipher-alg", kText, nullptr, "Name of encryption cipher algorithm"},
    {"encrypt.cipher-mode", kText, nullptr, "Name of encryption cipher mode"},
    {"encrypt.ivgen-alg", kText, nullptr, "Name of IV generator algorithm"},
    {"encrypt.ivgen-hash-alg", kText, nullptr, "Name of IV generator hash algorithm"},
    {"encrypt.hash-alg", kText, nullptr, "Name of encryption hash algorithm"},
    {"encrypt.iter-time", kNumber, nullptr, "Time to spend in PBKDF in milliseconds"},
    {"cluster_size", kSize, "65536", "qcow2 cluster size"},
    {"extended_l2", kSwitch, "off", "Extended L2 tables"},
    {"preallocation", kText, nullptr,
     "Preallocation mode (allowed values: off, metadata, falloc, full)"},
    {"compression_type", kText, "zlib", "Compression method used for image cluster compression"},
    {"size", kSize, nullptr, "Virtual disk size"},
    {"compat", kText, nullptr, "Compatibility level (v2 [0.10] or v3 [1.1])"},
    {"backing_file", kText, nullptr, "File name of a base image"},
    {"backing_fmt", kText, nullptr, "Image format of the base image"},
    {"data_file", kText, nullptr, "File name of an external data file"},
    {"data_file_raw", kSwitch, nullptr, "The external data file must stay valid as a raw image"},
    {"lazy_refcounts", kSwitch, "off", "Postpone refcount updates"},
    {"refcount_bits", kNumber, "16", "Width of a reference count entry in bits"},
};

constexpr OptionDescription kLuksOptions[] = {
    {"size", kSize, nullptr, "Virtual disk size"},
    {"key-secret", kText, nullptr, "ID of the secret that provides the keyslot passphrase"},
    {"cipher-alg", kText, nullptr, "Name of encryption cipher algorithm"},
    {"cipher-mode", kText, nullptr, "Name of encryption cipher mode"},
    {"ivgen-alg", kText, nullptr, "Name of IV generator algorithm"},
    {"ivgen-hash-alg", kText, nullptr, "Name of IV generator hash algorithm"},
    {"hash-alg", kText, nullptr, "Name of encryption hash algorithm"},
    {"iter-time", kNumber, nullptr, "Time to spend in PBKDF in milliseconds"},
};

constexpr OptionDescription kRawOptions[] = {{"size", kSize, nullptr, "Virtual disk size"}};

constexpr OptionDescription kFileOptions[] = {
    {"size", kSize, nullptr, "Virtual disk size"},
    {"nocow", kSwitch, nullptr, "Turn off copy-on-write (valid only on btrfs)"},
    {"preallocation", kText, nullptr, "Preallocation mode (allowed values: off, falloc, full)"},
    {"extent_size_hint", kSize, nullptr, "Extent size hint for the image file, 0 to disable"},
};

std::optional<uint64_t> parse_number(std::string_view text) {
  // A minus sign counts down from 2^64, as strtoull() has it.
  bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  uint64_t value = 0;
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
    text.remove_prefix(2);
  }
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return negative ? -value : value;
}

std::string shown_value(const OptionDescription& option, const std::string& value) {
  switch (option.type) {
    case kSize: {
      Result<uint64_t> size = parse_size(value);
      return size.ok() ? std::to_string(*size) : value;
    }
    case kNumber:
      return std::to_string(static_cast<int64_t>(parse_number(value).value_or(0)));
    default: {
      std::string doubled;
      for (char c : value)
        doubled += c == ',' ? ",," : std::string(1, c);
      return doubled;
    }
  }
}

const char* type_name(OptionType type) {
  switch (type) {
    case kText:
      return "str";
    case kSize:
      return "size";
    case kNumber:
      return "num";
    case kSwitch:
      return "bool (on/off)";
  }
  return "";
}

}  // namespace

Result<void> check_option_value(const OptionDescription& option, std::string_view value) {
  switch (option.type) {
    case kText:
      return {};
    case kSwitch:
      if (value == "on" || value == "off") return {};
      return make_error(ErrorKind::kInvalid, "Parameter '{}' expects 'on' or 'off'", option.name);
    case kNumber:
      if (parse_number(value)) return {};
      return make_error(ErrorKind::kInvalid, "Parameter '{}' expects a number", option.name);
    case kSize: {
      Result<uint64_t> size = parse_size(value);
      if (size.ok()) return {};
      if (size.error().kind() == ErrorKind::kNoSpace) {
        return make_error(ErrorKind::kInvalid, "Value '{}' is out of range for parameter '{}'",
                          value, option.name);
      }
      return make_error(
          ErrorKind::kInvalid,
          "Parameter '{}' expects a non-negative number below 2^64\n"
          "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
          "and exabytes, respectively.",
          option.name);
    }
  }
  return {};
}

std::string option_line(const OptionDescription& option) {
  std::string name = fmt::format("  {}=<{}>", option.name, type_name(option.type));
  return fmt::format("{:<24} - {}", name, option.help);
}

std::vector<OptionDescription> create_options(std::string_view format, bool protocol) {
  std::vector<OptionDescription> all;
  if (format == "qcow2") {
    all.assign(std::begin(kQcow2Options), std::end(kQcow2Options));
  } else if (format == "luks") {
    all.assign(std::begin(kLuksOptions), std::end(kLuksOptions));
  } else if (format == "raw") {
    all.assign(std::begin(kRawOptions), std::end(kRawOptions));
  }
  if (!protocol || all.empty()) return all;
  for (const OptionDescription& option : kFileOptions) {
    bool known = std::any_of(all.begin(), all.end(), [&](const OptionDescription& o) {
      return std::string_view(o.name) == option.name;
    });
    if (!known) all.push_back(option);
  }
  return all;
}

Error cannot_create(std::string_view format) {
  // Those that QEMU knows; nobody need look for a misspelling.
  static constexpr std::string_view kKnown[] = {"bochs", "cloop", "dmg", "null-co", "parallels",
                                                "qcow",  "qed",   "vdi", "vhdx",    "vmdk",
                                                "vpc",   "vvfat", "nbd", "blkdebug"};
  bool known = std::find(std::begin(kKnown), std::end(kKnown), format) != std::end(kKnown);
  if (known) {
    return make_error(ErrorKind::kUnsupported, "Format driver '{}' does not support image creation",
                      format);
  }
  return make_error(ErrorKind::kUnsupported, "Unknown file format '{}'", format);
}

void print_create_options(std::string_view format, bool with_file) {
  if (with_file) {
    put("Supported options:\n");
  } else {
    put("Supported {} options:\n", format);
  }
  std::set<std::string> lines;
  for (const OptionDescription& option : create_options(format, with_file)) {
    lines.insert(option_line(option));
  }
  for (const std::string& line : lines)
    put("{}\n", line);
  if (!with_file) {
    put("\nThe protocol level may support further options.\n"
        "Specify the target filename to include those options.\n");
  }
}

Result<CreateOptions> CreateOptions::parse(std::string_view format, const OptionList& list) {
  std::vector<OptionDescription> known = create_options(format, true);
  for (const auto& item : list.items()) {
    const std::string& name = item.first;
    auto option = std::find_if(known.begin(), known.end(),
                               [&](const OptionDescription& o) { return name == o.name; });
    if (option == known.end()) {
      return make_error(ErrorKind::kInvalid, "Invalid parameter '{}'", name);
    }
    TRY_VOID(check_option_value(*option, item.second));
  }
  CreateOptions options;
  options.list_ = list;
  return options;
}

std::optional<uint64_t> CreateOptions::number(std::string_view name) const {
  std::optional<std::string> value = list_.get(name);
  if (!value) return std::nullopt;
  if (std::optional<uint64_t> plain = parse_number(*value)) return plain;
  Result<uint64_t> size = parse_size(*value);
  return size.ok() ? std::optional<uint64_t>(*size) : std::nullopt;
}

bool CreateOptions::is_on(std::string_view name) const {
  return list_.get(name) == "on";
}

std::string CreateOptions::formatting(std::string_view format) const {
  std::string text;
  for (const OptionDescription& option : create_options(format, true)) {
    std::optional<std::string> value = list_.get(option.name);
    if (!value && option.shown_default != nullptr) value = option.shown_default;
    if (value) text += fmt::format(" {}={}", option.name, shown_value(option, *value));
  }
  return text;
}

Result<qcow2::CreateOptions> CreateOptions::for_qcow2(const crypto::SecretStore& secrets) const {
  using block::Preallocation;
  auto bad_value = [](const char* parameter, const std::string& value) {
    return make_error(ErrorKind::kInvalid, "Parameter '{}' does not accept value '{}'", parameter,
                      value);
  };
  qcow2::CreateOptions options;
  TRY(options.encrypt, qcow2_encryption(list_, secrets));
  options.size = number("size").value_or(0);
  options.cluster_size = number("cluster_size").value_or(options.cluster_size);
  options.refcount_bits = number("refcount_bits").value_or(options.refcount_bits);
  options.backing_name = text("backing_file");
  options.backing_format = text("backing_fmt");
  options.base_fingerprint = base_fingerprint_;
  options.lazy_refcounts = is_on("lazy_refcounts");
  options.extended_l2 = is_on("extended_l2");
  options.data_file = text("data_file");
  options.data_file_raw = is_on("data_file_raw");
  std::string compat = text("compat").value_or("1.1");
  if (compat == "0.10" || compat == "v2") {
    options.version = 2;
  } else if (compat != "1.1" && compat != "v3") {
    return bad_value("version", compat);
  }
  std::string compression = text("compression_type").value_or("zlib");
  if (compression == "zstd") {
    options.compression = qcow2::Compression::kZstd;
  } else if (compression != "zlib") {
    return bad_value("compression-type", compression);
  }
  std::string preallocation = text("preallocation").value_or("off");
  if (preallocation == "metadata") {
    options.preallocation = Preallocation::kMetadata;
  } else if (preallocation == "falloc") {
    options.preallocation = Preallocation::kFalloc;
  } else if (preallocation == "full") {
    options.preallocation = Preallocation::kFull;
  } else if (preallocation != "off") {
    return bad_value("preallocation", preallocation);
  }
  return options;
}

Async<> CreateOptions::note_base(const Context& context, std::string path, std::string format) {
  std::string recorded = text("backing_file").value_or("");
  if (context.exact() || recorded.empty()) co_return Result<void>();
  CO_TRY(base_fingerprint_, co_await block::fingerprint_base(context.executor, context.formats,
                                                             path, format, recorded));
  co_return Result<void>();
}

Result<luks::CreateOptions> CreateOptions::for_luks(const crypto::SecretStore& secrets) const {
  luks::CreateOptions options;
  options.size = number("size").value_or(0);
  TRY(options.preallocation, raw_preallocation());
  TRY(options.format, luks_format(list_, ""));
  TRY(options.passphrase, img::key_secret(list_, "", secrets));
  return options;
}

Result<block::Preallocation> CreateOptions::raw_preallocation() const {
  using block::Preallocation;
  std::string mode = text("preallocation").value_or("off");
  if (mode == "off") return Preallocation::kOff;
  if (mode == "falloc") return Preallocation::kFalloc;
  if (mode == "full") return Preallocation::kFull;
  if (mode == "metadata") {
    return make_error(ErrorKind::kInvalid, "Unsupported preallocation mode: {}", mode);
  }
  return make_error(ErrorKind::kInvalid, "invalid parameter value: {}", mode);
}

}  // namespace calf::img
