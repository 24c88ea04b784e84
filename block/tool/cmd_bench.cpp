// bench: times requests of one size on an image. Contract section 3.15.

#include <chrono>
#include <cstdio>

#include "block/ops/bench.h"
#include "block/tool/commands.h"
#include "block/tool/image_name.h"
#include "block/tool/options.h"
#include "block/tool/progress.h"
#include "block/tool/sizes.h"

namespace calf::img {
namespace {

struct Arguments {
  ImageArguments image;
  ops::BenchOptions bench;
  block::CacheMode cache;
  bool force_share = false;
  // -i native: what QEMU needs O_DIRECT for.
  bool native = false;
};

std::optional<uint64_t> plain_number(const std::string& text, uint64_t max) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) {
    if (!text.starts_with("0x")) return std::nullopt;
  }
  Result<uint64_t> value = parse_size(text);
  if (!value.ok() || *value > max) return std::nullopt;
  return *value;
}

void print_plan(const ops::BenchOptions& b) {
  put("Sending {} {} requests, {} bytes each, {} in parallel (starting at offset {}, step size "
      "{})\n",
      b.count, b.write ? "write" : "read", b.size, b.depth, b.offset, b.step);
  if (b.flush_interval != 0) {
    put("Sending {}flush every {} requests\n", b.drain ? "" : "non-draining ", b.flush_interval);
  }
  std::fflush(stdout);
}

Task<int> run(const Context& context, const Arguments& args, JobMonitor& monitor) {
  Result<block::OpenSpec> spec = open_spec(context, args.image);
  Result<std::unique_ptr<block::Node>> node(std::unique_ptr<block::Node>{});
  if (!spec.ok()) {
    node = std::move(spec.error());
  } else if (args.native && !args.cache.direct) {
    node = make_error(ErrorKind::kInvalid,
                      "Could not open '{}': aio=native was specified, but it requires "
                      "cache.direct=on, which was not specified.",
                      args.image.name);
  } else {
    spec->writable = args.bench.write;
    spec->cache = args.cache;
    spec->force_share |= args.force_share;
    node = co_await block::open_chain(context.executor, context.formats, std::move(*spec));
  }
  if (!node.ok()) {
    context.error(node.error());
    co_return kExitFailure;
  }
  print_plan(args.bench);
  auto start = std::chrono::steady_clock::now();
  Result<void> result =
      co_await ops::bench(context.executor, **node, args.bench, monitor.control());
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (result.ok()) {
    put("Run completed in {:.3f} seconds.\n", seconds.count());
  } else {
    context.error(result.error());
  }
  Result<void> closed = co_await (*node)->close();
  if (!closed.ok()) context.error(closed.error());
  co_return result.ok() && closed.ok() ? kExitOk : kExitFailure;
}

}  // namespace

int cmd_bench(const Context& context, int argc, char** argv) {
  constexpr int kFlushInterval = kLongOnly;
  constexpr int kNoDrain = kLongOnly + 1;
  constexpr int kPattern = kLongOnly + 2;
  static constexpr Option kOptions[] = {{nullptr, 'c', true},
                                        {nullptr, 'd', true},
                                        {nullptr, 'f', true},
                                        {"flush-interval", 0, true, kFlushInterval},
                                        {nullptr, 'i', true},
                                        {nullptr, 'n'},
                                        {"no-drain", 0, false, kNoDrain},
                                        {nullptr, 'o', true},
                                        {"pattern", 0, true, kPattern},
                                        {nullptr, 'q'},
                                        {nullptr, 's', true},
                                        {nullptr, 'S', true},
                                        {nullptr, 't', true},
                                        {nullptr, 'w'},
                                        {"force-share", 'U'},
                                        kForceOption,
                                        kObjectOption,
                                        kImageOptsOption};
  Arguments args;
  std::optional<uint64_t> step;
  auto fail = [&](const std::string& text) -> std::optional<int> {
    context.error(text);
    return kExitFailure;
  };
  Operands operands = parse_options(
      context, argc, argv, kOptions, [&](int code, std::string value) -> std::optional<int> {
        std::optional<uint64_t> number;
        switch (code) {
          case 'c':
            number = plain_number(value, INT32_MAX);
            if (!number) return fail("Invalid request count specified");
            args.bench.count = *number;
            break;
          case 'd':
            number = plain_number(value, INT32_MAX);
            if (!number || *number == 0) return fail("Invalid queue depth specified");
            args.bench.depth = static_cast<unsigned>(*number);
            break;
          case 'f':
            args.image.format = value;
            break;
          case 'i':
            if (value != "threads" && value != "native" && value != "io_uring") {
              return fail("Invalid aio option: " + value);
            }
            args.native = value == "native";
            break;
          case 'n':
            args.native = true;
            break;
          case 'o':
            number = size_argument(context, "offset", value);
            if (!number) return kExitFailure;
            args.bench.offset = *number;
            break;
          case 's':
            number = size_argument(context, "buffer size", value, 1, INT32_MAX);
            if (!number) return kExitFailure;
            args.bench.size = *number;
            break;
          case 'S':
            step = size_argument(context, "step_size", value, 0, INT32_MAX);
            if (!step) return kExitFailure;
            break;
          case 't': {
            std::optional<block::CacheMode> mode = block::parse_cache_mode(value);
            if (!mode) return fail("Invalid cache mode");
            args.cache = *mode;
            break;
          }
          case 'w':
            args.bench.write = true;
            break;
          case 'U':
            args.force_share = true;
            break;
          case kFlushInterval:
            number = plain_number(value, INT32_MAX);
            if (!number) return fail("Invalid flush interval specified");
            args.bench.flush_interval = *number;
            break;
          case kNoDrain:
            args.bench.drain = false;
            break;
          case kPattern:
            number = plain_number(value, 255);
            if (!number) return fail("Invalid pattern byte specified");
            args.bench.pattern = static_cast<uint8_t>(*number);
            break;
          case kOptForce:
            args.image.force = true;
            break;
          case kOptImageOpts:
            args.image.image_opts = true;
            break;
          case kOptObject:
            return check_object(context, value);
        }
        return std::nullopt;
      });
  if (operands.exit_code) return *operands.exit_code;
  if (operands.words.size() != 1) return context.usage_error("Expecting one image file name");
  args.image.name = operands.words[0];
  args.bench.step = step.value_or(args.bench.size);
  if (args.bench.flush_interval != 0) {
    if (!args.bench.write) {
      context.error("--flush-interval is only available in write tests");
      return kExitFailure;
    }
    if (args.bench.flush_interval < args.bench.depth) {
      context.error("Flush interval can't be smaller than depth");
      return kExitFailure;
    }
  }
  JobMonitor monitor(context.executor, false, 100);
  return monitor.run(run(context, args, monitor));
}

}  // namespace calf::img
