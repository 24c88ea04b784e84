// A peer that says the fuzzer's input, all at once, and then nothing more.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <span>
#include <utility>

#include "block/base/fd.h"

namespace calf::test {

// What a socket holds.
inline constexpr size_t kMaxSpoken = 32 << 10;

// The peer's end, then the end of the one who listens. At most kMaxSpoken bytes.
inline std::pair<Fd, Fd> speak(std::span<const uint8_t> input) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) __builtin_trap();
  ssize_t said = ::send(ends[0], input.data(), input.size(), MSG_DONTWAIT);
  if (said != static_cast<ssize_t>(input.size())) __builtin_trap();
  ::shutdown(ends[0], SHUT_WR);
  return {Fd(ends[0]), Fd(ends[1])};
}

}  // namespace calf::test
