#include "block/tool/snapshot_option.h"

#include "block/tool/option_list.h"

namespace calf::img {

Result<ops::SnapshotChoice> parse_snapshot_option(const std::string& text) {
  ops::SnapshotChoice choice;
  if (!text.starts_with("snapshot.")) {
    choice.word = text;
    return choice;
  }
  TRY(OptionList list, OptionList::parse(text));
  for (const auto& [name, value] : list.items()) {
    if (name == "snapshot.id") {
      choice.key.id = value;
    } else if (name == "snapshot.name") {
      choice.key.name = value;
    } else {
      return make_error(ErrorKind::kInvalid, "Invalid parameter '{}'", name);
    }
  }
  return choice;
}

}  // namespace calf::img
