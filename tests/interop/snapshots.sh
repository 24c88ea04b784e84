#!/usr/bin/env bash
# Internal snapshots, made and used by turns through calf-img and Debian's qemu-img: each reads what
# the other made, applies and deletes it; the image stays clean to both; the state of a machine that
# QEMU stored behind the disk survives. usage: snapshots.sh CALF_IMG
set -eu
calf=$(realpath "$1")
for tool in qemu-img qemu-io; do
  command -v $tool >/dev/null || { echo "SKIPPED: $tool (package qemu-utils) is missing"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

qemu() { qemu-img "$@"; }
calf() { "$calf" "$@"; }
clean() {
  qemu-img check -q "$1" || { echo "qemu-img check: $1 ($options)"; qemu-img check "$1"; exit 1; }
  "$calf" check -q "$1" || { echo "calf-img check: $1 ($options)"; exit 1; }
}
same() { cmp "$1" "$2" || { echo "$3 ($options)"; exit 1; }; }
# shows IMAGE SNAPSHOT FLAT: both programs read the snapshot alike.
shows() {
  for tool in qemu calf; do
    $tool convert -l "$2" -O raw "$1" out
    same out "$3" "$tool reads snapshot $2 otherwise"
  done
}
disk() {
  for tool in qemu calf; do
    $tool convert -O raw "$1" out
    same out "$2" "$tool reads the disk otherwise"
  done
}

for options in cluster_size=64k compat=0.10,cluster_size=4k cluster_size=512,refcount_bits=64 \
  cluster_size=2M refcount_bits=4,cluster_size=4k lazy_refcounts=on compression_type=zstd \
  extended_l2=on,cluster_size=32k; do
  for first in qemu calf; do
    [ $first = qemu ] && second=calf || second=qemu
    qemu-img create -q -f raw base.raw 2M
    qemu-io -f raw -c "write -P 11 0 2M" base.raw >/dev/null
    qemu-img create -q -f qcow2 -o "$options" -b base.raw -F raw image 6M
    # A machine's state stands behind the disk (-b), then the snapshot is taken.
    qemu-io -c "write -P 1 100k 1M" -c "write -P 2 2M 300k" -c "write -b -P 77 0 70k" image >/dev/null
    qemu-io -c "write -c -P 3 4M $(qemu-img info --output=json image | sed -n 's/.*"cluster-size": \([0-9]*\).*/\1/p')" image >/dev/null
    qemu-img convert -O raw image one.raw
    $first snapshot -c one image
    clean image
    qemu-io -c "write -P 4 0 500k" -c "discard 2M 128k" -c "write -z 3M 64k" image >/dev/null
    clean image
    qemu-img convert -O raw image two.raw
    $second snapshot -c two image
    clean image
    qemu-io -c "write -P 5 0 6M" image >/dev/null
    qemu-img convert -O raw image now.raw
    clean image
    shows image one one.raw
    shows image 2 two.raw
    disk image now.raw
    # Applied by the one, used by the other.
    $second snapshot -a one image
    clean image
    disk image one.raw
    qemu-io -c "read -b -P 77 0 70k" image | grep -q "Pattern verification failed" &&
      { echo "the machine's state is gone ($options)"; exit 1; }
    qemu-io -c "write -P 6 0 1M" image >/dev/null
    shows image one one.raw
    $first snapshot -a two image
    clean image
    disk image two.raw
    $second snapshot -d one image
    clean image
    shows image two two.raw
    disk image two.raw
    $first snapshot -d two image
    clean image
    disk image two.raw
    [ -z "$(calf snapshot -l image)" ]
  done
done

# Another virtual size: the disk goes back to what it was.
options=resized
qemu-img create -q -f qcow2 -o cluster_size=4k image 1M
qemu-io -c "write -P 1 0 1M" -c "write -b -P 77 0 8k" image >/dev/null
qemu-img convert -O raw image one.raw
calf snapshot -c one image
calf resize -q image 3M
clean image
# What stood behind the disk does not show on it.
qemu-io -c "read -P 0 1M 2M" image | grep -q "Pattern verification failed" &&
  { echo "the machine's state shows on the disk"; exit 1; }
qemu-io -c "write -P 2 0 3M" image >/dev/null
calf snapshot -c large image
calf resize -q --shrink image 512k
clean image
calf snapshot -a one image
clean image
disk image one.raw
qemu-io -c "read -b -P 77 0 8k" image | grep -q "Pattern verification failed" &&
  { echo "the machine's state is gone"; exit 1; }
qemu snapshot -a large image
clean image
calf snapshot -d large image
qemu snapshot -d one image
clean image

# Version 2 has no zero clusters: those of the disk, of a snapshot and of both become data, above a
# base that would show through.
options=downgrade
for first in qemu calf; do
  qemu-img create -q -f raw base.raw 2M
  qemu-io -f raw -c "write -P 11 0 2M" base.raw >/dev/null
  qemu-img create -q -f qcow2 -b base.raw -F raw image 6M
  qemu-io -c "write -z 0 300k" -c "write -z 4M 64k" -c "write -P 1 1M 64k" image >/dev/null
  qemu-img convert -O raw image one.raw
  $first snapshot -c one image
  $first snapshot -c again image
  qemu-io -c "write -P 2 64k 100k" -c "write -z 1M 128k" image >/dev/null
  qemu-img convert -O raw image now.raw
  calf amend -o compat=0.10 image
  clean image
  qemu-img info image | grep -q "compat: 0.10" || { echo "no downgrade"; exit 1; }
  disk image now.raw
  shows image one one.raw
  shows image again one.raw
  qemu-io -c "write -P 5 0 6M" image >/dev/null
  qemu snapshot -a one image
  clean image
  disk image one.raw
  calf snapshot -d one image
  qemu snapshot -d again image
  clean image
  disk image one.raw
done
echo "snapshots agree"
