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

step "A snapshot inside an overlay, changed above, and gone back to"
run calf-img snapshot -c before vm2.qcow2
run calf-img snapshot -l vm2.qcow2
start_guest vm2 -m 128 --timeout 60s -kernel "$build/tests/guests/guest.elf" -append "write-own id=later range=8M" vm2.qcow2
wait_guests
run calf-img compare -q -f qcow2 -F raw vm2.qcow2 vm2.raw && fail "the guest wrote, and the image is as before"
ok "the disk is another now"
run calf-img snapshot -a before vm2.qcow2
run calf-img compare -f qcow2 -F raw vm2.qcow2 vm2.raw
run calf-img snapshot -d before vm2.qcow2
check_clean vm2.qcow2
ok "the snapshot brought back what was there when it was made"

step "An overlay moves to a copy of the base, then becomes one with it"
run cp base.qcow2 moved.qcow2
run chmod u+w moved.qcow2
run calf-img rebase -f qcow2 -b moved.qcow2 -F qcow2 vm1.qcow2
run calf-img compare -f qcow2 -F raw vm1.qcow2 vm1.raw
run calf-img commit -f qcow2 vm1.qcow2
run calf-img compare -f qcow2 -F raw moved.qcow2 vm1.raw
check_clean moved.qcow2 vm1.qcow2
ok "the copy holds the guest's disk now; the first base is untouched"

step "To raw and back"
run calf-img convert -f qcow2 -O raw moved.qcow2 back.raw
run calf-img convert -c -f raw -O qcow2 back.raw back.qcow2
run calf-img compare -f qcow2 -F qcow2 moved.qcow2 back.qcow2
check_clean back.qcow2
[ "$(sha256sum base.qcow2)" = "$base_sum" ] || fail "the base image has changed"
ok "the same disk on every way; the base is still what it was"

printf '\n%sAll of it true, in %s s.%s\n' "$green" "$((SECONDS - start))" "$plain"
