// serve: shows an image to other programs and hosts over NBD. Not in qemu-img (qemu-nbd does it).

#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "block/nbd/protocol.h"
#include "block/nbd/server.h"
#include "block/nbd_name.h"
#include "block/ops/chain_map.h"
#include "block/tool/commands.h"
#include "block/tool/image_name.h"
#include "block/tool/options.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

constexpr int kSocket = kLongOnly;
constexpr int kPort = kLongOnly + 1;
constexpr int kBind = kLongOnly + 2;
constexpr int kExportName = kLongOnly + 3;
constexpr int kPersistent = kLongOnly + 4;
constexpr int kShared = kLongOnly + 5;

// NBD knows neither users nor passwords: nobody else's network unless that is asked for.
constexpr const char* kDefaultBind = "127.0.0.1";
constexpr unsigned kDefaultReaders = 8;
constexpr unsigned kMaxClients = 64;

struct Arguments {
  ImageArguments image;
  SocketAddress address;
  std::string export_name;
  block::CacheMode cache;
  bool writable = false;
  bool force_share = false;
  bool quiet = false;
  bool persistent = false;
  std::optional<unsigned> shared;
};

Async<nbd::BlockState> block_state(ops::ChainMap& map, ByteRange range) {
  CO_TRY(ops::ChainExtent extent, co_await map.map(range));
  co_return nbd::BlockState{extent.range.length, !extent.data, extent.zero};
}

// SIGINT and SIGTERM as something to wait for. No thread that is made from here on dies of them:
// made before the image is opened, which starts the first.
class StopSignals {
 public:
  explicit StopSignals(Executor& executor) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &mask, nullptr);
    fd_.reset(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
    arrived_.emplace(executor.poll_in(fd_.get()));
  }
  static Task<void> watch(StopSignals* self, nbd::Server* server) {
    self->watching_ = true;
    // Through a pointer: g++ 12 awaits a copy of what a call gives by reference, and a copy cannot
    // be cancelled.
    Executor::IoAwaiter* arrived = &*self->arrived_;
    int64_t events = co_await *arrived;
    if (events > 0) server->stop();
    self->watching_ = false;
  }
  static Task<void> end(StopSignals* self, Executor* executor) {
    while (self->watching_) {
      executor->cancel(self->arrived_->op);
      co_await executor->yield();
    }
  }

 private:
  Fd fd_;
  std::optional<Executor::IoAwaiter> arrived_;
  bool watching_ = false;
};

std::string address_as_uri(const Arguments& args) {
  block::NodeDescription node;
  if (args.address.is_local()) {
    node.set("path", args.address.path);
  } else {
    node.set("host", args.address.host);
    node.set("port", args.address.port);
  }
  if (!args.export_name.empty()) node.set("export", args.export_name);
  return block::nbd_uri(node);
}

Async<> serve(const Context& context, const Arguments& args, StopSignals& signals,
              block::Node& node) {
  CO_TRY(Fd listening, listen_on(args.address));
  ops::ChainMap map(node);
  nbd::Export exported;
  exported.node = &node;
  exported.name = args.export_name;
  exported.writable = args.writable;
  exported.state = [&map](ByteRange range) { return block_state(map, range); };
  nbd::ServerOptions options;
  options.max_clients = args.shared.value_or(args.writable ? 1 : kDefaultReaders);
  options.persistent = args.persistent;
  options.message = [&context](std::string_view line) { context.warning(line); };

  nbd::Server server(context.executor, std::move(exported), std::move(options));
  context.executor.spawn(StopSignals::watch(&signals, &server));
  if (!args.quiet) {
    put("Serving '{}' at {} ({})\n", args.image.name, address_as_uri(args),
        args.writable ? "read-write" : "read-only");
    std::fflush(stdout);
  }
  Result<void> served = co_await server.run(std::move(listening));
  co_await StopSignals::end(&signals, &context.executor);
  if (args.address.is_local()) ::unlink(args.address.path.c_str());
  co_return served;
}

Async<> run(const Context& context, const Arguments& args, StopSignals& signals) {
  CO_TRY(block::OpenSpec spec, open_spec(context, args.image));
  spec.writable = args.writable;
  spec.discard = args.writable;
  spec.cache = args.cache;
  spec.force_share |= args.force_share;
  CO_TRY(std::unique_ptr<block::Node> node,
         co_await block::open_chain(context.executor, context.formats, std::move(spec)));
  Result<void> served = co_await serve(context, args, signals, *node);
  Result<void> closed = co_await node->close();
  CO_TRY_VOID(std::move(served));
  co_return closed;
}

std::optional<int> read_option(const Context& context, int code, const std::string& value,
                               Arguments* args) {
  std::optional<uint64_t> number;
  switch (code) {
    case 'f':
      args->image.format = value;
      break;
    case 't': {
      std::optional<block::CacheMode> mode = block::parse_cache_mode(value);
      if (!mode) {
        context.errorf("Invalid cache option: {}", value);
        return kExitFailure;
      }
      args->cache = *mode;
      break;
    }
    case 'w':
      args->writable = true;
      break;
    case 'U':
      args->force_share = true;
      break;
    case 'q':
      args->quiet = true;
      break;
    case kSocket:
      args->address.path = value;
      break;
    case kPort:
      number = size_argument(context, "port", value, 1, 65535);
      if (!number) return kExitFailure;
      args->address.port = std::to_string(*number);
      break;
    case kBind:
      args->address.host = value;
      break;
    case kExportName:
      args->export_name = value;
      break;
    case kPersistent:
      args->persistent = true;
      break;
    case kShared:
      number = size_argument(context, "number of clients", value, 1, kMaxClients);
      if (!number) return kExitFailure;
      args->shared = static_cast<unsigned>(*number);
      break;
    case kOptForce:
      args->image.force = true;
      break;
    case kOptImageOpts:
      args->image.image_opts = true;
      break;
    case kOptObject:
      return check_object(context, value);
  }
  return std::nullopt;
}

// What is wrong with the arguments as a whole; null if nothing is.
const char* complaint(const Arguments& args) {
  if (!args.address.path.empty() && !args.address.port.empty()) {
    return "--socket and --port exclude each other";
  }
  if (args.address.path.empty() && args.address.port.empty()) {
    return "Say where to serve: --socket PATH, or --port N (with --bind ADDRESS for other hosts)";
  }
  if (!args.address.host.empty() && args.address.port.empty()) return "--bind needs --port";
  if (args.export_name.size() > nbd::kMaxName) return "The export's name is too long";
  return nullptr;
}

}  // namespace

int cmd_serve(const Context& context, int argc, char** argv) {
  static constexpr Option kOptions[] = {{"format", 'f', true},
                                        {nullptr, 't', true},
                                        {"read-write", 'w'},
                                        {"force-share", 'U'},
                                        {nullptr, 'q'},
                                        {"socket", 0, true, kSocket},
                                        {"port", 0, true, kPort},
                                        {"bind", 0, true, kBind},
                                        {"export-name", 0, true, kExportName},
                                        {"persistent", 0, false, kPersistent},
                                        {"shared", 0, true, kShared},
                                        kForceOption,
                                        kObjectOption,
                                        kImageOptsOption};
  Arguments args;
  Operands operands = parse_options(
      context, argc, argv, kOptions,
      [&](int code, const std::string& value) { return read_option(context, code, value, &args); });
  if (operands.exit_code) return *operands.exit_code;
  if (operands.words.size() != 1) return context.usage_error("Expecting one image file name");
  args.image.name = operands.words[0];
  if (const char* text = complaint(args)) return context.usage_error(text);
  if (args.address.host.empty() && !args.address.is_local()) args.address.host = kDefaultBind;
  context.executor.serve_others();
  StopSignals signals(context.executor);
  Result<void> result = context.executor.run(run(context, args, signals));
  if (result.ok()) return kExitOk;
  context.error(result.error());
  return kExitFailure;
}

}  // namespace calf::img
