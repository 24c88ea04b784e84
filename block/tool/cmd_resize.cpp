// resize: gives an image another virtual size. Contract section 3.12.

#include "block/tool/commands.h"
#include "block/tool/image_name.h"
#include "block/tool/options.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

using block::Preallocation;

struct Arguments {
  ImageArguments image;
  Preallocation preallocation = Preallocation::kOff;
  bool quiet = false;
  bool shrink = false;
  // '+', '-', or 0 for an absolute size.
  char sign = 0;
  uint64_t size = 0;
};

constexpr const char* kBadSize =
    "Parameter 'size' expects a non-negative number below 2^64\n"
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
    "and exabytes, respectively.";

std::optional<Preallocation> parse_preallocation(std::string_view mode) {
  if (mode == "off") return Preallocation::kOff;
  if (mode == "metadata") return Preallocation::kMetadata;
  if (mode == "falloc") return Preallocation::kFalloc;
  if (mode == "full") return Preallocation::kFull;
  return std::nullopt;
}

// The size that is asked for, given the present one.
Result<uint64_t> new_size(const Arguments& args, uint64_t present) {
  Error bad(ErrorKind::kInvalid, "New image size must be positive");
  uint64_t size = args.size;
  if (args.sign == '+') {
    if (size > INT64_MAX - present) return bad;
    size = present + size;
  } else if (args.sign == '-') {
    if (size >= present) return bad;
    size = present - size;
  }
  if (size == 0 || size > INT64_MAX) return bad;
  return size;
}

Async<> resize(const Context& context, const Arguments& args) {
  CO_TRY(block::OpenSpec spec, open_spec(context, args.image));
  spec.writable = true;
  spec.discard = true;
  CO_TRY(std::unique_ptr<block::Node> node,
         co_await block::open_chain(context.executor, context.formats, std::move(spec)));
  uint64_t present = node->size();
  Result<uint64_t> size = new_size(args, present);
  Result<void> done;
  if (!size.ok()) {
    done = std::move(size.error());
  } else if (*size <= present && args.preallocation != Preallocation::kOff) {
    done = Error(ErrorKind::kInvalid, "Preallocation can only be used for growing images");
  } else if (*size < present && !args.shrink) {
    context.error("Use the --shrink option to perform a shrink operation.");
    done = Error(ErrorKind::kCancelled, "");
  } else {
    done = co_await node->truncate(*size, args.preallocation);
  }
  Result<void> closed = co_await node->close();
  CO_TRY_VOID(std::move(done));
  co_return closed;
}

}  // namespace

int cmd_resize(const Context& context, int argc, char** argv) {
  constexpr int kPreallocation = kLongOnly;
  constexpr int kShrink = kLongOnly + 1;
  static constexpr Option kOptions[] = {{nullptr, 'f', true},
                                        {nullptr, 'q'},
                                        {"preallocation", 0, true, kPreallocation},
                                        {"shrink", 0, false, kShrink},
                                        kForceOption,
                                        kObjectOption,
                                        kImageOptsOption};
  Arguments args;
  // Help counts as an option; otherwise the last word is the size, even if it looks like one.
  bool wants_help =
      argc == 2 && (std::string_view(argv[1]) == "-h" || std::string_view(argv[1]) == "--help");
  std::string size_word;
  if (!wants_help) {
    if (argc < 3) return context.usage_error("Not enough arguments");
    size_word = argv[--argc];
  }
  Operands operands = parse_options(
      context, argc, argv, kOptions, [&](int code, std::string value) -> std::optional<int> {
        switch (code) {
          case 'f':
            args.image.format = value;
            break;
          case 'q':
            args.quiet = true;
            break;
          case kPreallocation: {
            std::optional<Preallocation> mode = parse_preallocation(value);
            if (!mode) {
              context.errorf("Invalid preallocation mode '{}'", value);
              return kExitFailure;
            }
            args.preallocation = *mode;
            break;
          }
          case kShrink:
            args.shrink = true;
            break;
          case kOptForce:
            args.image.force = true;
            break;
          case kOptImageOpts:
            args.image.image_opts = true;
            break;
          case kOptObject:
            return check_object(context, value);
        }
        return std::nullopt;
      });
  if (operands.exit_code) return *operands.exit_code;
  if (operands.words.size() != 1) return context.usage_error("Expecting image file name and size");
  args.image.name = operands.words[0];
  if (size_word.starts_with('+') || size_word.starts_with('-')) {
    args.sign = size_word[0];
    size_word.erase(0, 1);
  }
  Result<uint64_t> size = parse_size(size_word);
  if (!size.ok()) {
    if (size.error().kind() == ErrorKind::kNoSpace) {
      context.errorf("Value '{}' is out of range for parameter 'size'", size_word);
    } else {
      context.error(kBadSize);
    }
    return kExitFailure;
  }
  args.size = *size;

  Result<void> result = context.executor.run(resize(context, args));
  if (result.ok()) {
    if (!args.quiet) put("Image resized.\n");
    return kExitOk;
  }
  if (result.error().kind() == ErrorKind::kCancelled) {
    context.warning(
        "Shrinking an image will delete all data beyond the shrunken image's end. Before "
        "performing such an operation, make sure there is no important data there.");
  } else {
    context.error(result.error());
  }
  return kExitFailure;
}

}  // namespace calf::img
