// FormatDriver: how the graph turns a file into the disk that the file holds. One object per
// format; the table of those a program knows is made by its main and handed down (block/formats).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/crypto/secret_store.h"
#include "block/image_lock.h"
#include "block/io/executor.h"
#include "block/node.h"
#include "block/node_description.h"

namespace calf::block {

class FilterDriver;
class ProtocolDriver;

// Lines for the person in front, without prefix. Parts of them may come from an image.
using MessageSink = std::function<void(std::string_view line)>;

struct FormatOptions {
  bool writable = false;
  // The format was guessed, not named.
  bool probed = false;
  // Flushes may be left out (cache=unsafe).
  bool no_flush = false;
  // Only what the header says is wanted: features that cannot be read or written are no error.
  bool info_only = false;
  // Damage that a check reports is no error.
  bool for_check = false;
  // Where a passphrase named in the description is found. May be null.
  const crypto::SecretStore* secrets = nullptr;
  // May be null.
  MessageSink message;
  // The user's options for this node. The driver takes out those that it knows; what it leaves is
  // refused by name. Outlives the call; null if there is none.
  NodeDescription* description = nullptr;
  // Opens another file of the image, a path or a name relative to the image's own folder;
  // read-only, locked and counted as one of the chain. Null if the image is no file of this host.
  std::function<Async<std::unique_ptr<Node>>(std::string recorded)> open_beside;
};

// The backing file as the image records it: never trusted, see open_gate.h.
struct BackingReference {
  std::string name;
  std::optional<std::string> format;
  // What the overlay notes about the base (base_fingerprint.h).
  std::optional<std::vector<uint8_t>> fingerprint;
};

struct OpenedFormat {
  std::unique_ptr<Node> node;
  std::optional<BackingReference> backing;
  // Gives `node` the node below it, before the first request. Null in formats without backing.
  std::function<void(std::unique_ptr<Node>)> set_backing;
  // The name of the file that holds guest data, where that is not the image's own; as recorded.
  std::optional<std::string> data_file;
  // Gives `node` that file, before the first request.
  std::function<void(std::unique_ptr<Node>)> set_data_file;
};

// Who opens an image, for its lock.
enum class Role : uint8_t { kDisk, kSharedDisk, kBase };

class FormatDriver {
 public:
  virtual ~FormatDriver() = default;
  virtual const char* name() const = 0;
  virtual LockRequest lock_request(bool writable, Role role) const = 0;
  // calf-img check -r can mend images of this format.
  virtual bool can_repair() const { return false; }
  // Takes `file` over. Error texts come without "Could not open".
  virtual Async<OpenedFormat> open(Executor& executor, std::unique_ptr<Node> file,
                                   FormatOptions options) const = 0;
  // What an image says about its base, read from its header alone; nothing if it has none. `file`
  // is the bare file.
  virtual Async<std::optional<BackingReference>> backing_of(Node& /*file*/) const {
    co_return std::nullopt;
  }
  // A checksum of the tables that map the image, for base_fingerprint.h; `file` is the bare file.
  virtual Async<uint32_t> digest_tables(Executor&, Node& /*file*/) const { co_return 0U; }
};

class FormatTable {
 public:
  FormatTable();
  FormatTable(FormatTable&&) noexcept;
  ~FormatTable();

  void add(std::unique_ptr<FormatDriver> driver);
  void add(std::unique_ptr<ProtocolDriver> driver);
  void add(std::unique_ptr<FilterDriver> driver);
  // Null for an unknown name.
  const FormatDriver* find(std::string_view name) const;
  const ProtocolDriver* find_protocol(std::string_view name) const;
  const FilterDriver* find_filter(std::string_view name) const;
  const std::vector<std::unique_ptr<FormatDriver>>& drivers() const { return drivers_; }

 private:
  std::vector<std::unique_ptr<FormatDriver>> drivers_;
  std::vector<std::unique_ptr<ProtocolDriver>> protocols_;
  std::vector<std::unique_ptr<FilterDriver>> filters_;
};

}  // namespace calf::block
