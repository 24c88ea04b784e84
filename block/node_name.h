// From what a user typed to the description of a node. Contract section 2.3.
//
//     a.qcow2, ./a:b, file:a:b        file.driver=file, file.filename=…
//     json:{"driver": …, "file": …}   nested objects and lists, or dotted keys
//     blkdebug:CONFIG:NAME            file.driver=blkdebug, file.config, file.image.…
//     null-co://                      file.driver=null-co
//     nbd:…, nbd://…, nbd+unix://…    file.driver=nbd, file.host … (nbd_name.h)
//
// Only words of a command line or a control channel come here, never a name out of an image.
#pragma once

#include <string>
#include <string_view>

#include "block/node_description.h"

namespace calf::block {

// Is `name` a plain path of this host (no protocol in front)?
bool is_plain_path(std::string_view name);

// Is there a driver behind names that begin with "PROTOCOL:" (json: is no protocol)?
bool is_known_protocol(std::string_view protocol);

// The description that `name` stands for. The format is in it only if a json: name says so.
Result<NodeDescription> parse_node_name(std::string_view name);

// The node of a protocol: what stands below "file." in the answer of parse_node_name(), for names
// other than json: ones.
Result<NodeDescription> parse_protocol_name(std::string_view name);

}  // namespace calf::block
