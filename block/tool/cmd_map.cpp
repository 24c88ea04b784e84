// map: where the disk's bytes are. Contract sections 3.8 and 5.5.

#include <algorithm>
#include <charconv>
#include <concepts>
#include <cstdio>
#include <memory>
#include <string_view>

#include "block/base/log.h"
#include "block/ops/map.h"
#include "block/tool/commands.h"
#include "block/tool/image_name.h"
#include "block/tool/json.h"
#include "block/tool/options.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

struct Arguments {
  ImageArguments image;
  bool json = false;
  bool force_share = false;
  uint64_t start = 0;
  uint64_t length = INT64_MAX;
};

std::string hex(uint64_t value) {
  return value == 0 ? "0" : fmt::format("{:#x}", value);
}

// The list of extents as JSON, many lines written at once.
class JsonList {
 public:
  void add(const ops::ChainExtent& e) {
    if (used_ > kBytes - kLongestLine) flush();
    if (!empty_) put(",\n");
    put("{ \"start\": ", e.range.offset);
    put(", \"length\": ", e.range.length);
    put(", \"depth\": ", e.depth);
    put(", \"present\": ", e.present);
    put(", \"zero\": ", e.zero);
    put(", \"data\": ", e.data);
    if (e.host_offset) put(", \"offset\": ", *e.host_offset);
    put("}");
    empty_ = false;
  }
  bool empty() const { return empty_; }
  void flush() {
    write_text(stdout, {text_.get(), used_});
    used_ = 0;
  }

 private:
  static constexpr size_t kBytes = 256 << 10;
  static constexpr size_t kLongestLine = 256;
  // What a line needs was made sure of by add().
  void put(std::string_view text) {
    std::copy(text.begin(), text.end(), text_.get() + used_);
    used_ += text.size();
  }
  void put(std::string_view name, bool value) {
    put(name);
    put(value ? std::string_view("true") : std::string_view("false"));
  }
  template <std::unsigned_integral T>
  void put(std::string_view name, T value) {
    put(name);
    char* const end = text_.get() + kBytes;
    used_ = static_cast<size_t>(std::to_chars(text_.get() + used_, end, value).ptr - text_.get());
  }

  std::unique_ptr<char[]> text_ = std::make_unique_for_overwrite<char[]>(kBytes);
  size_t used_ = 0;
  bool empty_ = true;
};

// Joins data extents that follow each other in the disk and in one file; what is in between is of
// no interest here.
class HumanTable {
 public:
  Result<void> add(const ops::ChainExtent& e) {
    if (!e.data || e.zero) return {};
    if (!e.host_offset) {
      return make_error(ErrorKind::kUnsupported,
                        "File contains external, encrypted or compressed clusters.");
    }
    bool goes_on = pending_.range.end() == e.range.offset && !pending_.range.empty() &&
                   *pending_.host_offset + pending_.range.length == *e.host_offset &&
                   *pending_.host_file == *e.host_file;
    if (goes_on) {
      pending_.range.length += e.range.length;
    } else {
      flush();
      pending_ = e;
    }
    return {};
  }
  void flush() {
    if (pending_.range.empty()) return;
    put("{:<16}{:<16}{:<16}{}\n", hex(pending_.range.offset), hex(pending_.range.length),
        hex(*pending_.host_offset), quote_for_terminal(*pending_.host_file));
    pending_.range.length = 0;
  }

 private:
  ops::ChainExtent pending_;
};

Result<void> list_extents(const Context& context, block::Node& node, const Arguments& args) {
  ByteRange range{args.start, args.length};
  range = range.intersect({0, node.size()});
  JsonList list;
  HumanTable table;
  std::function<Result<void>(const ops::ChainExtent&)> emit =
      [&](const ops::ChainExtent& extent) -> Result<void> {
    if (!args.json) return table.add(extent);
    list.add(extent);
    return {};
  };
  if (args.json) {
    put("[");
  } else {
    put("{:<16}{:<16}{:<16}{}\n", "Offset", "Length", "Mapped to", "File");
  }
  Result<void> walked = context.executor.run(ops::map_extents(context.executor, node, range, emit));
  list.flush();
  if (!walked.ok() && walked.error().kind() != ErrorKind::kUnsupported) {
    return std::move(walked.error()).with_context("Could not read file metadata");
  }
  TRY_VOID(std::move(walked));
  table.flush();
  if (args.json) {
    if (list.empty()) {
      ops::ChainExtent nothing;
      nothing.range.offset = args.start;
      list.add(nothing);
      list.flush();
    }
    put("]\n");
  }
  return {};
}

Result<void> run(const Context& context, const Arguments& args) {
  TRY(block::OpenSpec spec, open_spec(context, args.image));
  spec.force_share |= args.force_share;
  TRY(auto node,
      context.executor.run(block::open_chain(context.executor, context.formats, std::move(spec))));
  Result<void> listed = list_extents(context, *node, args);
  Result<void> closed = context.executor.run(node->close());
  TRY_VOID(std::move(listed));
  return closed;
}

}  // namespace

int cmd_map(const Context& context, int argc, char** argv) {
  constexpr int kOutput = kLongOnly;
  static constexpr Option kOptions[] = {
      {"format", 'f', true},     {"output", 0, true, kOutput}, {"start-offset", 's', true},
      {"max-length", 'l', true}, {"force-share", 'U'},         kObjectOption,
      kImageOptsOption};
  Arguments args;
  std::string output = "human";
  Operands operands = parse_options(
      context, argc, argv, kOptions, [&](int code, std::string value) -> std::optional<int> {
        switch (code) {
          case 'f':
            args.image.format = value;
            break;
          case 's':
          case 'l': {
            auto size = size_argument(context, code == 's' ? "start offset" : "max length", value);
            if (!size) return kExitFailure;
            (code == 's' ? args.start : args.length) = *size;
            break;
          }
          case 'U':
            args.force_share = true;
            break;
          case kOutput:
            output = value;
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
  Result<void> result = run(context, args);
  if (result.ok()) return kExitOk;
  context.error(result.error());
  return kExitFailure;
}

}  // namespace calf::img
