// The graph: opens an image and everything below it.
//
//     spec ─────────── file node ── format node (top, writable if asked)
//                                      │ name and format recorded in the image, through open_gate
//                      file node ── format node (base, read-only)
//                                      │
//                                      …        at most kMaxChainDepth, no file twice
//
// One layer (a format and what it stands on) is layer_opener.h's. What the user says about the node
// below (`backing` of a description) goes before what the image says; only the user may name
// protocols there.
//
// Formats are named, by the user for the top and by the overlay for its base. Guessing from the
// content is left to callers that ask for it, and never done for a base. Every file is locked as
// QEMU locks it (image_lock.h).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "block/cache_mode.h"
#include "block/format_driver.h"
#include "block/io/executor.h"
#include "block/node.h"
#include "block/node_description.h"

namespace calf::block {

constexpr unsigned kMaxChainDepth = 200;

// May the format of the top image be guessed, if spec.format is empty?
enum class Probing : uint8_t {
  kNever,   // a guest's disk
  kNotRaw,  // a signature is believed, a file without one is refused (it may be raw)
  kAny,     // the tool; a raw node guards its first sector then
};

struct OpenSpec {
  // A path; with `node`, what the user typed, for messages.
  std::string filename;
  // What is to be opened, if it is more than a path. `format` goes before its driver.
  std::optional<NodeDescription> node;
  std::optional<std::string> format;
  Probing probing = Probing::kNever;
  bool writable = false;
  CacheMode cache;
  // Takes part in no locking that others could notice; only for reading.
  bool force_share = false;
  // Freed ranges are punched out of the file.
  bool discard = false;
  // Write to an overlay although its base was changed after it was made (base_fingerprint.h): a
  // warning, instead of an error.
  bool accept_changed_base = false;
  // A base is opened for writing, too: the one just below the top, or the one that an overlay
  // records under this name or that is the file of this name (read_only() tells if there was one).
  bool write_base = false;
  std::string write_base_name;
  // False: the top alone, whatever it says is below it.
  bool open_backing = true;
  // The tool's way with raw files: others may write them at the same time.
  bool share_raw = false;
  bool info_only = false;
  bool for_check = false;
  // Where the options of nodes find the passphrases that they name; outlives the call. May be null.
  const crypto::SecretStore* secrets = nullptr;
  // Called for the layer that breaks its own format, if the open fails for that. May be null.
  std::function<void(const std::string& path, const FormatDriver& driver)> damaged;
  // Receives the warning about a guessed raw format and the engines' messages. May be null.
  MessageSink message;
};

// Opens what `spec` says. `formats` outlives the call. Error texts are qemu-img's: "Could not open
// 'FILE': REASON".
Async<std::unique_ptr<Node>> open_chain(Executor& executor, const FormatTable& formats,
                                        OpenSpec spec);

// The same for one that is open.
Async<std::string> probe_node(Node& file);
// What is the format of the file at `path`, by its first bytes? See probe.h.
Async<std::string> probe_file(Executor& executor, std::string path);

}  // namespace calf::block
