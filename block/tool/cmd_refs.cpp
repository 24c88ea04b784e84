// refs: the overlays in a folder and the bases they hang on. Not of qemu-img.
//
//     /images/base.qcow2
//         /images/a.qcow2 (qcow2)
//         /images/b.qcow2 (qcow2, the base was changed)
//
// Exit code 1 if something could not be looked at: the list may then lack an overlay.

#include <cstdio>

#include "block/base/log.h"
#include "block/ops/overlays.h"
#include "block/tool/commands.h"
#include "block/tool/json.h"
#include "block/tool/options.h"

namespace calf::img {
namespace {

using block::BaseState;

// The word of the JSON form.
const char* word(BaseState state) {
  switch (state) {
    case BaseState::kUnknown:
      return "unknown";
    case BaseState::kAsNoted:
      return "unchanged";
    case BaseState::kTouched:
      return "touched";
    case BaseState::kChanged:
      return "changed";
    case BaseState::kMissing:
      return "missing";
  }
  return "unknown";
}

// What a person should know about it; empty if all is well.
const char* remark(BaseState state) {
  switch (state) {
    case BaseState::kTouched:
      return ", the base may have been changed";
    case BaseState::kChanged:
      return ", the base was changed";
    case BaseState::kMissing:
      return ", the base is missing";
    default:
      return "";
  }
}

Json to_json(const ops::Overlay& overlay) {
  Json json = Json::object();
  json.add("filename", overlay.path);
  json.add("format", overlay.format);
  json.add("backing-filename", overlay.backing.name);
  if (overlay.backing.format) json.add("backing-filename-format", *overlay.backing.format);
  json.add("base-state", word(overlay.base_state));
  return json;
}

void print_json(const std::vector<ops::Overlay>& overlays) {
  Json bases = Json::list();
  for (size_t i = 0; i < overlays.size();) {
    const std::string& base = overlays[i].base;
    Json hanging = Json::list();
    for (; i < overlays.size() && overlays[i].base == base; ++i)
      hanging.push(to_json(overlays[i]));
    Json json = Json::object();
    json.add("base", base);
    json.add("overlays", std::move(hanging));
    bases.push(std::move(json));
  }
  put("{}", bases.to_json());
}

void print_text(const std::vector<ops::Overlay>& overlays) {
  const std::string* base = nullptr;
  for (const ops::Overlay& overlay : overlays) {
    if (base == nullptr || *base != overlay.base) {
      base = &overlay.base;
      put("{}\n", base->empty() ? "(a name that cannot be used)" : quote_for_terminal(*base));
    }
    put("    {} ({}{})\n", quote_for_terminal(overlay.path), overlay.format,
        remark(overlay.base_state));
  }
}

}  // namespace

int cmd_refs(const Context& context, int argc, char** argv) {
  constexpr int kOutput = kLongOnly;
  static constexpr Option kOptions[] = {{"output", 0, true, kOutput}};
  std::string output = "human";
  Operands operands = parse_options(context, argc, argv, kOptions,
                                    [&](int, std::string value) -> std::optional<int> {
                                      output = value;
                                      return std::nullopt;
                                    });
  if (operands.exit_code) return *operands.exit_code;
  if (operands.words.size() != 1) return context.usage_error("Expecting one folder");
  if (output != "human" && output != "json") {
    context.error("--output must be used with human or json as argument.");
    return kExitFailure;
  }
  bool complete = true;
  std::function<void(std::string_view)> problem = [&](std::string_view line) {
    complete = false;
    context.warning(line);
  };
  auto found = context.executor.run(
      ops::find_overlays(context.executor, context.formats, operands.words[0], problem));
  if (!found.ok()) {
    context.error(found.error());
    return kExitFailure;
  }
  if (output == "json") {
    print_json(*found);
  } else {
    print_text(*found);
  }
  return complete ? kExitOk : kExitFailure;
}

}  // namespace calf::img
