#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "vmm/console/fd_channel.h"
#include "vmm/console/serial_spec.h"
#include "vmm/console/stdio_channel.h"
#include "vmm/console/terminal.h"
#include "vmm/console/unix_channel.h"

namespace calf::vmm {
namespace {

std::span<const uint8_t> bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

struct Pipe {
  Fd read_end;
  Fd write_end;
  Pipe() {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    read_end.reset(ends[0]);
    write_end.reset(ends[1]);
  }
};

class ChannelTest : public testing::Test {
 protected:
  // Everything that was posted so far has run when this returns.
  void settle() {
    loop_->post([this] { loop_->stop(); });
    loop_->run();
  }
  std::unique_ptr<EventLoop> loop_ = std::move(*EventLoop::create());
};

TEST_F(ChannelTest, ASlowReaderLosesNothingAndBlocksNobody) {
  Pipe pipe;
  FdChannel channel(*loop_);
  int reader = pipe.read_end.get();
  ASSERT_TRUE(channel.attach(Fd(), std::move(pipe.write_end)).ok());
  std::string sent;
  std::string line = "0123456789abcdefghijklmnopqrstuvwxyz\n";
  // Nobody reads: the pipe fills, then the backlog, then less is taken than was offered.
  size_t taken = line.size();
  while (taken == line.size()) {
    taken = channel.send(bytes(line));
    sent += line.substr(0, taken);
  }
  EXPECT_GT(sent.size(), 64u * 1024);
  bool writable = false;
  channel.set_writable_callback([&] {
    writable = true;
    loop_->stop();
  });
  std::string received;
  std::thread read_all([&] {
    char buffer[8192];
    while (received.size() < sent.size()) {
      ssize_t n = ::read(reader, buffer, sizeof buffer);
      if (n <= 0) break;
      received.append(buffer, static_cast<size_t>(n));
    }
  });
  loop_->run();
  read_all.join();
  EXPECT_TRUE(writable);
  EXPECT_EQ(received, sent);
}

TEST_F(ChannelTest, InputWaitsForTheReceiver) {
  Pipe pipe;
  FdChannel channel(*loop_);
  std::string received;
  size_t room = 3;
  channel.set_receiver([&](std::span<const uint8_t> in) {
    size_t n = std::min(room, in.size());
    received.append(reinterpret_cast<const char*>(in.data()), n);
    room -= n;
    loop_->stop();
    return n;
  });
  ASSERT_TRUE(channel.attach(std::move(pipe.read_end), Fd()).ok());
  ASSERT_EQ(::write(pipe.write_end.get(), "abcdef", 6), 6);
  loop_->run();
  EXPECT_EQ(received, "abc");
  room = 100;
  channel.receiver_ready();
  loop_->run();
  EXPECT_EQ(received, "abcdef");
}

TEST_F(ChannelTest, ReadsARegularFileToItsEnd) {
  std::string path = testing::TempDir() + "/channel_input";
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  std::string content(10000, 'x');
  ASSERT_EQ(::write(file.get(), content.data(), content.size()),
            static_cast<ssize_t>(content.size()));
  ::lseek(file.get(), 0, SEEK_SET);
  FdChannel channel(*loop_);
  std::string received;
  channel.set_receiver([&](std::span<const uint8_t> in) {
    received.append(reinterpret_cast<const char*>(in.data()), in.size());
    return in.size();
  });
  channel.set_closed_callback([&] { loop_->stop(); });
  ASSERT_TRUE(channel.attach(std::move(file), Fd()).ok());
  loop_->run();
  EXPECT_EQ(received, content);
  std::filesystem::remove(path);
}

TEST_F(ChannelTest, EscapeKeyActs) {
  Pipe pipe;
  std::string actions;
  StdioChannel channel(*loop_,
                       {[&] { actions += 'q'; }, [&] { actions += 'h'; }, [&] { actions += 'm'; },
                        [&] { actions += 'b'; }},
                       true);
  std::string received;
  channel.set_receiver([&](std::span<const uint8_t> in) {
    received.append(reinterpret_cast<const char*>(in.data()), in.size());
    loop_->stop();
    return in.size();
  });
  ASSERT_TRUE(channel.attach(std::move(pipe.read_end), Fd()).ok());
  std::string keys =
      "a\x01h\x01z\x01\x01\x01"
      "b\x01"
      "c\x01xb";
  ASSERT_EQ(::write(pipe.write_end.get(), keys.data(), keys.size()),
            static_cast<ssize_t>(keys.size()));
  loop_->run();
  EXPECT_EQ(received,
            "a\x01"
            "b");
  EXPECT_EQ(actions, "hbmq");
}

TEST_F(ChannelTest, UnixServerTakesOnePeerAfterAnother) {
  std::string path = testing::TempDir() + "/channel.sock";
  UnixChannel channel(*loop_);
  ASSERT_TRUE(channel.listen(path, false).ok());
  EXPECT_EQ(channel.send(bytes("lost")), 4u);
  std::string received;
  channel.set_receiver([&](std::span<const uint8_t> in) {
    received.append(reinterpret_cast<const char*>(in.data()), in.size());
    loop_->stop();
    return in.size();
  });
  for (std::string text : {"one", "two"}) {
    Fd peer(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    ASSERT_EQ(::connect(peer.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::write(peer.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    loop_->run();
    EXPECT_EQ(channel.send(bytes("hi")), 2u);
    char answer[8] = {};
    EXPECT_EQ(::read(peer.get(), answer, sizeof answer), 2);
    EXPECT_STREQ(answer, "hi");
    peer.reset();
    settle();
  }
  EXPECT_EQ(received, "onetwo");
}

TEST_F(ChannelTest, WillNotReplaceAFileThatIsNoSocket) {
  std::string path = testing::TempDir() + "/not_a_socket";
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  UnixChannel channel(*loop_);
  EXPECT_FALSE(channel.listen(path, false).ok());
  EXPECT_TRUE(std::filesystem::exists(path));
  std::filesystem::remove(path);
}

// The mode that a terminal has after a child with it in raw mode died of `number` (0: exited).
tcflag_t mode_after_death(int terminal, int number) {
  pid_t child = fork();
  if (child == 0) {
    auto raw = RawTerminal::enter(terminal, false);
    termios mode{};
    tcgetattr(terminal, &mode);
    if (!raw.ok() || (mode.c_lflag & ICANON) != 0) _exit(99);
    if (number == 0) exit(0);
    raise(number);
    _exit(98);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(number == 0 ? WIFEXITED(status) && WEXITSTATUS(status) == 0
                          : WIFSIGNALED(status) && WTERMSIG(status) == number);
  termios mode{};
  tcgetattr(terminal, &mode);
  return mode.c_lflag;
}

TEST(RawTerminal, ComesBackWhateverEndsTheProcess) {
  Fd master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_EQ(grantpt(master.get()), 0);
  ASSERT_EQ(unlockpt(master.get()), 0);
  char name[128];
  ASSERT_EQ(ptsname_r(master.get(), name, sizeof name), 0);
  Fd slave(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
  termios before{};
  tcgetattr(slave.get(), &before);
  ASSERT_NE(before.c_lflag & ICANON, 0u);
  for (int number : {0, SIGABRT, SIGQUIT, SIGBUS}) {
    EXPECT_EQ(mode_after_death(slave.get(), number), before.c_lflag) << "signal " << number;
  }
}

}  // namespace
}  // namespace calf::vmm
