// Both sides against each other; against other programs: tests/interop/nbd.sh.

#include "block/qcow2/create.h"
#include "block/qcow2/image.h"
#include "block/raw_node.h"
#include "tests/nbd/nbd_fixture.h"

namespace calf::nbd {
namespace {

using test::Bytes;
using test::pattern;

TEST_F(NbdTest, WhatIsWrittenIsReadAndDurable) {
  start(true);
  auto client = connect(true);
  ASSERT_OK(client);
  EXPECT_EQ((*client)->size(), kSize);
  Bytes bytes = pattern(1, 70'000);
  EXPECT_OK(write(**client, 12'345, bytes));
  EXPECT_EQ(*read(**client, 12'345, bytes.size()), bytes);
  EXPECT_EQ(*read(**client, 0, 512), Bytes(512, 0));
  EXPECT_OK(flush(**client));
  EXPECT_OK(zero(**client, {20'000, 4'096}, true));
  Bytes expected = bytes;
  std::fill_n(expected.begin() + (20'000 - 12'345), 4'096, 0);
  EXPECT_EQ(*read(**client, 12'345, bytes.size()), expected);
  EXPECT_OK(discard(**client, {0, 4'096}));
  EXPECT_OK(close(**client));
  finish();
  Bytes stored(bytes.size());
  disk_->content.read(12'345, stored);
  EXPECT_EQ(stored, expected);
}

TEST_F(NbdTest, HolesAreToldNotSent) {
  disk_->content.write(256 << 10, pattern(2, 64 << 10));
  start(false);
  auto client = connect(false);
  ASSERT_OK(client);
  ByteRange all{0, kSize};
  Result<block::Extent> extent = run((*client)->map(all));
  ASSERT_OK(extent);
  EXPECT_EQ(extent->range, (ByteRange{0, 256 << 10}));
  EXPECT_TRUE(extent->zero && !extent->data);
  Result<Bytes> bytes = read(**client, 0, kSize);
  ASSERT_OK(bytes);
  Bytes expected(kSize);
  disk_->content.read(0, expected);
  EXPECT_EQ(*bytes, expected);
  EXPECT_OK(close(**client));
  finish();
}

TEST_F(NbdTest, ReadOnlyExportsAreNotWritten) {
  start(false);
  EXPECT_FALSE(connect(true).ok());
  finish();
  start(false);
  auto client = connect(false);
  ASSERT_OK(client);
  EXPECT_FALSE(write(**client, 0, pattern(1, 512)).ok());
  EXPECT_OK(close(**client));
  finish();
}

TEST_F(NbdTest, AnExportKeepsItsSize) {
  start(true);
  auto client = connect(true);
  ASSERT_OK(client);
  EXPECT_OK(write(**client, 4'096, pattern(1, 512)));
  constexpr auto kOff = block::Preallocation::kOff;
  EXPECT_OK(run((*client)->truncate(0, kOff)));
  EXPECT_EQ((*client)->size(), kSize);
  EXPECT_EQ(*read(**client, 4'096, 512), pattern(1, 512));
  EXPECT_FALSE(run((*client)->truncate(kSize + 1, kOff)).ok());
  // A disk that is as long as its file says so.
  block::RawNode::Options options;
  options.writable = true;
  block::RawNode raw(std::move(*client), options);
  EXPECT_OK(run(raw.truncate(kSize, kOff)));
  Result<void> shrunk = run(raw.truncate(kSize / 2, kOff));
  ASSERT_FALSE(shrunk.ok());
  EXPECT_NE(shrunk.error().message().find("keeps its size"), std::string::npos);
  EXPECT_OK(close(raw));
  finish();
}

TEST_F(NbdTest, ANewImageFindsPlaceInAnExport) {
  disk_->content.write(0, pattern(7, kSize));
  start(true);
  auto client = connect(true);
  ASSERT_OK(client);
  qcow2::CreateOptions options;
  options.size = 64 << 20;
  options.cluster_size = 4'096;
  ASSERT_OK(run(qcow2::create(executor(), **client, options)));
  qcow2::OpenOptions open_options;
  open_options.writable = true;
  auto image = run(qcow2::Image::open(executor(), std::move(*client), std::move(open_options)));
  ASSERT_OK(image);
  // Nothing of what was there before shows.
  EXPECT_EQ(*read(**image, 0, 1 << 20), Bytes(1 << 20, 0));
  EXPECT_OK(write(**image, 50 << 20, pattern(8, 100'000)));
  EXPECT_EQ(*read(**image, (50 << 20) - 512, 512), Bytes(512, 0));
  EXPECT_EQ(*read(**image, 50 << 20, 100'000), pattern(8, 100'000));
  // There is no more room than the export has.
  Result<void> full = write(**image, 0, pattern(9, kSize));
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().sys_errno(), ENOSPC);
  EXPECT_OK(close(**image));
  finish();
  expect_clean(disk_);
}

TEST_F(NbdTest, AnotherExportIsNotThere) {
  start(false);
  auto client = connect(false, "other");
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().kind(), ErrorKind::kNotFound) << client.error().message();
  finish();
}

TEST_F(NbdTest, SeveralClientsAtATime) {
  start(true);
  auto first = connect(true);
  auto second = connect(false);
  ASSERT_OK(first);
  ASSERT_OK(second);
  Bytes bytes = pattern(3, 4'096);
  EXPECT_OK(write(**first, 0, bytes));
  EXPECT_EQ(*read(**second, 0, bytes.size()), bytes);
  EXPECT_OK(close(**first));
  EXPECT_EQ(*read(**second, 0, bytes.size()), bytes);
  EXPECT_OK(close(**second));
  finish();
}

// A client opens all its connections before it uses one.
TEST_F(NbdTest, OneClientMayComeMoreOftenThanThereAreClients) {
  start(true, 2);
  std::vector<std::unique_ptr<ClientNode>> connections;
  for (int i = 0; i < 8; ++i) {
    auto one = connect(true);
    ASSERT_OK(one);
    connections.push_back(std::move(*one));
  }
  Bytes bytes = pattern(4, 4'096);
  EXPECT_OK(write(*connections.front(), 0, bytes));
  EXPECT_EQ(*read(*connections.back(), 0, bytes.size()), bytes);
  for (auto& one : connections)
    EXPECT_OK(close(*one));
  finish();
}

Async<> read_all(block::Node& node) {
  Bytes bytes(node.size());
  FlatIo io{std::span<uint8_t>(bytes)};
  co_return co_await node.read(0, io.slice());
}

TEST_F(NbdTest, RequestsBeyondTheMemoryOfAllWaitForTheirTurn) {
  disk_->content.resize(kMaxPayload);
  constexpr unsigned kClients = 2;
  start(false, kClients);
  std::vector<std::unique_ptr<ClientNode>> connections;
  std::vector<Async<>> reads;
  for (unsigned i = 0; i < 2 * kClients; ++i) {
    auto one = connect(false);
    ASSERT_OK(one);
    connections.push_back(std::move(*one));
    reads.push_back(read_all(*connections.back()));
  }
  EXPECT_OK(run(all_succeed(executor(), std::move(reads))));
  for (auto& one : connections)
    EXPECT_OK(close(*one));
  finish();
}

Async<> write_one(block::Node& node, uint64_t offset, const Bytes& bytes) {
  FlatIo io(std::span<const uint8_t>{bytes});
  block::WriteFlags flags;
  co_return co_await node.write(offset, io.slice(), flags);
}

TEST_F(NbdTest, ManyRequestsInFlightAnsweredInAnyOrder) {
  start(true);
  auto client = connect(true);
  ASSERT_OK(client);
  std::vector<Bytes> blocks;
  for (uint64_t i = 0; i < 200; ++i)
    blocks.push_back(pattern(i, 4'096));
  std::vector<Async<>> writes;
  for (uint64_t i = 0; i < blocks.size(); ++i)
    writes.push_back(write_one(**client, i * 4'096, blocks[i]));
  EXPECT_OK(run(all_succeed(executor(), std::move(writes))));
  for (uint64_t i = 0; i < blocks.size(); ++i)
    EXPECT_EQ(*read(**client, i * 4'096, 4'096), blocks[i]) << i;
  EXPECT_OK(close(**client));
  finish();
}

TEST_F(NbdTest, StoppingAnswersWhatIsUnderWayAndEnds) {
  start(true);
  auto client = connect(true);
  ASSERT_OK(client);
  EXPECT_OK(write(**client, 0, pattern(1, 4'096)));
  server_->stop();
  finish();
  EXPECT_FALSE(read(**client, 0, 512).ok()) << "the server has gone";
  EXPECT_OK(close(**client));
}

}  // namespace
}  // namespace calf::nbd
