#include "block/nbd_name.h"

#include <cctype>
#include <optional>

namespace calf::block {
namespace {

Error bad_url() {
  return Error(ErrorKind::kInvalid, "No valid URL specified");
}

std::optional<unsigned> hex_digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
  return std::nullopt;
}

// "%2f" and the like; nothing if a '%' stands alone or stands for NUL.
std::optional<std::string> decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    std::optional<unsigned> high = hex_digit(text[i + 1]);
    std::optional<unsigned> low = hex_digit(text[i + 2]);
    if (!high || !low || (*high == 0 && *low == 0)) return std::nullopt;
    out += static_cast<char>(*high * 16 + *low);
    i += 2;
  }
  return out;
}

struct HostPort {
  std::string host;
  // Empty if there is none.
  std::string port;
};

// "host:port", "[v6]:port", without a port too.
std::optional<HostPort> split_host(std::string_view text) {
  size_t after = 0;
  HostPort result;
  if (text.starts_with('[')) {
    size_t end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    result.host = std::string(text.substr(1, end - 1));
    after = end + 1;
  } else {
    after = std::min(text.rfind(':'), text.size());
    result.host = std::string(text.substr(0, after));
    if (result.host.find(':') != std::string::npos) return std::nullopt;
  }
  if (after < text.size()) {
    if (text[after] != ':' || after + 1 == text.size()) return std::nullopt;
    result.port = std::string(text.substr(after + 1));
  }
  return result;
}

NodeDescription nbd_node() {
  NodeDescription node;
  node.set("driver", std::string("nbd"));
  return node;
}

Result<NodeDescription> parse_old_form(std::string_view rest) {
  NodeDescription node = nbd_node();
  constexpr std::string_view kExport = ":exportname=";
  std::string_view address = rest.substr(0, rest.find(kExport));
  if (address.size() < rest.size()) {
    node.set("export", std::string(rest.substr(address.size() + kExport.size())));
  }
  if (address.starts_with("unix:")) {
    node.set("path", std::string(address.substr(5)));
    return node;
  }
  std::optional<HostPort> place = split_host(address);
  if (!place || place->port.empty()) {
    return make_error(ErrorKind::kInvalid, "error parsing address '{}'", address);
  }
  node.set("host", std::move(place->host));
  node.set("port", std::move(place->port));
  return node;
}

Result<NodeDescription> parse_uri(std::string_view scheme, std::string_view rest) {
  std::string_view query;
  size_t mark = rest.find('?');
  if (mark != std::string_view::npos) {
    query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
  }
  size_t slash = rest.find('/');
  std::string_view authority = rest.substr(0, slash);
  std::string_view path = slash == std::string_view::npos ? "" : rest.substr(slash + 1);
  NodeDescription node = nbd_node();
  std::optional<std::string> name = decode(path);
  if (!name) return bad_url();
  if (!name->empty()) node.set("export", std::move(*name));
  if (scheme == "nbd+unix") {
    if (!authority.empty() || !query.starts_with("socket=")) return bad_url();
    std::optional<std::string> socket = decode(query.substr(7));
    if (!socket || socket->empty()) return bad_url();
    node.set("path", std::move(*socket));
    return node;
  }
  std::optional<HostPort> place = split_host(authority);
  if (!place || !query.empty() || place->host.empty()) return bad_url();
  node.set("host", std::move(place->host));
  node.set("port", place->port.empty() ? std::string(kNbdDefaultPort) : std::move(place->port));
  return node;
}

}  // namespace

Result<NodeDescription> parse_nbd_name(std::string_view name) {
  size_t colon = name.find(':');
  std::string_view scheme = name.substr(0, colon);
  std::string_view rest = name.substr(colon + 1);
  if (rest.starts_with("//")) return parse_uri(scheme, rest.substr(2));
  if (scheme != "nbd") return bad_url();
  return parse_old_form(rest);
}

std::string nbd_uri(const NodeDescription& node) {
  if (node.has("x-dirty-bitmap") || node.has("tls-creds")) return "";
  std::string name = node.text("export").value_or("");
  std::string path = node.text("path").value_or(node.text("server.path").value_or(""));
  if (!path.empty()) return fmt::format("nbd+unix:///{}?socket={}", name, path);
  std::string host = node.text("host").value_or(node.text("server.host").value_or(""));
  if (host.empty()) return "";
  std::string port = node.text("port").value_or(node.text("server.port").value_or(kNbdDefaultPort));
  if (host.find(':') != std::string::npos && host[0] != '[') host = "[" + host + "]";
  return fmt::format("nbd://{}:{}{}{}", host, port, name.empty() ? "" : "/", name);
}

}  // namespace calf::block
