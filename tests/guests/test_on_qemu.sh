#!/bin/bash
# The test guests on QEMU without KVM: what calf is tested with must be accepted by a machine that others wrote.
# usage: test_on_qemu.sh FOLDER bootsector|linux      FOLDER: where the build put guest.elf, guest.raw, linux
set -uo pipefail
guests=$(realpath "${1:?usage: test_on_qemu.sh FOLDER bootsector|linux}")
scripts=$(dirname "$(realpath "$0")")/../../scripts/guests
qemu=$(type -P qemu-system-x86_64) || { echo "SKIPPED: qemu-system-x86_64 is missing"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

# expect STATUS PATTERN MACHINE CPUS QEMU-OPTIONS…
expect() {
  local status=$1 pattern=$2 machine=$3 cpus=$4
  shift 4
  timeout 120 "$qemu" -accel tcg -cpu max -machine "$machine" -smp "$cpus" -m 128 -nodefaults -display none -no-reboot -serial stdio \
    -device isa-debug-exit,iobase=0xf4,iosize=0x04 "$@" </dev/null >console 2>errors
  local got=$?
  [ $got -eq "$status" ] && { [ -z "$pattern" ] || grep -aq "$pattern" console; } && return
  failures=$((failures + 1))
  echo "FAILED ($got, expected $status and \"$pattern\"): $machine, $cpus CPUs, $*"
  tail -n 15 console errors
}
disk() { echo -drive "file=$1,format=raw,if=none,id=a,discard=unmap" -device "virtio-blk-pci,drive=a,disable-legacy=on,serial=abc,bootindex=1"; }
kernel() { echo -kernel "$guests/guest.elf" -append; }

# shellcheck disable=SC2046
bootsector() {
  truncate -s 32M data.raw
  expect 33 '' q35 1 $(kernel) exit
  expect 0 'cpus 2 by MADT' q35 2 $(kernel) smoke $(disk data.raw)
  expect 0 'cpus 4 by MADT' microvm,acpi=on 4 $(kernel) smoke
  expect 0 'io ok' q35 2 $(kernel) io $(disk data.raw)
  expect 0 'io ok' pc 2 $(kernel) 'io irq=0 queues=1 move-bars=1 seed=2' $(disk data.raw)
  expect 0 'io ok' q35 4 $(kernel) 'io pci=ecam indirect=0 event-idx=0 queue-size=8 seed=3' $(disk data.raw)
  expect 0 'own written id abc' pc 1 $(kernel) write-own $(disk data.raw)
  expect 0 'own verified id abc' pc 1 $(kernel) verify-own $(disk data.raw)
  expect 35 'does not hold round 1 of other' pc 1 $(kernel) 'verify-own id=other' $(disk data.raw)
  expect 0 'flushed 5' pc 1 $(kernel) 'spin-writes rounds=5' $(disk data.raw)
  expect 0 'spin verified rounds 5' pc 1 $(kernel) 'verify-spin rounds=5' $(disk data.raw)
  expect 35 'but round 6 was flushed\|but round 7 was flushed' pc 1 $(kernel) 'verify-spin rounds=7' $(disk data.raw)
  expect 0 'bench read' q35 1 $(kernel) 'bench count=500 depth=8' $(disk data.raw)
  expect 0 'memory ok' q35 1 $(kernel) memory
  expect 0 'rng ' q35 1 $(kernel) rng -device virtio-rng-pci,disable-legacy=on
  expect 35 'no test is called' q35 1 $(kernel) typo
  expect 35 'unknown parameter' q35 1 $(kernel) 'memory typo=1'
  "$scripts/make_guest_disk.sh" "$guests/guest.raw" boot.raw 32M io
  expect 0 'io ok' pc 2 $(disk boot.raw)
  "$scripts/make_guest_disk.sh" -c boot.raw exit
  expect 33 '' pc 1 $(disk boot.raw)
  # A floppy has no INT 13h extensions: everything is read by CHS.
  "$scripts/make_guest_disk.sh" "$guests/guest.raw" floppy.raw 1440K smoke
  expect 0 'bios drive 0 extensions 0' pc 1 -drive file=floppy.raw,format=raw,if=floppy
}

# shellcheck disable=SC2046
linux() {
  [ -e "$guests/linux/bzImage" ] || { echo "SKIPPED: no Linux guest: build target guest-linux"; exit 77; }
  # no_timer_check: on a busy machine QEMU's timer comes too late for the kernel's test of it.
  local image words="console=ttyS0 panic=-1 reboot=k no_timer_check"
  for image in bzImage bzImage.lz4 bzImage.xz bzImage.zstd bzImage.stored vmlinux; do
    expect 0 'CALF-GUEST: done' q35 2 -kernel "$guests/linux/$image" -initrd "$guests/linux/initrd" \
      -append "$words"
  done
  "$scripts/make_linux_disk.sh" disk.raw calf.test=fill:2
  expect 0 'fill ok' pc 2 $(disk disk.raw)
  expect 0 'found abc boot 1' pc 2 $(disk disk.raw)
  dd if=disk.raw of=root.raw bs=1M skip=25 status=none
  PATH=$PATH:/usr/sbin e2fsck -fn root.raw >fsck 2>&1 || { cat fsck; failures=$((failures + 1)); }
  expect 0 'found abc boot 2' q35 1 -kernel "$guests/linux/vmlinux" -append "$words root=/dev/vda2" $(disk disk.raw)
  expect 0 'found abc boot 3' q35 1 -kernel "$guests/linux/bzImage" -initrd "$guests/linux/initrd" \
    -append "$words root=/dev/vda2" $(disk disk.raw)
}

case ${2:-} in
bootsector | linux) "$2" ;;
*) echo "usage: test_on_qemu.sh FOLDER bootsector|linux" >&2; exit 2 ;;
esac
[ $failures -eq 0 ]
