#!/usr/bin/env bash
# Where the time of some rows goes: the functions that take most of it, by thread, one file a row.
# usage: profile.sh BUILD WORK OUT [ROWS]    WORK: the folder that bench.py --work filled; ROWS: names, with * and ?
set -euo pipefail
build=$(realpath "${1:?usage: profile.sh BUILD WORK OUT [ROWS]}")
work=$(realpath "${2:?usage: profile.sh BUILD WORK OUT [ROWS]}")
out=$(realpath "${3:?usage: profile.sh BUILD WORK OUT [ROWS]}")
only=${4:-*}
command -v perf > /dev/null || { echo "SKIPPED: perf is not installed (linux-perf): no profiles" >&2; exit 0; }
img=$build/bin/calf-img
step=$((261 * 4096 * 17))
data=$(mktemp)
trap 'rm -f "$data"' EXIT
cd "$work"

profile() {
  local row=$1
  shift
  # shellcheck disable=SC2053
  [[ $row == $only ]] || return 0
  perf record -q -e cpu-clock -F 2000 -o "$data" "$@" > /dev/null 2>&1 || true
  {
    echo "# $row"
    perf report -i "$data" --no-children --sort comm,dso,symbol --stdio 2> /dev/null |
      grep -v '^#' | sed 's/iou-wrk-[0-9]*/iou-wrk/; s/ *- *- *$//; s/[ ]*$//' | grep -v '^$' | cut -c1-160 | awk 'NR <= 15'
  } > "$out/$row.txt"
}

fresh() {
  rm -f profiled.qcow2
  "$img" create -q -f qcow2 "$@" profiled.qcow2 4G
}

writes=(bench -c 4000 -S "$step" -f qcow2 -w profiled.qcow2)
profile direct-read "$img" bench -c 60000 -d 32 -S "$step" -t none -f qcow2 full.qcow2
profile cached-read-overlay "$img" bench -c 200000 -d 32 -S "$step" -t writeback -f qcow2 chain1.qcow2
fresh -b full.qcow2 -F qcow2
profile allocating-write "$img" "${writes[@]}" -d 32 -t none
fresh -b full.qcow2 -F qcow2
profile allocating-write-depth-1 "$img" "${writes[@]}" -d 1 -t none
fresh -b full.qcow2 -F qcow2
profile allocating-write-cached "$img" "${writes[@]}" -d 32 -t writeback
fresh -b full.qcow2 -F qcow2 -o extended_l2=on,cluster_size=128k
profile allocating-write-subclusters "$img" "${writes[@]}" -d 32 -t none
profile cached-read-full "$img" bench -c 200000 -d 32 -S "$step" -t writeback -f qcow2 full.qcow2
fresh
profile allocating-write-no-base "$img" "${writes[@]}" -d 32 -t none
cp --sparse=always full.qcow2 profiled.qcow2
sync profiled.qcow2
# Or direct writes would drop its pages, and do little else.
dd if=profiled.qcow2 iflag=nocache count=0 status=none
profile direct-overwrite-32 "$img" bench -c 40000 -d 32 -S "$step" -t none -w -f qcow2 profiled.qcow2
profile compressed-sequential-1 "$img" bench -c 40000 -d 1 -S 4096 -t writeback -f qcow2 real-zlib.qcow2
profile compressed-random-32 "$img" bench -c 4000 -d 32 -S "$step" -t writeback -f qcow2 real-zlib.qcow2
rm -f profiled.qcow2
profile create-1-TiB-metadata "$img" create -q -f qcow2 -o preallocation=metadata profiled.qcow2 1T
rm -f profiled.qcow2
profile create-overlay "$img" create -q -f qcow2 -b full.qcow2 -F qcow2 profiled.qcow2
profile compare-full "$img" compare -q -f raw -F qcow2 full.raw full.qcow2
profile convert-raw-to-qcow2 "$img" convert -f raw -O qcow2 scattered.raw profiled.qcow2
rm -f profiled.qcow2
profile convert-c-zlib "$img" convert -f raw -O qcow2 -c real.raw profiled.qcow2
rm -f profiled.qcow2
profile decompress-zlib "$img" convert -f qcow2 -O raw real-zlib.qcow2 profiled.qcow2
rm -f profiled.qcow2
profile convert-qcow2-to-raw "$img" convert -f qcow2 -O raw scattered.qcow2 profiled.qcow2
profile check-1-TiB-metadata "$img" check -q -f qcow2 tib.qcow2
profile check-fragmented "$img" check -q -f qcow2 fragmented.qcow2
rm -f profiled.qcow2
"$img" create -q -f qcow2 -b scattered.qcow2 -F qcow2 profiled.qcow2
profile rebase "$img" rebase -f qcow2 -b full.qcow2 -F qcow2 profiled.qcow2
profile info "$img" info -f qcow2 full.qcow2
profile map-json-fragmented "$img" map --output=json -f qcow2 fragmented.qcow2
rm -f profiled.qcow2 profiled.base
cp --sparse=always scattered.qcow2 profiled.base
"$img" create -q -f qcow2 -b profiled.base -F qcow2 profiled.qcow2
"$img" bench -q -c 2048 -d 8 -s 65536 -S 65536 -t writeback -w -f qcow2 profiled.qcow2
sync profiled.qcow2 profiled.base
profile commit "$img" commit -q -f qcow2 profiled.qcow2
rm -f profiled.base
# shellcheck disable=SC2016
profile allocating-write-16-overlays sh -c 'for i in $(seq 16); do
    "$0" create -q -f qcow2 -b full.qcow2 -F qcow2 "profiled$i.qcow2"
  done
  for i in $(seq 16); do "$0" bench -q -c 500 -d 32 -S "$1" -t none -w -f qcow2 "profiled$i.qcow2" & done; wait' "$img" "$step"
rm -f profiled?.qcow2 profiled??.qcow2
if [ -w /dev/kvm ]; then
  profile start-kernel "$build/bin/calf" -m 128 -serial null -device isa-debug-exit,iobase=0xf4,iosize=0x04 \
    -kernel "$build/tests/guests/guest.elf" -append test=exit
  guest_reads() {
    profile "guest-read-$1-$2" "$build/bin/calf" -m 128 -serial null -device isa-debug-exit,iobase=0xf4,iosize=0x04 \
      -kernel "$build/tests/guests/guest.elf" -append "test=bench op=read depth=$2 count=$3 start=0 range=192M end=debug-exit" \
      -drive "file=full.qcow2,format=qcow2,if=virtio,readonly=on,cache=$4"
  }
  guest_reads cached 32 200000 writeback
  guest_reads cached 1 20000 writeback
  guest_reads direct 32 40000 none
  # shellcheck disable=SC2016
  profile 8-guests-on-one-base sh -c 'for i in $(seq 8); do
      "$1" create -q -f qcow2 -b full.qcow2 -F qcow2 "profiled$i.qcow2"
    done
    for i in $(seq 8); do
      "$0" -m 128 -serial null -device isa-debug-exit,iobase=0xf4,iosize=0x04 -kernel "$2" \
        -append "test=bench op=read depth=32 count=20000 start=0 range=192M end=debug-exit" \
        -drive "file=profiled$i.qcow2,format=qcow2,if=virtio" < /dev/null &
    done; wait' "$build/bin/calf" "$img" "$build/tests/guests/guest.elf"
  rm -f profiled?.qcow2
fi
rm -f profiled.qcow2
