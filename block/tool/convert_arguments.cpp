#include "block/tool/convert_arguments.h"

#include <charconv>

#include "block/tool/create_options.h"
#include "block/tool/options.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

constexpr int kTargetImageOpts = kLongOnly;
constexpr int kTargetIsZero = kLongOnly + 1;
constexpr int kBitmaps = kLongOnly + 2;
constexpr int kSkipBrokenBitmaps = kLongOnly + 3;
constexpr int kSalvage = kLongOnly + 4;

constexpr Option kOptions[] = {{nullptr, 'f', true},
                               {nullptr, 'O', true},
                               {nullptr, 'B', true},
                               {nullptr, 'F', true},
                               {nullptr, 'C'},
                               {nullptr, 'c'},
                               {nullptr, 'o', true},
                               {nullptr, 'l', true},
                               {nullptr, 'S', true},
                               {nullptr, 'p'},
                               {nullptr, 't', true},
                               {nullptr, 'T', true},
                               {nullptr, 'q'},
                               {nullptr, 'n'},
                               {nullptr, 'm', true},
                               {nullptr, 'W'},
                               {nullptr, 'r', true},
                               {"force-share", 'U'},
                               {"target-image-opts", 0, false, kTargetImageOpts},
                               {"target-is-zero", 0, false, kTargetIsZero},
                               {"bitmaps", 0, false, kBitmaps},
                               {"skip-broken-bitmaps", 0, false, kSkipBrokenBitmaps},
                               {"salvage", 0, false, kSalvage},
                               kForceOption,
                               kObjectOption,
                               kImageOptsOption};

constexpr uint64_t kMaxSparse = uint64_t{16} << 20;
constexpr unsigned kMaxParallel = 16;

class Parser {
 public:
  Parser(const Context& context, ConvertArguments* args) : context_(context), args_(*args) {}
  std::optional<int> option(int code, const std::string& value);
  // After all options.
  std::optional<int> check();

 private:
  std::optional<int> fail(std::string_view text) {
    context_.error(text);
    return kExitFailure;
  }
  std::optional<int> cache_option(block::CacheMode* mode, const char* what,
                                  const std::string& value);
  std::optional<int> sparse_option(const std::string& value);
  std::optional<int> parallel_option(const std::string& value);

  const Context& context_;
  ConvertArguments& args_;
  bool sparse_given_ = false;
  bool format_given_ = false;
};

std::optional<int> Parser::cache_option(block::CacheMode* mode, const char* what,
                                        const std::string& value) {
  std::optional<block::CacheMode> parsed = block::parse_cache_mode(value);
  if (!parsed) return fail(fmt::format("Invalid {} option: {}", what, value));
  *mode = *parsed;
  return std::nullopt;
}

std::optional<int> Parser::sparse_option(const std::string& value) {
  std::optional<uint64_t> size = size_argument(context_, "buffer size for sparse output", value);
  if (!size) return kExitFailure;
  if (*size % 512 != 0 || *size > kMaxSparse) {
    return fail(fmt::format(
        "Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to "
        "{}. Select 0 to disable sparse detection (fully allocates output).",
        kMaxSparse));
  }
  args_.sparse = *size;
  sparse_given_ = true;
  return std::nullopt;
}

std::optional<int> Parser::parallel_option(const std::string& value) {
  unsigned number = 0;
  auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || *end != 0 || number < 1 || number > kMaxParallel) {
    return fail(fmt::format(
        "Invalid number of coroutines. Allowed number of coroutines is between 1 and {}",
        kMaxParallel));
  }
  args_.parallel = number;
  return std::nullopt;
}

std::optional<int> Parser::option(int code, const std::string& value) {
  switch (code) {
    case 'f':
      args_.source_format = value;
      break;
    case 'O':
      args_.target_format = value;
      format_given_ = true;
      break;
    case 'B':
      args_.backing = value;
      break;
    case 'F':
      args_.backing_format = value;
      break;
    case 'C':
      args_.offload = true;
      break;
    case 'c':
      args_.compress = true;
      break;
    case 'o':
      if (!is_valid_option_list(value)) {
        return fail(fmt::format("Invalid option list: {}", value));
      }
      args_.options += (args_.options.empty() ? "" : ",") + value;
      break;
    case 'l': {
      Result<ops::SnapshotChoice> choice = parse_snapshot_option(value);
      if (!choice.ok()) {
        context_.error(choice.error());
        return fail(fmt::format("Failed in parsing snapshot param '{}'", value));
      }
      args_.snapshot = std::move(*choice);
      break;
    }
    case 'S':
      return sparse_option(value);
    case 'p':
      args_.progress = true;
      break;
    case 't':
      return cache_option(&args_.target_cache, "cache", value);
    case 'T':
      return cache_option(&args_.source_cache, "source cache", value);
    case 'q':
      args_.quiet = true;
      break;
    case 'n':
      args_.no_create = true;
      break;
    case 'm':
      return parallel_option(value);
    case 'W':
      args_.out_of_order = true;
      break;
    case 'r': {
      std::optional<uint64_t> rate = size_argument(context_, "rate limit", value);
      if (!rate) return kExitFailure;
      args_.rate = *rate;
      break;
    }
    case 'U':
      args_.force_share = true;
      break;
    case kTargetImageOpts:
      args_.target_image_opts = true;
      break;
    case kTargetIsZero:
      args_.target_is_zero = true;
      break;
    case kBitmaps:
      args_.bitmaps = true;
      break;
    case kSkipBrokenBitmaps:
      args_.skip_broken_bitmaps = true;
      break;
    case kSalvage:
      args_.salvage = true;
      break;
    case kOptForce:
      args_.force = true;
      break;
    case kOptImageOpts:
      args_.image_opts = true;
      break;
    case kOptObject:
      return check_object(context_, value);
  }
  return std::nullopt;
}

std::optional<int> Parser::check() {
  if (args_.image_opts && args_.source_format) {
    return fail("--image-opts and --format are mutually exclusive");
  }
  if (args_.target_image_opts && !args_.no_create) {
    return fail("--target-image-opts requires use of -n flag");
  }
  if (args_.target_is_zero && !args_.no_create) {
    return fail("--target-is-zero requires use of -n flag");
  }
  if (args_.force && !args_.no_create) return fail("--force requires use of -n flag");
  if (args_.skip_broken_bitmaps && !args_.bitmaps) {
    return fail("Use of --skip-broken-bitmaps requires --bitmaps");
  }
  if (args_.offload && args_.compress) return fail("Cannot enable copy offloading when -c is used");
  if (args_.offload && sparse_given_) return fail("Cannot enable copy offloading when -S is used");
  if (args_.offload && args_.salvage) return fail("Cannot use copy offloading in salvaging mode");
  return std::nullopt;
}

}  // namespace

std::optional<int> parse_convert_arguments(const Context& context, int argc, char** argv,
                                           ConvertArguments* args) {
  Parser parser(context, args);
  Operands operands =
      parse_options(context, argc, argv, kOptions,
                    [&](int code, std::string value) { return parser.option(code, value); });
  if (operands.exit_code) return operands.exit_code;
  Result<OptionList> list = OptionList::parse(args->options);
  if (list.ok() && list->wants_help()) {
    if (create_options(args->target_format, false).empty()) {
      context.error(cannot_create(args->target_format));
      return kExitFailure;
    }
    print_create_options(args->target_format, !operands.words.empty());
    return kExitOk;
  }
  if (std::optional<int> code = parser.check()) return code;
  if (operands.words.size() < 2) {
    context.error("Must specify image file name");
    return kExitFailure;
  }
  if (args->no_create && !args->options.empty()) {
    context.error("-o has no effect when skipping image creation");
    return kExitFailure;
  }
  args->target = operands.words.back();
  operands.words.pop_back();
  if (args->snapshot && operands.words.size() > 1) {
    context.error("No support for concatenating multiple snapshot");
    return kExitFailure;
  }
  args->sources = std::move(operands.words);
  return std::nullopt;
}

}  // namespace calf::img
