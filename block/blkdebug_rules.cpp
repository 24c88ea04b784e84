#include "block/blkdebug_rules.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>

namespace calf::block {
namespace {

constexpr uint64_t kSector = 512;
constexpr size_t kMaxRules = 1024;
constexpr uint64_t kMaxErrno = 4095;

constexpr std::array kEvents = {
    "none",
    "l1_update",
    "l1_grow_alloc_table",
    "l1_grow_write_table",
    "l1_grow_activate_table",
    "l2_load",
    "l2_update",
    "l2_update_compressed",
    "l2_alloc_cow_read",
    "l2_alloc_write",
    "read_aio",
    "read_backing_aio",
    "read_compressed",
    "write_aio",
    "write_compressed",
    "vmstate_load",
    "vmstate_save",
    "cow_read",
    "cow_write",
    "reftable_load",
    "reftable_grow",
    "reftable_update",
    "refblock_load",
    "refblock_update",
    "refblock_update_part",
    "refblock_alloc",
    "refblock_alloc_hookup",
    "refblock_alloc_write",
    "refblock_alloc_write_blocks",
    "refblock_alloc_write_table",
    "refblock_alloc_switch_table",
    "cluster_alloc",
    "cluster_alloc_bytes",
    "cluster_free",
    "flush_to_os",
    "flush_to_disk",
    "pwritev_rmw_head",
    "pwritev_rmw_after_head",
    "pwritev_rmw_tail",
    "pwritev_rmw_after_tail",
    "pwritev",
    "pwritev_zero",
    "pwritev_done",
    "empty_image_prepare",
    "l1_shrink_write_table",
    "l1_shrink_free_l2_clusters",
    "cor_write",
    "cluster_alloc_space",
};

Result<std::string> take_event(NodeDescription* rule) {
  std::optional<std::string> event = rule->take_text("event");
  if (!event) return Error(ErrorKind::kInvalid, "Missing event name for rule");
  if (std::find(kEvents.begin(), kEvents.end(), *event) == kEvents.end()) {
    return make_error(ErrorKind::kInvalid, "invalid parameter value: {}", *event);
  }
  return std::move(*event);
}

Result<void> refuse_rest(const NodeDescription& rule, std::string_view section) {
  if (rule.empty()) return {};
  return make_error(ErrorKind::kInvalid, "[{}] section doesn't support the option '{}'", section,
                    rule.items().front().first);
}

Result<uint8_t> io_of(const std::optional<std::string>& name) {
  constexpr std::array kNames = {"read",    "write", "write-zeroes",
                                 "discard", "flush", "block-status"};
  // All that transfer or sync, if nothing is said.
  if (!name) return uint8_t{0x1f};
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (*name == kNames[i]) return static_cast<uint8_t>(1U << i);
  }
  return make_error(ErrorKind::kInvalid, "invalid parameter value: {}", *name);
}

std::vector<std::string_view> events_of(BlkdebugIo io) {
  switch (io) {
    case BlkdebugIo::kRead:
      return {"read_aio"};
    case BlkdebugIo::kWrite:
      return {"write_aio", "pwritev"};
    case BlkdebugIo::kWriteZeroes:
      return {"pwritev_zero"};
    case BlkdebugIo::kDiscard:
      return {"cluster_free"};
    case BlkdebugIo::kFlush:
      return {"flush_to_os", "flush_to_disk"};
    case BlkdebugIo::kBlockStatus:
      return {};
  }
  return {};
}

std::string_view trim(std::string_view text) {
  size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::string_view unquoted(std::string_view text) {
  bool quoted = text.size() >= 2 && text.front() == '"' && text.back() == '"';
  return quoted ? text.substr(1, text.size() - 2) : text;
}

}  // namespace

Result<void> BlkdebugRules::add_inject_error(NodeDescription rule) {
  Rule made;
  TRY(made.event, take_event(&rule));
  TRY(std::optional<uint64_t> state, rule.take_number("state"));
  made.state = state.value_or(0);
  TRY(std::optional<uint64_t> number, rule.take_number("errno"));
  if (number && *number > kMaxErrno) return Error(ErrorKind::kInvalid, "errno is too large");
  made.error = number ? static_cast<int>(*number) : EIO;
  TRY(made.io, io_of(rule.take_text("iotype")));
  if (rule.text("sector") == "-1") rule.take("sector");
  TRY(made.sector, rule.take_number("sector"));
  TRY(std::optional<bool> once, rule.take_switch("once"));
  made.once = once.value_or(false);
  TRY_VOID(rule.take_switch("immediately"));
  TRY_VOID(refuse_rest(rule, "inject-error"));
  rules_.push_back(std::move(made));
  return {};
}

Result<void> BlkdebugRules::add_set_state(NodeDescription rule) {
  Rule made;
  TRY(made.event, take_event(&rule));
  TRY(std::optional<uint64_t> state, rule.take_number("state"));
  made.state = state.value_or(0);
  TRY(std::optional<uint64_t> next, rule.take_number("new_state"));
  made.new_state = next.value_or(0);
  TRY_VOID(refuse_rest(rule, "set-state"));
  rules_.push_back(std::move(made));
  return {};
}

Result<void> BlkdebugRules::read_config(const std::string& path) {
  std::ifstream file(path);
  if (!file) return Error::from_errno(errno, "Could not read blkdebug config file");
  std::string section;
  NodeDescription rule;
  auto finish = [&]() -> Result<void> {
    NodeDescription complete = std::exchange(rule, NodeDescription());
    if (section == "inject-error") return add_inject_error(std::move(complete));
    if (section == "set-state") return add_set_state(std::move(complete));
    return {};
  };
  std::string whole;
  while (std::getline(file, whole)) {
    std::string_view line = trim(whole);
    if (line.empty() || line.front() == '#') continue;
    if (line.front() == '[' && line.back() == ']') {
      TRY_VOID(finish());
      section = std::string(line.substr(1, line.size() - 2));
      if (section != "inject-error" && section != "set-state") {
        return make_error(ErrorKind::kInvalid, "There is no option group '{}'", section);
      }
      if (rules_.size() >= kMaxRules) return Error(ErrorKind::kInvalid, "Too many rules");
      continue;
    }
    size_t equals = line.find('=');
    if (equals == std::string_view::npos || section.empty()) {
      return Error(ErrorKind::kInvalid, "Could not parse blkdebug config file: parse error");
    }
    rule.set(std::string(trim(line.substr(0, equals))),
             std::string(unquoted(trim(line.substr(equals + 1)))));
  }
  return finish();
}

Result<BlkdebugRules> BlkdebugRules::take(NodeDescription* description) {
  BlkdebugRules rules;
  if (std::optional<std::string> config = description->take_text("config")) {
    TRY_VOID(rules.read_config(*config));
  }
  NodeDescription errors = description->take_below("inject-error");
  NodeDescription states = description->take_below("set-state");
  for (size_t i = 0; errors.has_child(std::to_string(i)) && i < kMaxRules; ++i) {
    TRY_VOID(rules.add_inject_error(errors.take_below(std::to_string(i))));
  }
  for (size_t i = 0; states.has_child(std::to_string(i)) && i < kMaxRules; ++i) {
    TRY_VOID(rules.add_set_state(states.take_below(std::to_string(i))));
  }
  TRY_VOID(refuse_rest(errors, "inject-error"));
  TRY_VOID(refuse_rest(states, "set-state"));
  return rules;
}

bool BlkdebugRules::applies(const Rule& rule, std::string_view event) const {
  return rule.event == event && (rule.state == 0 || rule.state == state_);
}

int BlkdebugRules::judge(BlkdebugIo io, ByteRange range) {
  int error = 0;
  uint64_t state_after = state_;
  std::vector<std::string_view> events = events_of(io);
  events.push_back("none");
  for (std::string_view event : events) {
    for (Rule& rule : rules_) {
      if (!applies(rule, event)) continue;
      if (rule.new_state) {
        state_after = *rule.new_state;
        continue;
      }
      bool here = !rule.sector || ByteRange{*rule.sector * kSector, kSector}.overlaps(range);
      bool hit = (rule.io & static_cast<uint8_t>(io)) != 0 && here && !(rule.once && rule.used);
      if (!hit || error != 0) continue;
      rule.used = true;
      error = rule.error;
    }
  }
  state_ = state_after;
  return error;
}

}  // namespace calf::block
