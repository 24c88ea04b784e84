#!/usr/bin/env bash
# Four guests at once, each from an overlay on one compressed, write-protected base image. The guest is a boot-sector program
# of the project: it reads through INT 13h, enters 64-bit mode, and writes and reads its disk through virtio-blk.
# Prints the commands as it goes and fails loudly when anything it claims is untrue.
# usage: demo.sh BUILD
set -euo pipefail
build=$(realpath "${1:?usage: demo.sh BUILD}")
here=$(dirname "$(realpath "$0")")
. "$here/demo_lib.sh"
PATH=$build/bin:$PATH:/usr/sbin:/sbin
guests=4

work=$(mktemp -d)
trap 'stop_guests; chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
require_kvm
start=$SECONDS

step "A guest's disk, with data on it, becomes a compressed base image"
run "$here/guests/make_guest_disk.sh" "$build/tests/guests/guest.raw" disk.raw 64M write-own range=8M
# Text that compresses, where the guest will not write: what the overlays must go on showing.
seq 1 2500000 | dd of=disk.raw bs=1M seek=16 conv=notrunc iflag=fullblock status=none
run calf-img convert -c -f raw -O qcow2 disk.raw base.qcow2
run chmod a-w base.qcow2
base_sum=$(sha256sum base.qcow2)

step "$guests overlays on it"
for i in $(seq $guests); do
  run calf-img create -f qcow2 -b base.qcow2 -F qcow2 "vm$i.qcow2"
done

step "$guests guests at once"
boot_start=$(date +%s%N)
for i in $(seq $guests); do
  start_guest "vm$i" -m 128 -smp 2 --timeout 60s -drive "file=vm$i.qcow2,serial=guest$i"
done
wait_guests
boot_time=$((($(date +%s%N) - boot_start) / 1000000))
for i in $(seq $guests); do
  grep -q "CALF-GUEST: own written id guest$i " "vm$i.log" || fail "vm$i did not write its data"
  grep -q 'CALF-GUEST: done' "vm$i.log" || fail "vm$i did not finish its work"
done
ok "all $guests booted, wrote 8 MiB of their own each, and powered off: $boot_time ms"

step "Layers and sizes"
run calf-img info --backing-chain vm1.qcow2
run du -h base.qcow2 vm?.qcow2

step "The base is what it was, the overlays hold what is their own"
[ "$(sha256sum base.qcow2)" = "$base_sum" ] || fail "the base image has changed"
ok "sha256 of the base unchanged"
check_clean base.qcow2 vm?.qcow2
run calf-img compare -q -f raw -F qcow2 disk.raw base.qcow2 || fail "the base differs from the disk that it was made of"
for i in $(seq $guests); do
  run calf-img convert -f qcow2 -O raw "vm$i.qcow2" "vm$i.raw"
  count=$(grep -a -o "calf-guest guest$i sector" "vm$i.raw" | wc -l)
  others=$(grep -a -o 'calf-guest guest[0-9]* sector' "vm$i.raw" | grep -vc "guest$i " || true)
  [ "$count" -eq $((8 * 2048)) ] || fail "vm$i holds $count sectors of its own instead of $((8 * 2048))"
  [ "$others" -eq 0 ] || fail "vm$i holds $others sectors of other guests"
  cmp -s <(tail -c +$((16 * 1048576 + 1)) disk.raw) <(tail -c +$((16 * 1048576 + 1)) "vm$i.raw") ||
    fail "vm$i shows other data than the base where it did not write"
done
ok "each overlay holds its own guest's $((8 * 2048)) sectors, nobody else's, and the base's data around them"

printf '\n%sAll of it true, in %s s.%s\n' "$green" "$((SECONDS - start))" "$plain"
