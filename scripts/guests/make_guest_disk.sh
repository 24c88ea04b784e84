#!/bin/bash
# Makes a disk image that boots the boot-sector guest (tests/guests/bootsector).
#
#   make_guest_disk.sh GUEST.raw OUT.raw SIZE [WORDS…]
#
# GUEST.raw is what the build made (build/…/tests/guests/guest.raw); SIZE as truncate takes it, at least 1M; WORDS are the guest's command line.
#   make_guest_disk.sh -c DISK.raw [WORDS…]      changes the command line of such a disk
set -euo pipefail

fail() {
  echo "make_guest_disk.sh: $*" >&2
  exit 1
}
usage="usage: make_guest_disk.sh GUEST.raw OUT.raw SIZE [WORDS…] | make_guest_disk.sh -c DISK.raw [WORDS…]"

configure() {  # disk, words
  [ ${#2} -le 511 ] || fail "the command line is longer than 511 bytes"
  { printf '%s' "$2"; head -c 512 /dev/zero; } | head -c 512 | dd of="$1" bs=512 seek=1 conv=notrunc status=none
}

if [ "${1:-}" = -c ]; then
  disk=${2:?$usage}
  shift 2
  configure "$disk" "$*"
  exit
fi
guest=${1:?$usage} out=${2:?$usage} size=${3:?$usage}
shift 3
cp --sparse=always "$guest" "$out.part.$$"
truncate -s "$size" "$out.part.$$"
configure "$out.part.$$" "$*"
mv "$out.part.$$" "$out"
