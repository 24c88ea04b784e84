#!/usr/bin/env bash
# Each header given compiles as a translation unit of its own: it includes what it uses.
set -euo pipefail
flags=(-std=c++20 -fsyntax-only -x c++ -I. -D_GNU_SOURCE '-DCALF_VERSION="0"' -Wall -Wextra)
flags+=($(pkg-config --cflags liburing))
check() {
  local header=$1
  shift
  printf '#include "%s"\n' "$header" | g++ "$@" - || { echo "$header does not compile alone" >&2; return 1; }
}
export -f check
printf '%s\0' "$@" | xargs -0 -P "$(nproc)" -I{} bash -c 'check "$@"' _ {} "${flags[@]}"
