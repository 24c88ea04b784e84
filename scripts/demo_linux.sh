#!/usr/bin/env bash
# Four Linux guests at once, each from an overlay on one compressed, write-protected base image, booted by SYSLINUX from the
# disk's MBR. Each writes a file of its own and powers off; then everything is checked with tools that others wrote.
# usage: demo_linux.sh BUILD
set -euo pipefail
build=$(realpath "${1:?usage: demo_linux.sh BUILD}")
here=$(dirname "$(realpath "$0")")
. "$here/demo_lib.sh"
PATH=$build/bin:$PATH:/usr/sbin:/sbin
guests=4

work=$(mktemp -d)
trap 'stop_guests; chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
require_kvm
start=$SECONDS

step "A disk with SYSLINUX, Linux and an ext4 root becomes a compressed base image"
run "$here/guests/make_linux_disk.sh" disk.raw
run calf-img convert -c -f raw -O qcow2 disk.raw base.qcow2
run chmod a-w base.qcow2
base_sum=$(sha256sum base.qcow2)

step "$guests overlays on it"
for i in $(seq $guests); do
  run calf-img create -q -f qcow2 -b base.qcow2 -F qcow2 "vm$i.qcow2"
done

step "$guests guests at once"
boot_start=$SECONDS
for i in $(seq $guests); do
  start_guest "vm$i" -m 128 -smp 2 --timeout 900s -drive "file=vm$i.qcow2,serial=guest$i"
done
wait_guests
boot_time=$((SECONDS - boot_start))
for i in $(seq $guests); do
  grep -q 'SYSLINUX 6' "vm$i.log" || fail "vm$i was not booted by SYSLINUX"
  grep -q "CALF-GUEST: root mounted id guest$i" "vm$i.log" || fail "vm$i did not mount its root file system"
  grep -q 'CALF-GUEST: done' "vm$i.log" || fail "vm$i did not finish its work"
done
ok "all $guests booted by SYSLINUX, mounted their root read-write, wrote, and powered off: $boot_time s"

step "The base is what it was, the overlays hold what is their own"
[ "$(sha256sum base.qcow2)" = "$base_sum" ] || fail "the base image has changed"
ok "sha256 of the base unchanged"
run calf-img info --backing-chain vm1.qcow2
run du -h base.qcow2 vm?.qcow2
check_clean base.qcow2 vm?.qcow2

step "e2fsck looks into every guest's root file system"
for i in $(seq $guests); do
  run calf-img convert -f qcow2 -O raw "vm$i.qcow2" "vm$i.raw"
  dd if="vm$i.raw" of="root$i.img" bs=1M skip=25 status=none
  run e2fsck -fn "root$i.img" >"fsck$i.log" 2>&1 || { cat "fsck$i.log"; fail "e2fsck finds errors in vm$i"; }
  debugfs -R "cat /calf/guest$i-1" "root$i.img" 2>/dev/null | grep -qx "guest$i boot 1" ||
    fail "vm$i's own file is not in its file system"
done
ok "clean, and each holds the file that its guest wrote"

step "A second boot of vm1 finds the file of the first"
start_guest again1 -m 128 -smp 2 --timeout 900s -drive file=vm1.qcow2,serial=guest1
wait_guests
grep -q 'CALF-GUEST: found guest1 boot 1' again1.log || fail "the second boot did not find the file of the first"
ok "found"

printf '\n%sAll of it true, in %s s.%s\n' "$green" "$((SECONDS - start))" "$plain"
