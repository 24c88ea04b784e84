// The input is what a server says to our client, all at once, and then it hangs up; its first byte
// chooses what the client wants. Every request ends, and no reply reaches other memory than its
// request's.
#include <cstdint>
#include <memory>
#include <vector>

#include "block/io/sync.h"
#include "block/nbd/client_node.h"
#include "tests/fuzz/spoken_input.h"

namespace calf::nbd {
namespace {

constexpr uint8_t kWritable = 1;
constexpr uint8_t kBitmap = 2;
constexpr uint8_t kFua = 4;

Async<> read(ClientNode& node, uint64_t offset, size_t size) {
  // Exactly as long: what is written behind it is seen.
  std::vector<uint8_t> bytes(size);
  FlatIo io{std::span<uint8_t>(bytes)};
  co_return co_await node.read(offset, io.slice());
}

Async<> write(ClientNode& node, uint64_t offset, size_t size, bool fua) {
  std::vector<uint8_t> bytes(size, 0x5a);
  FlatIo io{std::span<const uint8_t>(bytes)};
  block::WriteFlags flags;
  flags.fua = fua;
  co_return co_await node.write(offset, io.slice(), flags);
}

Async<> map(ClientNode& node, ByteRange range) {
  CO_TRY(block::Extent extent, co_await node.map(range));
  if (extent.range.empty() || extent.range.length > range.length) __builtin_trap();
  co_return Result<void>();
}

// All at once; cookies count from 1 in this order.
Async<> use(Executor& executor, ClientNode& node, bool fua) {
  ByteRange range{0, node.size()};
  block::ZeroFlags zero;
  zero.fua = fua;
  std::vector<Async<>> requests;
  requests.push_back(read(node, 0, 4096));
  if (!range.empty()) requests.push_back(map(node, range));
  requests.push_back(read(node, 4096, 8192));
  requests.push_back(write(node, 512, 1024, fua));
  requests.push_back(node.write_zeroes({0, 4096}, zero));
  requests.push_back(node.discard({4096, 4096}));
  requests.push_back(node.flush());
  requests.push_back(read(node, node.size() - std::min<uint64_t>(node.size(), 512), 1024));
  co_return co_await all_succeed(executor, std::move(requests));
}

Async<> be_client(Executor& executor, StreamSocket socket, uint8_t terms) {
  ClientOptions options;
  options.writable = (terms & kWritable) != 0;
  if ((terms & kBitmap) != 0) options.context = "qemu:dirty-bitmap:b";
  CO_TRY(std::unique_ptr<ClientNode> node,
         co_await ClientNode::open(executor, std::move(socket), std::move(options)));
  Result<void> used = co_await use(executor, *node, (terms & kFua) != 0);
  (void)used;
  co_return co_await node->close();
}

void one_input(uint8_t terms, std::span<const uint8_t> input) {
  Executor::Options options;
  options.engine = Executor::Engine::kThreads;
  static std::unique_ptr<Executor> executor = std::move(*Executor::create(options));
  // What the client says fits into the socket; nobody takes it.
  auto [server, end] = test::speak(input);
  StreamSocket client = std::move(*StreamSocket::adopt(*executor, std::move(end)));
  Result<void> ended = executor->run(be_client(*executor, std::move(client), terms));
  (void)ended;
}

}  // namespace
}  // namespace calf::nbd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > calf::test::kMaxSpoken) return 0;
  calf::nbd::one_input(data[0], {data + 1, size - 1});
  return 0;
}
