#!/bin/bash
# Builds the Linux test guest from Debian's linux-source-6.1 and busybox-static, once: the result is kept in a cache folder
# under a hash of everything that goes into it. Prints the folder that holds it, and nothing else unless it fails.
#
#   build.sh [--cached] [CACHE]  default ${CALF_CACHE:-~/.cache/calf}/guests; about four CPU minutes the first time.
#                                --cached: builds nothing; fails if the guest of this recipe is not there
#
#   bzImage                     gzip payload, as distributions ship it
#   bzImage.{lz4,xz,zstd}       the same kernel, other payloads
#   bzImage.stored              LZ4 payload of literals only (lz4_store.c): for boot loaders where guest code is slow
#   vmlinux                     ELF with PVH note, no debug information
#   initrd                      uncompressed cpio: busybox and ./init
#   root/                       tree for the ext4 root file system (scripts/guests/make_linux_disk.sh)
#   config                      the full kernel configuration
set -euo pipefail

here=$(dirname "$(realpath "$0")")
. "$here/kernel_lib.sh"
cached_only=
[ "${1:-}" = --cached ] && { cached_only=1; shift; }
cache=${1:-${CALF_CACHE:-$HOME/.cache/calf}/guests}
require_kernel_tools
require lz4 lz4
require zstd zstd
require xz xz-utils

build_kernel() {
  local work=$1 tree out
  local -a make
  configure_kernel "$work" "$here/config"
  "${make[@]}" bzImage
  cp "$out/arch/x86/boot/bzImage" "$work/bzImage"
  cp "$out/.config" "$work/config"
  strip --strip-debug -o "$work/vmlinux" "$out/vmlinux"

  gcc -O2 -o "$work/lz4_store" "$here/lz4_store.c"
  local -a link
  for payload in lz4 xz zstd stored; do
    link=("${make[@]}")
    option=KERNEL_${payload^^}
    if [ $payload = stored ]; then
      option=KERNEL_LZ4
      link+=(LZ4="$work/lz4_store")
      rm -f "$out/arch/x86/boot/compressed/vmlinux.bin.lz4"
    fi
    "$tree/scripts/config" --file "$out/.config" -d KERNEL_GZIP -d KERNEL_LZ4 -d KERNEL_XZ -d KERNEL_ZSTD -e $option
    "${link[@]}" olddefconfig
    "${link[@]}" bzImage
    cp "$out/arch/x86/boot/bzImage" "$work/bzImage.$payload"
  done
  rm -r "$tree" "$out" "$work/lz4_store"
}

# The kernel's key holds the functions that build it, so that a change elsewhere in this file costs no minutes.
kernel_key=$( (kernel_ingredients; declare -f build_kernel; hash_of "$here"/{config,lz4_store.c}) | hash_of -)
guest_key=$( (echo "$kernel_key"; hash_of "$here"/{build.sh,init,root-init} "$busybox") | hash_of -)
kernel=$cache/kernel-$kernel_key
guest=$cache/linux-$guest_key

if [ -e "$guest/complete" ]; then
  echo "$guest"
  exit 0
fi
[ -z "$cached_only" ] || fail "the Linux guest is not built: run $here/build.sh (make linux-guest)"

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

build_userland() {
  local out=$1
  mkdir -p "$out"/initrd.tree/{bin,dev,etc,mnt,proc,sys} "$out"/root/{bin,calf,dev,etc,proc,sbin,sys,tmp}
  for tree in "$out/initrd.tree" "$out/root"; do
    install -m 755 "$busybox" "$tree/bin/busybox"
    ln -s busybox "$tree/bin/sh"
    printf '%s\n' 'proc /proc proc defaults 0 0' 'sysfs /sys sysfs defaults 0 0' 'dev /dev devtmpfs defaults 0 0' >"$tree/etc/fstab"
  done
  install -m 755 "$here/init" "$out/initrd.tree/init"
  install -m 755 "$here/root-init" "$out/root/sbin/init"
  find "$out/initrd.tree" "$out/root" -exec touch -h -d 2024-01-01 {} +
  (cd "$out/initrd.tree" && find . | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0) >"$out/initrd"
  rm -r "$out/initrd.tree"
}

build_guest() {
  build_userland "$1"
  ln "$kernel"/{bzImage*,vmlinux,config} "$1/"
}

[ -e "$kernel/complete" ] || make_folder build_kernel "$kernel"
[ -e "$guest/complete" ] || make_folder build_guest "$guest"
echo "$guest"
