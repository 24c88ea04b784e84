#!/bin/bash
# Makes the disk image of the Linux test guest: boots through SYSLINUX by BIOS services. Needs no root and no mounts.
#
#   make_linux_disk.sh OUT.raw [WORDS…]     WORDS are added to the kernel's command line
#
#   sector 0            SYSLINUX's MBR, partition table
#   1 MiB   partition 1 FAT16, active: SYSLINUX, kernel (bzImage.stored), initrd
#   25 MiB  partition 2 ext4: busybox and /sbin/init (tests/guests/linux/root-init)
#   64 MiB  end
#
# Labels in syslinux.cfg: `linux` (default), and `direct`, the same without the initrd.
set -euo pipefail

out=${1:?usage: make_linux_disk.sh OUT.raw [WORDS…]}
shift
extra="$*"
here=$(dirname "$(realpath "$0")")
mib=$((1 << 20))
boot_start=1 boot_size=24 root_start=25 root_size=39  # MiB

fail() {
  echo "make_linux_disk.sh: $*" >&2
  exit 1
}
PATH=$PATH:/usr/sbin:/sbin
for tool in syslinux:syslinux mcopy:mtools mkfs.fat:dosfstools mkfs.ext4:e2fsprogs sfdisk:fdisk \
  /usr/lib/syslinux/mbr/mbr.bin:syslinux-common; do
  [ -n "$(type -P "${tool%:*}")" ] || [ -e "${tool%:*}" ] || fail "${tool%:*} is missing: apt-get install ${tool#*:}"
done

guest=$("$here/../../tests/guests/linux/build.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
disk=$work/disk.raw

# `quiet` is left out on purpose: the console is what a failed test shows.
append="console=ttyS0 panic=-1 reboot=k root=/dev/vda2 mitigations=off rodata=off no_timer_check tsc=reliable"
append+=" clearcpuid=erms,fsrm${extra:+ $extra}"
# CONSOLE 0: SYSLINUX would write each character twice, once through INT 10h, where that goes to the serial line too.
cat >"$work/syslinux.cfg" <<CFG
SERIAL 0 115200
CONSOLE 0
PROMPT 1
TIMEOUT 5
DEFAULT linux
SAY CALF-GUEST: syslinux
LABEL linux
  LINUX /bzimage
  INITRD /initrd
  APPEND $append
LABEL direct
  LINUX /bzimage
  APPEND $append
CFG

{
  truncate -s $(((root_start + root_size) * mib)) "$disk"
  sfdisk --no-reread --no-tell-kernel "$disk" <<TABLE
label: dos
label-id: 0xca1fca1f
start=$((boot_start * 2048)), size=$((boot_size * 2048)), type=6, bootable
start=$((root_start * 2048)), size=$((root_size * 2048)), type=83
TABLE
  dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" bs=440 count=1 conv=notrunc

  mkfs.fat -F 16 -n CALFBOOT -i ca1f0001 -h $((boot_start * 2048)) --offset $((boot_start * 2048)) "$disk" $((boot_size * 1024))
  syslinux --install --offset $((boot_start * mib)) "$disk"
  mcopy -i "$disk@@${boot_start}M" "$guest/bzImage.stored" ::/bzimage
  mcopy -i "$disk@@${boot_start}M" "$guest/initrd" ::/initrd
  mcopy -i "$disk@@${boot_start}M" "$work/syslinux.cfg" ::/syslinux.cfg

  # Initialised now, or the guest's kernel does it in the background, where it costs more.
  mkfs.ext4 -q -F -m 0 -L calfroot -U ca1fca1f-0000-4000-8000-000000000002 -d "$guest/root" \
    -E offset=$((root_start * mib)),lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0 "$disk" ${root_size}M
} >"$work/log" 2>&1 || {
  cat "$work/log" >&2
  fail "could not make $out"
}
# Sparse, and in place only when it is whole.
cp --sparse=always "$disk" "$out.part.$$"
mv "$out.part.$$" "$out"
