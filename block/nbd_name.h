// Names of NBD exports, as users type and see them:
//
//     nbd:HOST:PORT[:exportname=NAME]     nbd:unix:PATH[:exportname=NAME]
//     nbd://HOST[:PORT][/NAME]            nbd+unix:///[NAME]?socket=PATH
//
// Spec: NetworkBlockDevice/nbd, doc/uri.md, for the second line.
#pragma once

#include <string>
#include <string_view>

#include "block/node_description.h"

namespace calf::block {

constexpr const char* kNbdDefaultPort = "10809";

// driver=nbd with host and port, or path, and export.
Result<NodeDescription> parse_nbd_name(std::string_view name);

// The URI of a described export; empty if it has options that a URI cannot carry.
std::string nbd_uri(const NodeDescription& node);

}  // namespace calf::block
