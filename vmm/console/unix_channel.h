// A serial port on a Unix stream socket, one peer at a time.
//
// As a server it goes on listening: after a peer has gone the next one may connect. While there is
// none, output is lost and the guest does not notice.
#pragma once

#include <string>

#include "vmm/console/fd_channel.h"

namespace calf::vmm {

class UnixChannel final : public FdChannel {
 public:
  explicit UnixChannel(EventLoop& loop) : FdChannel(loop, WhenFull::kDrop) {}
  ~UnixChannel() override;

  // Listens at `path` (an old socket there is replaced, anything else is refused). With `wait`,
  // returns only when a peer has connected.
  Result<void> listen(const std::string& path, bool wait);
  // Connects to a server at `path`.
  Result<void> connect(const std::string& path);

 private:
  void on_connection();
  Result<void> use(Fd peer);

  Fd listener_;
  std::string path_;  // of the socket file that we made
  bool connected_ = false;
};

}  // namespace calf::vmm
