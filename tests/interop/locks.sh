#!/usr/bin/env bash
# calf-img and QEMU's programs see each other's locks, and the error names who holds the image.
# usage: locks.sh CALF_IMG
set -u
calf=$(realpath "$1")
for tool in qemu-img qemu-io; do
  command -v $tool >/dev/null || { echo "SKIPPED: $tool (package qemu-utils) is missing"; exit 77; }
done
"$calf" --version >/dev/null || { echo "$calf does not run"; exit 1; }
work=$(mktemp -d)
cd "$work" || exit 1
holder=
cleanup() {
  [ -n "$holder" ] && kill "$holder" 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

# expect CODE TEXT COMMAND…: the command ends with CODE and says TEXT
expect() {
  local code=$1 text=$2 out rc
  shift 2
  out=$("$@" 2>&1)
  rc=$?
  [ $rc = "$code" ] || fail "$*: exit code $rc, not $code: $out"
  grep -qF -- "$text" <<<"$out" || fail "$*: no \"$text\" in: $out"
}
# hold COMMAND…: starts it with its input open, and waits until it has a lock
hold() {
  mkfifo input
  "$@" <input >/dev/null 2>&1 &
  holder=$!
  exec 7>input
  for _ in $(seq 100); do
    grep -qs OFDLCK /proc/$holder/fdinfo/* && return
    sleep 0.05
  done
  fail "$* took no lock"
}
release() {
  exec 7>&-
  wait "$holder"
  holder=
  rm input
}

qemu-img create -q -f qcow2 base.qcow2 1M
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 a.qcow2
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 b.qcow2
qemu-img create -q -f raw r.raw 1M

hold qemu-io a.qcow2
expect 1 "Failed to get shared \"write\" lock" "$calf" map a.qcow2
expect 1 "Is another process using the image [a.qcow2]?" "$calf" map a.qcow2
expect 1 "qemu-io (PID $holder) has it open." "$calf" map a.qcow2
expect 0 "is in use, this is its present state" "$calf" info a.qcow2
expect 0 "virtual size" "$calf" info -U a.qcow2
expect 1 "Failed to get \"write\" lock" "$calf" resize a.qcow2 2M
expect 1 "Failed to get \"write\" lock" "$calf" create -f qcow2 a.qcow2 1M
expect 1 "Failed to get \"write\" lock" "$calf" resize base.qcow2 2M
# Called by qemu-img's name it says what qemu-img says.
ln -s "$calf" qemu-img
./qemu-img info a.qcow2 >ours 2>&1 && fail "info under qemu-img's name is not refused"
qemu-img info a.qcow2 >theirs 2>&1
cmp -s ours theirs || fail "the refusal is not qemu-img's: $(cat ours)"
# The base can be read, the other overlay written.
expect 0 "No errors" "$calf" check base.qcow2
expect 0 "Image resized" "$calf" resize b.qcow2 2M
expect 0 "No errors" "$calf" check -r all b.qcow2
release
expect 0 "virtual size" "$calf" info a.qcow2

# The same with the roles exchanged: a conversion that waits for its rate limit holds its images.
qemu-img create -q -f qcow2 target.qcow2 64M
truncate -s 64M source.raw
dd if=/dev/urandom of=source.raw bs=1M count=8 conv=notrunc status=none
"$calf" convert -n -f raw -O qcow2 -r 1M source.raw target.qcow2 &
holder=$!
for _ in $(seq 100); do
  grep -qs OFDLCK /proc/$holder/fdinfo/* && break
  sleep 0.05
done
sleep 0.3
expect 1 "Failed to get shared \"write\" lock" qemu-img info target.qcow2
expect 1 "Failed to get \"write\" lock" qemu-io -c "write 0 64k" target.qcow2
expect 0 "virtual size" qemu-img info -U target.qcow2
expect 1 "(PID $holder) has it open" "$calf" map target.qcow2
# Ctrl-C: the target stays consistent.
kill -INT $holder
wait $holder
[ $? = 130 ] || fail "an interrupted convert does not end with 130"
holder=
expect 0 "No errors" qemu-img check target.qcow2

hold qemu-io -f raw r.raw
expect 0 "virtual size" "$calf" info -f raw r.raw
release

[ $failures = 0 ] && echo "locks: all as expected"
exit $((failures != 0))
