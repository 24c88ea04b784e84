#include "block/generic_options.h"

#include <cctype>

namespace calf::block {
namespace {

// Nothing refers to a node by its name here, but a name that could not be one is a mistake.
Result<void> check_node_name(const std::optional<std::string>& name) {
  if (!name) return {};
  bool good = !name->empty() && std::isalpha(static_cast<unsigned char>(name->front())) != 0;
  for (char c : *name) {
    bool letter = std::isalnum(static_cast<unsigned char>(c)) != 0;
    good = good && (letter || c == '-' || c == '.' || c == '_');
  }
  if (!good) return make_error(ErrorKind::kInvalid, "Invalid node-name: '{}'", *name);
  if (name->size() > 31) return Error(ErrorKind::kInvalid, "Node name too long");
  return {};
}

Result<DetectZeroes> take_detect_zeroes(NodeDescription* description, bool discard) {
  TRY(std::optional<std::string> text,
      description->take_choice("detect-zeroes", {"off", "on", "unmap"}));
  if (!text || *text == "off") return DetectZeroes::kOff;
  if (*text == "on") return DetectZeroes::kOn;
  if (!discard) {
    return Error(ErrorKind::kInvalid,
                 "setting detect-zeroes to unmap is not allowed without setting discard operation "
                 "to unmap");
  }
  return DetectZeroes::kUnmap;
}

}  // namespace

Result<GenericOptions> GenericOptions::take(NodeDescription* description,
                                            const Inherited& from_above) {
  GenericOptions options;
  options.inherited = from_above;
  TRY_VOID(check_node_name(description->take_text("node-name")));
  TRY(options.read_only, description->take_switch("read-only"));
  TRY_VOID(description->take_switch("auto-read-only"));
  TRY(options.force_share, description->take_switch("force-share"));
  if (options.force_share) options.inherited.force_share = *options.force_share;
  TRY(std::optional<bool> direct, description->take_switch("cache.direct"));
  if (direct) options.inherited.cache.direct = *direct;
  TRY(std::optional<bool> no_flush, description->take_switch("cache.no-flush"));
  if (no_flush) options.inherited.cache.no_flush = *no_flush;
  bool discard_given = false;
  if (std::optional<std::string> discard = description->take_text("discard")) {
    bool on = *discard == "unmap" || *discard == "on";
    if (!on && *discard != "ignore" && *discard != "off") {
      return Error(ErrorKind::kInvalid, "Invalid discard option");
    }
    options.inherited.discard = discard_given = on;
  }
  TRY(options.detect_zeroes, take_detect_zeroes(description, discard_given));
  return options;
}

}  // namespace calf::block
