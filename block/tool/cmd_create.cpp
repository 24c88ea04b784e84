// create: makes a new image, alone or on top of a backing file. Contract section 3.1.

#include <cstdio>

#include "block/tool/commands.h"
#include "block/tool/create_image.h"
#include "block/tool/image_name.h"
#include "block/tool/options.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

struct Arguments {
  bool quiet = false;
  bool unsafe = false;
  std::string format = "raw";
  std::optional<std::string> backing;
  std::optional<std::string> backing_format;
  std::string options;
  std::string name;
  std::optional<uint64_t> size;
};

// Text that is printed as it stands in front of the rest of an error: the file's name.
Error about(const std::string& name, Error error) {
  return std::move(error).with_context(name);
}

// The reason without its outermost "Could not open 'X': ", if that stands twice.
std::string inner_reason(const std::string& text) {
  if (!text.starts_with("Could not open '")) return text;
  size_t end = text.find("': ");
  return end == std::string::npos ? text : text.substr(end + 3);
}

// Opens the backing file for its size. Where no format was given the error is printed here, and
// kCancelled returned.
Result<uint64_t> look_at_backing(const Context& context, const Arguments& args,
                                 const ImagePlace& place, const std::string& backing) {
  ImageArguments image{backing, args.backing_format, false};
  block::OpenSpec spec;
  TRY(spec.filename, place.resolve(backing));
  spec.format = image.format;
  spec.probing = block::Probing::kAny;
  spec.force_share = true;
  spec.share_raw = true;
  spec.info_only = true;
  Result<std::unique_ptr<block::Node>> opened =
      context.executor.run(block::open_chain(context.executor, context.formats, std::move(spec)));
  if (!opened.ok()) {
    return Error(opened.error().kind(),
                 inner_reason(opened.error().message()) + "\nCould not open backing image.");
  }
  uint64_t size = (*opened)->size();
  std::string format = (*opened)->format();
  Result<void> closed = context.executor.run((*opened)->close());
  if (!closed.ok()) return closed.error();
  if (!args.backing_format) {
    context.errorf("{}: Backing file specified without backing format", args.name);
    // Scripts compare this to the letter, the missing newline too.
    put_error("Detected format of {}.", format);
    if (!context.exact()) put_error(" If that is right, say: -F {}\n", format);
    return Error(ErrorKind::kCancelled, "");
  }
  return size;
}

Result<void> run(const Context& context, Arguments& args) {
  if (create_options(args.format, false).empty()) {
    return about(args.name, cannot_create(args.format));
  }
  Result<ImagePlace> place = place_of_name(args.name);
  if (!place.ok()) return about(args.name, std::move(place.error()));

  TRY(OptionList list, OptionList::parse(args.options));
  if (args.size && list.get("size")) {
    return about(args.name,
                 Error(ErrorKind::kInvalid, "The image size must be specified only once"));
  }
  Result<CreateOptions> parsed = CreateOptions::parse(args.format, list);
  if (!parsed.ok()) return about(args.name, std::move(parsed.error()));
  CreateOptions options = std::move(*parsed);
  if (args.size) options.set("size", std::to_string(*args.size));

  for (auto [given, option, what] :
       {std::tuple(&args.backing, "backing_file", "Backing file"),
        std::tuple(&args.backing_format, "backing_fmt", "Backing file format")}) {
    if (given->has_value()) {
      if (args.format != "qcow2") {
        return about(args.name,
                     make_error(ErrorKind::kUnsupported, "{} not supported for file format '{}'",
                                what, args.format));
      }
      options.set(option, **given);
    } else {
      *given = options.text(option);
    }
  }
  if (args.backing) {
    if (args.backing->empty()) {
      return about(args.name,
                   Error(ErrorKind::kInvalid, "Expected backing file name, got empty string"));
    }
    if (*args.backing == args.name) {
      return about(
          args.name,
          Error(ErrorKind::kInvalid,
                "Error: Trying to create an image with the same filename as the backing file"));
    }
    if (args.unsafe && !args.backing_format) {
      return about(args.name,
                   Error(ErrorKind::kInvalid, "Backing file specified without backing format"));
    }
    if (!args.unsafe) {
      Result<uint64_t> size = look_at_backing(context, args, *place, *args.backing);
      if (!size.ok()) return about(args.name, std::move(size.error()));
      if (!options.text("size")) options.set("size", std::to_string(*size));
      TRY(std::string base, place->resolve(*args.backing));
      TRY_VOID(context.executor.run(options.note_base(context, base, *args.backing_format)));
    }
  }
  if (!options.text("size")) {
    return about(args.name, Error(ErrorKind::kInvalid, "Image creation needs a size parameter"));
  }

  if (!args.quiet) {
    put("Formatting '{}', fmt={}{}\n", args.name, args.format, options.formatting(args.format));
    std::fflush(stdout);
  }
  Result<void> made = context.executor.run(create_image(context, args.format, *place, options));
  if (!made.ok()) return about(args.name, std::move(made.error()));
  return {};
}

}  // namespace

int cmd_create(const Context& context, int argc, char** argv) {
  static constexpr Option kOptions[] = {
      {nullptr, 'f', true}, {nullptr, 'F', true}, {nullptr, 'b', true},
      {nullptr, 'o', true}, {nullptr, 'q'},       {nullptr, 'u'},
      {nullptr, '6'},       {nullptr, 'e'},       kObjectOption};
  Arguments args;
  Operands operands = parse_options(
      context, argc, argv, kOptions, [&](int code, std::string value) -> std::optional<int> {
        switch (code) {
          case 'f':
            args.format = value;
            break;
          case 'F':
            args.backing_format = value;
            break;
          case 'b':
            args.backing = value;
            break;
          case 'o':
            if (!is_valid_option_list(value)) {
              context.errorf("Invalid option list: {}", value);
              return kExitFailure;
            }
            args.options += (args.options.empty() ? "" : ",") + value;
            break;
          case 'q':
            args.quiet = true;
            break;
          case 'u':
            args.unsafe = true;
            break;
          case 'e':
            context.error("option -e is deprecated, please use '-o encryption=on' instead!");
            return kExitFailure;
          case '6':
            context.error("option -6 is deprecated, please use '-o compat6' instead!");
            return kExitFailure;
          case kOptObject:
            return check_object(context, value);
        }
        return std::nullopt;
      });
  if (operands.exit_code) return *operands.exit_code;

  Result<OptionList> list = OptionList::parse(args.options);
  if (list.ok() && list->wants_help()) {
    if (create_options(args.format, false).empty()) {
      context.error(cannot_create(args.format));
      return kExitFailure;
    }
    print_create_options(args.format, !operands.words.empty());
    return kExitOk;
  }
  if (operands.words.empty()) return context.usage_error("Expecting image file name");
  args.name = operands.words[0];
  if (operands.words.size() > 1) {
    args.size = size_argument(context, "image size", operands.words[1]);
    if (!args.size) return kExitFailure;
  }
  if (operands.words.size() > 2) {
    return context.usage_error(fmt::format("Unexpected argument: {}", operands.words[2]));
  }
  Result<void> result = run(context, args);
  if (result.ok()) return kExitOk;
  // Cancelled: has been said.
  if (result.error().kind() != ErrorKind::kCancelled) context.error(result.error());
  return kExitFailure;
}

}  // namespace calf::img
