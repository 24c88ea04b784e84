#include "block/formats/nbd_driver.h"

#include "block/nbd/client_node.h"
#include "block/nbd_name.h"

namespace calf::block {
namespace {

Error missing(const char* name) {
  return make_error(ErrorKind::kInvalid, "Parameter '{}' is missing", name);
}

// server.type=unix,server.path=… or server.type=inet,server.host=…,server.port=…
Result<SocketAddress> take_server(NodeDescription* description) {
  SocketAddress address;
  NodeDescription server = description->take_below("server");
  std::string type = server.take_text("type").value_or("");
  if (type == "unix") {
    address.path = server.take_text("path").value_or("");
    if (address.path.empty()) return missing("path");
  } else if (type == "inet") {
    address.host = server.take_text("host").value_or("");
    address.port = server.take_text("port").value_or("");
    if (address.host.empty()) return missing("host");
    if (address.port.empty()) return missing("port");
  } else if (type.empty()) {
    return missing("type");
  } else {
    return make_error(ErrorKind::kInvalid, "Parameter 'type' does not accept value '{}'", type);
  }
  if (!server.empty()) {
    return make_error(ErrorKind::kInvalid, "Parameter '{}' is unexpected",
                      server.items().front().first);
  }
  return address;
}

Result<SocketAddress> take_address(NodeDescription* description) {
  bool server = description->has_child("server");
  SocketAddress address;
  address.path = description->take_text("path").value_or("");
  address.host = description->take_text("host").value_or("");
  std::optional<std::string> port = description->take_text("port");
  address.port = port.value_or(kNbdDefaultPort);
  bool plain = address.is_local() || !address.host.empty();
  if (server && plain) {
    return Error(ErrorKind::kInvalid,
                 "'server' and path/host/port cannot be used at the same time");
  }
  if (address.is_local() && !address.host.empty()) {
    return Error(ErrorKind::kInvalid, "path and host may not be used at the same time");
  }
  if (server) return take_server(description);
  if (!plain && port) return Error(ErrorKind::kInvalid, "port may not be used without host");
  if (!plain) return Error(ErrorKind::kInvalid, "NBD server address missing");
  return address;
}

// What is known and not done is refused by name.
Result<void> refuse_unsupported(NodeDescription* description) {
  for (const char* key : {"tls-creds", "tls-hostname"}) {
    if (!description->has(key)) continue;
    return make_error(ErrorKind::kUnsupported, "TLS is not supported ('{}')", key);
  }
  for (const char* key : {"reconnect-delay", "open-timeout"}) {
    TRY(std::optional<uint64_t> seconds, description->take_number(key));
    if (seconds.value_or(0) == 0) continue;
    return make_error(ErrorKind::kUnsupported, "'{}' other than 0 is not supported", key);
  }
  return {};
}

class NbdDriver final : public ProtocolDriver {
 public:
  const char* name() const override { return "nbd"; }

  Async<std::unique_ptr<Node>> open(Executor& executor, NodeDescription* description,
                                    ProtocolOptions options) const override {
    nbd::ClientOptions client;
    client.name = nbd_uri(*description);
    CO_TRY(client.address, take_address(description));
    client.export_name = description->take_text("export").value_or("");
    if (std::optional<std::string> bitmap = description->take_text("x-dirty-bitmap")) {
      client.context = "qemu:dirty-bitmap:" + *bitmap;
    }
    CO_TRY_VOID(refuse_unsupported(description));
    client.writable = options.writable;
    CO_TRY(std::unique_ptr<nbd::ClientNode> node,
           co_await nbd::ClientNode::open(executor, std::move(client)));
    std::unique_ptr<Node> result = std::move(node);
    co_return result;
  }
};

}  // namespace

std::unique_ptr<ProtocolDriver> make_nbd_driver() {
  return std::make_unique<NbdDriver>();
}

}  // namespace calf::block
