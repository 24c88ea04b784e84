#!/usr/bin/env bash
# Puts QEMU's own iotests, as Debian's source package of the installed qemu-utils has them, into the
# cache and prints their folder. They stay outside of this tree: another project's files, under
# another licence.
# usage: fetch_source.sh    (CALF_CACHE: where to, default ~/.cache/calf)
set -euo pipefail
cache=${CALF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/calf}
full=$(dpkg-query -W -f '${source:Version}' qemu-utils 2>/dev/null) || full=
[ -n "$full" ] || { echo "the package qemu-utils is missing" >&2; exit 77; }
version=${full#*:}
upstream=${version%-*}
home=$cache/qemu-iotests-$version
source=$home/source
if [ -x "$source/tests/qemu-iotests/check" ] && [ -e "$home/complete" ]; then
  echo "$source/tests/qemu-iotests"
  exit 0
fi

rm -rf "$home"
mkdir -p "$source"
cd "$home"
mirror=${CALF_DEBIAN_MIRROR:-http://deb.debian.org}
get() {
  local place
  for place in debian/pool/main debian-security/pool/updates/main; do
    curl -fsSL --retry 3 -o "$1" "$mirror/$place/q/qemu/$1" && return 0
  done
  echo "cannot fetch $1 from $mirror" >&2
  return 1
}
get "qemu_$version.dsc" || exit 77
get "qemu_$upstream.orig.tar.xz"
get "qemu_$version.debian.tar.xz"
# The sums stand in the signed .dsc.
sed -n '/^Checksums-Sha256:/,/^[A-Z]/s/^ \([0-9a-f]\{64\}\) [0-9]* \(.*\.tar\.xz\)$/\1  \2/p' \
  "qemu_$version.dsc" | sha256sum --check --status ||
  { echo "the source of qemu $version does not match its checksums" >&2; exit 1; }

# Only what the iotests run; patches that touch something else have nothing to apply to.
tar -xf "qemu_$upstream.orig.tar.xz" -C "$source" --strip-components=1 --wildcards \
  '*/tests/qemu-iotests' '*/python' '*/scripts' '*/qapi' '*/VERSION'
tar -xf "qemu_$version.debian.tar.xz"
while read -r patch _; do
  case $patch in '' | '#'*) continue ;; esac
  (cd "$source" && patch -s -p1 -f -r - <"../debian/patches/$patch" >/dev/null 2>&1) || true
done <debian/patches/series
if find "$source/tests/qemu-iotests" -name '*.rej' | grep -q .; then
  echo "Debian's patches do not fit qemu $upstream" >&2
  exit 1
fi
rm -f ./*.tar.xz
touch complete
echo "$source/tests/qemu-iotests"
