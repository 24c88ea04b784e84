// Both sides on a host that refuses io_uring: polls, sleeps and their cancelling are the threads'.

#include "tests/nbd/nbd_fixture.h"

namespace calf::nbd {
namespace {

using test::Bytes;
using test::pattern;

class NbdOnThreadsTest : public testing::Test {
 protected:
  NbdOnThreadsTest() : disk_(std::make_shared<test::SimulatedDisk>()) {
    disk_->content.resize(1 << 20);
    Executor::Options options;
    options.engine = Executor::Engine::kThreads;
    executor_ = std::move(*Executor::create(options));
    node_ =
        std::make_unique<test::SimulatedFile>(*executor_, disk_, test::SimulatedFile::Options{});
    server_ = std::make_unique<Server>(*executor_, export_of(*node_, true), ServerOptions{});
  }

  ClientOptions client_options() const {
    ClientOptions options;
    options.address = address_;
    options.export_name = "disk";
    options.writable = true;
    return options;
  }

  TestFolder folder_;
  SocketAddress address_{folder_.file("socket"), "", ""};
  std::shared_ptr<test::SimulatedDisk> disk_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<test::SimulatedFile> node_;
  std::unique_ptr<Server> server_;
};

Async<> write_and_leave(Executor& executor, ClientOptions options, Bytes bytes) {
  CO_TRY(std::unique_ptr<ClientNode> node, co_await ClientNode::open(executor, std::move(options)));
  FlatIo from{std::span<const uint8_t>(bytes)};
  block::WriteFlags flags;
  CO_TRY_VOID(co_await node->write(4096, from.slice(), flags));
  CO_TRY_VOID(co_await node->flush());
  Bytes back(bytes.size());
  FlatIo to{std::span<uint8_t>(back)};
  CO_TRY_VOID(co_await node->read(4096, to.slice()));
  EXPECT_EQ(back, bytes);
  co_return co_await node->close();
}

TEST_F(NbdOnThreadsTest, ServedWrittenReadAndLeft) {
  Result<Fd> listening = listen_on(address_);
  ASSERT_OK(listening);
  Bytes bytes = pattern(1, 300'000);
  std::vector<Async<>> both;
  both.push_back(server_->run(std::move(*listening)));
  both.push_back(write_and_leave(*executor_, client_options(), bytes));
  // The server ends with its client.
  EXPECT_OK(executor_->run(all_succeed(*executor_, std::move(both))));
  Bytes stored(bytes.size());
  disk_->content.read(4096, stored);
  EXPECT_EQ(stored, bytes);
}

Task<void> stop_when_connected(Executor* executor, Server* server, ClientOptions options) {
  auto node = co_await ClientNode::open(*executor, std::move(options));
  EXPECT_OK(node);
  server->stop();
  if (!node.ok()) co_return;
  Result<void> closed = co_await (*node)->close();
  EXPECT_OK(closed);
}

TEST_F(NbdOnThreadsTest, StoppingEndsWhatWaits) {
  Result<Fd> listening = listen_on(address_);
  ASSERT_OK(listening);
  executor_->spawn(stop_when_connected(executor_.get(), server_.get(), client_options()));
  EXPECT_OK(executor_->run(server_->run(std::move(*listening))));
}

}  // namespace
}  // namespace calf::nbd
