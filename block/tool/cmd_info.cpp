// info: what an image is, without reading what is in it. Contract section 3.2.

#include <cstdio>
#include <vector>

#include "block/tool/commands.h"
#include "block/tool/describe.h"
#include "block/tool/image_name.h"
#include "block/tool/options.h"

namespace calf::img {
namespace {

struct Arguments {
  ImageArguments image;
  bool json = false;
  bool force_share = false;
  bool chain = false;
};

Result<ImageDescription> look_at(const Context& context, block::OpenSpec spec,
                                 const std::string& name) {
  spec.info_only = true;
  spec.open_backing = false;
  Result<std::unique_ptr<block::Node>> node =
      context.executor.run(block::open_chain(context.executor, context.formats, spec));
  // Somebody writes it. The header is worth a look all the same; qemu-img wants to be told.
  if (!node.ok() && node.error().kind() == ErrorKind::kLocked && !context.exact()) {
    context.note(fmt::format("'{}' is in use, this is its present state:", name));
    spec.force_share = true;
    node = context.executor.run(block::open_chain(context.executor, context.formats, spec));
  }
  if (!node.ok()) return std::move(node.error());
  std::string shown = spec.node ? shown_name(spec, (*node)->format()) : name;
  ImageDescription image = describe(**node, shown, path_of_spec(spec));
  TRY_VOID(context.executor.run((*node)->close()));
  return image;
}

// The image and, with --backing-chain, each one below it.
Result<std::vector<ImageDescription>> collect(const Context& context, const Arguments& args) {
  std::vector<ImageDescription> images;
  TRY(block::OpenSpec spec, open_spec(context, args.image));
  spec.force_share |= args.force_share;
  // The names that were opened; the same twice is a loop. Different names of one file end at the
  // cap.
  std::vector<std::string> seen;
  std::string name = spec.filename;
  while (true) {
    for (const std::string& before : seen) {
      if (before == spec.filename) {
        return make_error(ErrorKind::kCorrupt, "Backing file '{}' creates an infinite loop.",
                          spec.filename);
      }
    }
    if (seen.size() >= block::kMaxChainDepth) {
      return make_error(ErrorKind::kCorrupt, "The chain of backing files is longer than {}",
                        block::kMaxChainDepth);
    }
    seen.push_back(spec.filename);
    TRY(ImageDescription image, look_at(context, spec, name));
    images.push_back(std::move(image));
    const ImageDescription& last = images.back();
    if (!args.chain || !last.backing_name) return images;
    if (last.full_backing_name.empty()) {
      return make_error(ErrorKind::kCorrupt, "'{}' has a backing file name that cannot be used",
                        last.filename);
    }
    spec = block::OpenSpec{};
    spec.filename = last.full_backing_name;
    spec.format = last.backing_format;
    // Nothing is read through the image and nobody writes it: a look at the header may guess.
    spec.probing = block::Probing::kAny;
    spec.share_raw = true;
    spec.force_share = true;
    name = spec.filename;
  }
}

void print(const std::vector<ImageDescription>& images, const Arguments& args) {
  std::string out;
  if (args.json && args.chain) {
    Json list = Json::list();
    for (const auto& image : images)
      list.push(to_json(image));
    out = list.to_json();
  } else if (args.json) {
    out = to_json(images[0]).to_json();
  } else {
    for (const auto& image : images)
      out += (out.empty() ? "" : "\n") + to_text(image);
  }
  std::fwrite(out.data(), 1, out.size(), stdout);
}

}  // namespace

int cmd_info(const Context& context, int argc, char** argv) {
  constexpr int kOutput = kLongOnly;
  constexpr int kChain = kLongOnly + 1;
  static constexpr Option kOptions[] = {{"format", 'f', true},
                                        {"output", 0, true, kOutput},
                                        {"backing-chain", 0, false, kChain},
                                        {"force-share", 'U'},
                                        kObjectOption,
                                        kImageOptsOption};
  Arguments args;
  std::string output = "human";
  Operands operands = parse_options(context, argc, argv, kOptions,
                                    [&](int code, std::string value) -> std::optional<int> {
                                      switch (code) {
                                        case 'f':
                                          args.image.format = value;
                                          break;
                                        case 'U':
                                          args.force_share = true;
                                          break;
                                        case kOutput:
                                          output = value;
                                          break;
                                        case kChain:
                                          args.chain = true;
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
  if (operands.words.size() != 1) return context.usage_error("Expecting one image file name");
  if (output != "human" && output != "json") {
    context.error("--output must be used with human or json as argument.");
    return kExitFailure;
  }
  args.json = output == "json";
  args.image.name = operands.words[0];

  Result<std::vector<ImageDescription>> images = collect(context, args);
  if (!images.ok()) {
    context.error(images.error());
    return kExitFailure;
  }
  print(*images, args);
  return kExitOk;
}

}  // namespace calf::img
