// ClientNode: an export of an NBD server as a node.
//
// Reads and writes are cut to what the server takes at once, and widened to its blocks where it
// takes whole ones only. The size is the export's when it was opened, and stays so: as with a
// device, truncate() to less leaves it as it is. Block states come from the server
// (base:allocation) and are believed as far as wrong ones only give wrong content, which the server
// can give anyway.
//
// Own code instead of libnbd: Debian has no static libnbd (nor GnuTLS, which it needs), so the one
// file that our programs are would fall apart; and its calls would have to be bent into the
// executor's loop. Fixed newstyle, structured replies and one meta context are some 600 lines.
//
// Not supported: TLS, reconnecting (a connection that breaks fails every request from then on).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "block/nbd/client_connection.h"
#include "block/node.h"
#include "block/whole_sectors.h"

namespace calf::nbd {

struct ClientOptions {
  SocketAddress address;
  std::string export_name;
  // Under which people know the node.
  std::string name;
  // Map by "qemu:dirty-bitmap:NAME" instead of what is allocated.
  std::string context = kAllocationContext;
  bool writable = false;
};

class ClientNode final : public block::Node, private block::WholeSectors::Disk {
 public:
  static Async<std::unique_ptr<ClientNode>> open(Executor& executor, ClientOptions options);
  // The same over a socket that is connected.
  static Async<std::unique_ptr<ClientNode>> open(Executor& executor, StreamSocket socket,
                                                 ClientOptions options);

  uint64_t size() const override { return connection_->info().size; }
  const block::Limits& limits() const override { return limits_; }
  bool read_only() const override { return !writable_; }
  Async<> read(uint64_t offset, IoSlice to) override;
  Async<> write(uint64_t offset, IoSlice from, block::WriteFlags flags) override;
  Async<> write_zeroes(ByteRange range, block::ZeroFlags flags) override;
  Async<> discard(ByteRange range) override;
  Async<> flush() override;
  Async<block::Extent> map(ByteRange range) override;
  Async<> truncate(uint64_t size, block::Preallocation preallocation) override;
  Async<> close() override;
  const std::string& name() const override { return name_; }
  const char* format() const override { return "nbd"; }

 private:
  ClientNode(Executor& executor, std::unique_ptr<ClientConnection> connection,
             ClientOptions options);
  bool offers(uint16_t flag) const { return connection_->info().has(flag); }
  Result<void> check_writable(ByteRange range) const;
  // Of whole blocks, where the server asks for that.
  Async<> read_sectors(uint64_t offset, IoSlice to) override;
  Async<> write_sectors(uint64_t offset, IoSlice from) override;
  Async<> zero_sectors(ByteRange range, block::ZeroFlags flags) override;
  Async<> write_requests(uint64_t offset, IoSlice from, bool fua);
  // A command over a range of any length, in as many requests as it takes.
  Async<> over(Command command, uint16_t flags, ByteRange range);

  std::unique_ptr<ClientConnection> connection_;
  bool writable_;
  bool bitmap_;
  std::string name_;
  block::Limits limits_;
  // Nothing if the server takes any range.
  std::optional<block::WholeSectors> blocks_;
};

}  // namespace calf::nbd
