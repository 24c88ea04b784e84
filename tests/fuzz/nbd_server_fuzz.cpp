// The input is what a client says to our server, all at once, and then nothing more; its first byte
// chooses the export. Handshake and requests end, and a read-only export keeps its content.
#include <cstdint>
#include <memory>
#include <vector>

#include "block/nbd/server_connection.h"
#include "block/nbd/server_handshake.h"
#include "tests/fuzz/spoken_input.h"
#include "tests/nbd/disk_export.h"
#include "tests/support/simulated_file.h"

namespace calf::nbd {
namespace {

constexpr uint64_t kDiskSize = 256 << 10;
constexpr uint8_t kWritable = 1;
constexpr uint8_t kSeveralClients = 2;

std::shared_ptr<test::SimulatedDisk> make_disk() {
  auto disk = std::make_shared<test::SimulatedDisk>();
  disk->content.resize(kDiskSize);
  std::vector<uint8_t> data(64 << 10, 0x5a);
  disk->content.write(32 << 10, data);
  return disk;
}

Task<void> serve(Executor& executor, StreamSocket* socket, const Export& exported) {
  Result<std::optional<Session>> session = co_await negotiate(*socket, exported);
  if (session.ok() && *session) {
    RequestMemory memory(executor, kMaxPayload);
    ServerConnection connection(executor, *socket, exported, **session, memory);
    Result<void> served = co_await connection.run();
    (void)served;
  }
  socket->shut_down();
}

// Takes all that the server says, until it hangs up.
Task<void> listen_to(StreamSocket* socket) {
  std::vector<uint8_t> bytes(64 << 10);
  bool more = true;
  while (more) {
    Result<bool> got = co_await socket->receive_or_end(bytes);
    more = got.ok() && *got;
  }
}

void one_input(uint8_t terms, std::span<const uint8_t> input) {
  Executor::Options options;
  options.engine = Executor::Engine::kThreads;
  static std::unique_ptr<Executor> executor = std::move(*Executor::create(options));
  bool writable = (terms & kWritable) != 0;
  std::shared_ptr<test::SimulatedDisk> disk = make_disk();
  disk->start_log();
  test::SimulatedFile::Options file;
  file.max_yields = 2;
  test::SimulatedFile node(*executor, disk, file);
  Export exported = export_of(node, writable);
  exported.multi_conn = (terms & kSeveralClients) != 0;

  auto [peer, end] = test::speak(input);
  StreamSocket client = std::move(*StreamSocket::adopt(*executor, std::move(peer)));
  StreamSocket server = std::move(*StreamSocket::adopt(*executor, std::move(end)));
  executor->spawn(serve(*executor, &server, exported));
  executor->run(listen_to(&client));
  for (const test::LoggedOp& op : disk->log) {
    if (!writable && op.kind != test::LoggedOp::Kind::kFlush) __builtin_trap();
  }
}

}  // namespace
}  // namespace calf::nbd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > calf::test::kMaxSpoken) return 0;
  calf::nbd::one_input(data[0], {data + 1, size - 1});
  return 0;
}
