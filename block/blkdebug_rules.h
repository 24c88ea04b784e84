// The rules of blkdebug: which requests fail, in which state. For tests of what stands above.
//
//     [inject-error]                     inject-error.0.event=write_aio, …
//     event = "write_aio"
//     errno = "28"   once = "on"   sector = "8"   state = "2"   iotype = "write"
//     [set-state]                        set-state.0.event=…, state, new_state
//
// Events are QEMU's names. Our engine announces none, so those happen that a request on the file
// shows by itself: read_aio, write_aio, pwritev_zero, cluster_free (a discard), flush_to_os,
// flush_to_disk; `none` is always. Rules for other events of QEMU are taken and never happen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/base/byte_range.h"
#include "block/node_description.h"

namespace calf::block {

enum class BlkdebugIo : uint8_t {
  kRead = 1 << 0,
  kWrite = 1 << 1,
  kWriteZeroes = 1 << 2,
  kDiscard = 1 << 3,
  kFlush = 1 << 4,
  kBlockStatus = 1 << 5,
};

class BlkdebugRules {
 public:
  // Takes config, inject-error.* and set-state.* out of the description.
  static Result<BlkdebugRules> take(NodeDescription* description);

  // The errno with which this request fails, 0 if it does not.
  int judge(BlkdebugIo io, ByteRange range);

 private:
  struct Rule {
    std::string event;
    // 0: in any.
    uint64_t state = 0;
    // set-state.
    std::optional<uint64_t> new_state;
    // inject-error.
    int error = 0;
    uint8_t io = 0;
    std::optional<uint64_t> sector;
    bool once = false;
    bool used = false;
  };

  Result<void> add_inject_error(NodeDescription rule);
  Result<void> add_set_state(NodeDescription rule);
  Result<void> read_config(const std::string& path);
  bool applies(const Rule& rule, std::string_view event) const;

  std::vector<Rule> rules_;
  uint64_t state_ = 1;
};

}  // namespace calf::block
