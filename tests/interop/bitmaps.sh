#!/usr/bin/env bash
# Bitmaps between calf-img and Debian's tools: what one records or stores, the other reads, bit by
# bit. qemu-nbd shows a bitmap's bits.
# usage: bitmaps.sh CALF_IMG
set -u
calf=$(realpath "$1")
for tool in qemu-img qemu-io qemu-nbd; do
  command -v $tool >/dev/null || { echo "SKIPPED: $tool (package qemu-utils) is missing"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0

fail() {
  echo "FAILED: $*"
  failed=1
}

# bits IMAGE BITMAP: the dirty ranges as QEMU reads them from the file, neighbours joined.
bits() {
  rm -f socket
  qemu-nbd -r -t -f qcow2 -B "$2" -k "$PWD/socket" "$1" >/dev/null 2>&1 &
  local server=$!
  for _ in $(seq 100); do [ -S socket ] && break; sleep 0.05; done
  qemu-img map --output=json --image-opts \
    "driver=nbd,server.type=unix,server.path=$PWD/socket,x-dirty-bitmap=qemu:dirty-bitmap:$2" |
    python3 -c '
import json, sys
out = []
for e in json.load(sys.stdin):
    if e["data"]:
        continue
    if out and out[-1][1] == e["start"]:
        out[-1][1] += e["length"]
    else:
        out.append([e["start"], e["start"] + e["length"]])
print(out)'
  kill $server 2>/dev/null
  wait $server 2>/dev/null
}

# same WHAT IMAGE_OF_CALF BITMAP IMAGE_OF_QEMU BITMAP
same() {
  local ours theirs
  ours=$(bits "$2" "$3")
  theirs=$(bits "$4" "$5")
  [ -n "$ours" ] && [ "$ours" = "$theirs" ] || fail "$1: calf-img has $ours, QEMU $theirs"
}

clean() {
  qemu-img check -q "$1" || fail "qemu-img check $1"
  "$calf" check -q "$1" || fail "calf-img check $1"
}

seed=${SEED:-$RANDOM}
echo "SEED=$seed"
RANDOM=$seed
for cluster in 512 65536 2097152; do
  for granularity in 512 65536; do
    # The same writes to two images, one recorded by each side.
    for side in calf qemu; do
      rm -f $side.qcow2
      qemu-img create -q -f qcow2 -o cluster_size=$cluster $side.qcow2 9M
    done
    "$calf" bitmap --add -g $granularity calf.qcow2 b || fail "add"
    "$calf" bitmap --add --disable calf.qcow2 off || fail "add"
    qemu-img bitmap --add -g $granularity qemu.qcow2 b
    # The same requests to both.
    for _ in 1 2 3; do
      requests="-w -f qcow2 -c $((1 + RANDOM % 5)) -d 1 -o $((RANDOM % 8000 * 512))"
      requests="$requests -s $(((1 + RANDOM % 100) * 512)) -S $(((1 + RANDOM % 800) * 512))"
      "$calf" bench $requests calf.qcow2 >/dev/null || fail "bench $requests"
      qemu-img bench $requests qemu.qcow2 >/dev/null || fail "qemu-img bench $requests"
    done
    clean calf.qcow2
    same "recorded, cluster $cluster, granularity $granularity" calf.qcow2 b qemu.qcow2 b
    # One side writes on where the other has stopped.
    qemu-io -c 'write -P 9 5M 70k' calf.qcow2 >/dev/null || fail "QEMU writes on"
    qemu-io -c 'write -P 9 5M 70k' qemu.qcow2 >/dev/null
    clean calf.qcow2
    same "written on by QEMU" calf.qcow2 b qemu.qcow2 b
    # Copies, merges, sizes.
    "$calf" convert --bitmaps -O qcow2 qemu.qcow2 copy.qcow2 || fail "convert --bitmaps"
    clean copy.qcow2
    same "copied" copy.qcow2 b qemu.qcow2 b
    "$calf" bitmap --add -g 1M --merge b qemu.qcow2 wide || fail "merge"
    qemu-img bitmap --add -g 1M --merge b copy.qcow2 wide
    same "merged" qemu.qcow2 wide copy.qcow2 wide
    "$calf" resize -q calf.qcow2 12M || fail "resize"
    qemu-img resize -q copy.qcow2 12M
    clean calf.qcow2
    same "grown" calf.qcow2 b copy.qcow2 b
    "$calf" resize -q --shrink calf.qcow2 5M || fail "resize"
    qemu-img resize -q --shrink copy.qcow2 5M
    clean calf.qcow2
    same "shrunk" calf.qcow2 b copy.qcow2 b
    "$calf" bitmap --clear calf.qcow2 b || fail "clear"
    [ "$(bits calf.qcow2 b)" = "[]" ] || fail "cleared: $(bits calf.qcow2 b)"
    [ $failed = 0 ] || exit 1
  done
done
echo "all bits agree"
exit $failed
