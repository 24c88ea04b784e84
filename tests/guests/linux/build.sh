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
cached_only=
[ "${1:-}" = --cached ] && { cached_only=1; shift; }
cache=${1:-${CALF_CACHE:-$HOME/.cache/calf}/guests}
source=/usr/src/linux-source-6.1.tar.xz
jobs=${CALF_JOBS:-$(nproc)}

fail() {
  echo "build.sh: $*" >&2
  exit 1
}

require() {  # what, package
  [ -n "$(type -P "$1")" ] || [ -e "$1" ] || fail "$1 is missing: apt-get install $2"
}
require "$source" linux-source-6.1
require busybox busybox-static
require flex flex
require bison bison
require bc bc
require cpio cpio
require lz4 lz4
require zstd zstd
require xz xz-utils
require /usr/include/libelf.h libelf-dev
busybox=$(type -P busybox)
readelf -lW "$busybox" | grep -q INTERP && fail "$busybox is not static: apt-get install busybox-static"

build_kernel() {
  local work=$1
  local tree=$work/linux-source-6.1 out=$work/out
  export KBUILD_BUILD_TIMESTAMP='2024-01-01' KBUILD_BUILD_USER=calf KBUILD_BUILD_HOST=guest
  local -a make=(nice make -s -j"$jobs" -C "$tree" O="$out")
  [ -n "$(type -P ccache)" ] && make+=(CC="ccache gcc")

  tar -C "$work" -xf "$source"
  mkdir "$out"
  "${make[@]}" tinyconfig
  (cd "$tree" && scripts/kconfig/merge_config.sh -m -O "$out" "$out/.config" "$here/config")
  "${make[@]}" olddefconfig
  check_config "$out/.config"
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

# A line of our fragment that the kernel's dependencies overruled would go unnoticed otherwise.
check_config() {
  local line bad=0
  while read -r line; do
    case $line in
    CONFIG_*=*) grep -qxF "$line" "$1" ;;
    "# CONFIG_"*" is not set") ! grep -q "^$(cut -d' ' -f2 <<<"$line")=" "$1" ;;
    esac || { echo "not taken: $line"; bad=1; }
  done <"$here/config"
  return $bad
}

hash_of() { cat "$@" | sha256sum | cut -c1-16; }
# The kernel's key holds the functions that build it, so that a change elsewhere in this file costs no minutes. The tarball
# is hashed by its size and date: reading 130 MiB on each call would cost more than it proves.
kernel_key=$( (stat -c '%s %Y' "$source"; gcc -dumpfullversion; declare -f build_kernel check_config
  hash_of "$here"/{config,lz4_store.c}) | hash_of -)
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

# FUNCTION FOLDER: runs FUNCTION on a new folder that becomes FOLDER once it is whole.
make_folder() {
  local work=$2.part log=$2.log
  rm -rf "$work"
  mkdir -p "$work"
  # Not `if ! (…)`: that would switch `set -e` off inside.
  set +e
  (set -e; "$1" "$work") >"$log" 2>&1
  local status=$?
  set -e
  if [ $status -ne 0 ]; then
    tail -n 40 "$log" >&2
    fail "$1 failed; whole log: $log"
  fi
  touch "$work/complete"
  rm -rf "$2" "$log"
  mv "$work" "$2"
}

build_guest() {
  build_userland "$1"
  ln "$kernel"/{bzImage*,vmlinux,config} "$1/"
}

[ -e "$kernel/complete" ] || make_folder build_kernel "$kernel"
[ -e "$guest/complete" ] || make_folder build_guest "$guest"
echo "$guest"
