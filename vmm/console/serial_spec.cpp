#include "vmm/console/serial_spec.h"

#include <fcntl.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/cli/key_value.h"
#include "vmm/console/unix_channel.h"

namespace calf::vmm {
namespace {

constexpr std::string_view kForms =
    "stdio, mon:stdio, null, none, pty, file:PATH, unix:PATH[,server=on][,wait=off] or chardev:ID";

Result<SerialSpec> parse_unix(std::string_view text) {
  SerialSpec spec;
  spec.kind = SerialSpec::Kind::kUnix;
  TRY(KeyValueList list, KeyValueList::parse(text, "path"));
  for (const KeyValue& item : list.items()) {
    if (item.key == "path") {
      spec.path = item.value;
    } else if (item.key == "server") {
      TRY(spec.server, parse_switch(item));
    } else if (item.key == "wait" || item.key == "nowait") {
      TRY(bool on, parse_switch(item));
      spec.wait = (item.key == "wait") == on;
    } else {
      return make_error(ErrorKind::kInvalid,
                        "unix socket option '{}' is not known (calf has path, server, wait)",
                        item.key);
    }
  }
  if (spec.path.empty()) return make_error(ErrorKind::kInvalid, "unix: needs a path");
  return spec;
}

Result<std::unique_ptr<devices::ByteChannel>> open_file(const SerialSpec& spec, EventLoop& loop) {
  int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (spec.append ? O_APPEND : O_TRUNC);
  Fd fd(::open(spec.path.c_str(), flags, 0666));
  if (!fd.valid()) {
    return Error::from_errno(errno, fmt::format("Could not open '{}' for writing", spec.path));
  }
  auto channel = std::make_unique<FdChannel>(loop);
  TRY_VOID(channel->attach(Fd(), std::move(fd)));
  return std::unique_ptr<devices::ByteChannel>(std::move(channel));
}

Result<std::unique_ptr<devices::ByteChannel>> open_stdio(const SerialSpec&, EventLoop& loop,
                                                         StdioChannel::Actions actions) {
  bool terminal = isatty(STDIN_FILENO) != 0;
  auto channel = std::make_unique<StdioChannel>(loop, std::move(actions), terminal);
  // Copies: the process's own descriptors stay open after the channel has gone.
  Fd in(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  Fd out(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
  TRY_VOID(channel->attach(std::move(in), std::move(out)));
  return std::unique_ptr<devices::ByteChannel>(std::move(channel));
}

// A pty whose slave side we keep open too: else the master reports hang-up without end while nobody
// is connected.
class PtyChannel final : public FdChannel {
 public:
  explicit PtyChannel(EventLoop& loop) : FdChannel(loop, WhenFull::kDrop) {}
  Result<std::string> open() {
    Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    char name[128];
    if (!master.valid() || ::grantpt(master.get()) != 0 || ::unlockpt(master.get()) != 0 ||
        ::ptsname_r(master.get(), name, sizeof name) != 0) {
      return Error::from_errno(errno, "Could not open a pseudo-terminal");
    }
    slave_.reset(::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
    termios mode{};
    if (!slave_.valid() || ::tcgetattr(slave_.get(), &mode) != 0) {
      return Error::from_errno(errno, fmt::format("Could not open '{}'", name));
    }
    cfmakeraw(&mode);
    ::tcsetattr(slave_.get(), TCSANOW, &mode);
    Fd out(::fcntl(master.get(), F_DUPFD_CLOEXEC, 0));
    TRY_VOID(attach(std::move(master), std::move(out)));
    return std::string(name);
  }

 private:
  Fd slave_;
};

}  // namespace

Result<SerialSpec> parse_serial_spec(std::string_view text) {
  SerialSpec spec;
  if (text == "none") {
    spec.kind = SerialSpec::Kind::kNone;
  } else if (text == "null") {
    spec.kind = SerialSpec::Kind::kNull;
  } else if (text == "stdio" || text == "mon:stdio") {
    spec.kind = SerialSpec::Kind::kStdio;
    spec.monitor = text != "stdio";
  } else if (text == "pty") {
    spec.kind = SerialSpec::Kind::kPty;
  } else if (text.starts_with("file:") && text.size() > 5) {
    spec.kind = SerialSpec::Kind::kFile;
    spec.path = text.substr(5);
  } else if (text.starts_with("unix:")) {
    return parse_unix(text.substr(5));
  } else if (text.starts_with("chardev:") && text.size() > 8) {
    spec.kind = SerialSpec::Kind::kChardev;
    spec.path = text.substr(8);
  } else {
    return make_error(ErrorKind::kInvalid, "'{}' is not a serial port's back end; calf has {}",
                      text, kForms);
  }
  return spec;
}

Result<std::unique_ptr<devices::ByteChannel>> open_serial(const SerialSpec& spec,
                                                          std::string_view label, EventLoop& loop,
                                                          Log& log, StdioChannel::Actions actions) {
  switch (spec.kind) {
    case SerialSpec::Kind::kNone:
    case SerialSpec::Kind::kChardev:  // resolved by the command line
      return std::unique_ptr<devices::ByteChannel>();
    case SerialSpec::Kind::kNull:
      return std::unique_ptr<devices::ByteChannel>(std::make_unique<FdChannel>(loop));
    case SerialSpec::Kind::kStdio:
      return open_stdio(spec, loop, std::move(actions));
    case SerialSpec::Kind::kFile:
      return open_file(spec, loop);
    case SerialSpec::Kind::kPty: {
      auto channel = std::make_unique<PtyChannel>(loop);
      TRY(std::string path, channel->open());
      log.write(LogLevel::kError,
                fmt::format("char device redirected to {} (label {})", path, label));
      return std::unique_ptr<devices::ByteChannel>(std::move(channel));
    }
    case SerialSpec::Kind::kUnix: {
      auto channel = std::make_unique<UnixChannel>(loop);
      if (spec.server) {
        if (spec.wait)
          log.write(LogLevel::kError, fmt::format("waiting for a connection on '{}'", spec.path));
        TRY_VOID(channel->listen(spec.path, spec.wait));
      } else {
        TRY_VOID(channel->connect(spec.path));
      }
      return std::unique_ptr<devices::ByteChannel>(std::move(channel));
    }
  }
  return std::unique_ptr<devices::ByteChannel>();
}

}  // namespace calf::vmm
