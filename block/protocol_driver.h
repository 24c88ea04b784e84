// ProtocolDriver: a source of bytes other than a file of this host (file_node.h), and FilterDriver:
// a node that stands on another one and changes what it does. The graph finds them by name in the
// FormatTable.
//
// Both take the options that they know out of `description`, which outlives the call; the graph
// refuses what is left.
#pragma once

#include <memory>

#include "block/format_driver.h"
#include "block/node_description.h"

namespace calf::block {

struct ProtocolOptions {
  bool writable = false;
  // Flushes may be left out (cache=unsafe).
  bool no_flush = false;
};

class ProtocolDriver {
 public:
  virtual ~ProtocolDriver() = default;
  virtual const char* name() const = 0;
  virtual Async<std::unique_ptr<Node>> open(Executor& executor, NodeDescription* description,
                                            ProtocolOptions options) const = 0;
};

class FilterDriver {
 public:
  virtual ~FilterDriver() = default;
  virtual const char* name() const = 0;
  // The option under which the node below is described.
  virtual const char* child() const = 0;
  // Takes `below` over if it succeeds; else the caller still has it, to be closed.
  virtual Result<std::unique_ptr<Node>> open(Executor& executor, std::unique_ptr<Node>&& below,
                                             NodeDescription* description) const = 0;
};

}  // namespace calf::block
