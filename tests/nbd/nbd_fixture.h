// A server and its clients in one executor, over a socket in a test's folder.
#pragma once

#include <gtest/gtest.h>

#include "block/nbd/client_node.h"
#include "block/nbd/server.h"
#include "tests/block/test_files.h"
#include "tests/nbd/disk_export.h"
#include "tests/support/image_fixture.h"

namespace calf::nbd {

class NbdTest : public testing::Test, public test::ImageBench {
 protected:
  NbdTest() : disk_(std::make_shared<test::SimulatedDisk>()) { disk_->content.resize(kSize); }

  static constexpr uint64_t kSize = 1 << 20;

  SocketAddress address() const { return {folder_.file("socket"), "", ""}; }

  // Serves disk_ until the last client has gone.
  void start(bool writable, unsigned max_clients = 4) {
    test::SimulatedFile::Options options;
    options.max_yields = 4;
    node_ = std::make_unique<test::SimulatedFile>(executor(), disk_, options);
    ServerOptions server_options;
    server_options.max_clients = max_clients;
    server_options.message = [this](std::string_view line) { messages.emplace_back(line); };
    server_ = std::make_unique<Server>(executor(), export_of(*node_, writable),
                                       std::move(server_options));
    Result<Fd> listening = listen_on(address());
    ASSERT_OK(listening);
    running_ = true;
    executor().spawn(serve(this, std::move(*listening)));
  }
  Result<std::unique_ptr<ClientNode>> connect(bool writable, std::string name = "disk") {
    ClientOptions options;
    options.address = address();
    options.export_name = std::move(name);
    options.writable = writable;
    return run(ClientNode::open(executor(), std::move(options)));
  }
  // Waits for its end.
  void finish() { run(wait_for_server(this)); }

  std::shared_ptr<test::SimulatedDisk> disk_;
  std::unique_ptr<Server> server_;
  TestFolder folder_;

 private:
  static Task<void> serve(NbdTest* self, Fd listening) {
    Result<void> served = co_await self->server_->run(std::move(listening));
    EXPECT_OK(served);
    self->running_ = false;
  }
  static Task<void> wait_for_server(NbdTest* self) {
    while (self->running_)
      co_await self->executor().yield();
  }

  std::unique_ptr<test::SimulatedFile> node_;
  bool running_ = false;
};

}  // namespace calf::nbd
