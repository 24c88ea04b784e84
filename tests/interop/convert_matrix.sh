#!/usr/bin/env bash
# Images written by one program, read, checked and compared by the other, over formats and options.
# usage: convert_matrix.sh CALF_IMG
set -u
calf=$(realpath "$1")
for tool in qemu-img qemu-io; do
  command -v $tool >/dev/null || { echo "SKIPPED: $tool (package qemu-utils) is missing"; exit 77; }
done
"$calf" --version >/dev/null || { echo "$calf does not run"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
cases=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }
run() { "$@" >log 2>&1 || fail "$*: $(cat log)"; }

# 5 MiB and a bit: data, zeroes, text that compresses, a hole at the end.
{
  head -c 700000 /dev/urandom
  head -c 900000 /dev/zero
  for i in $(seq 40000); do echo "line $i of a text"; done
  head -c 300000 /dev/urandom
} >source.raw
truncate -s 5243392 source.raw
qemu-img convert -f raw -O qcow2 -o cluster_size=4k source.raw base.qcow2
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2 6M
qemu-io -c "write -P 9 100k 333k" -c "write -z 2M 512k" -c "write -P 8 5500k 64k" overlay.qcow2 >/dev/null

both_agree() {  # IMAGE REFERENCE
  cases=$((cases + 1))
  run qemu-img compare "$1" "$2"
  run "$calf" compare "$1" "$2"
  case $1 in *.qcow2)
    run qemu-img check "$1"
    run "$calf" check "$1" ;;
  esac
}

for source in source.raw overlay.qcow2; do
  format=${source##*.}
  for options in "" cluster_size=512 cluster_size=2M compat=0.10 compat=0.10,cluster_size=4k \
    refcount_bits=1 refcount_bits=64,cluster_size=1k compression_type=zstd lazy_refcounts=on \
    preallocation=metadata preallocation=falloc preallocation=full; do
    o=${options:+-o $options}
    for compress in "" -c; do
      case "$compress$options" in -c*preallocation*) continue ;; esac
      rm -f t.qcow2
      run "$calf" convert -f "$format" -O qcow2 $o $compress $source t.qcow2
      both_agree t.qcow2 $source
      rm -f t.qcow2
      run qemu-img convert -f "$format" -O qcow2 $o $compress $source t.qcow2
      both_agree t.qcow2 $source
    done
  done
  for options in -W "-m 1" "-m 16 -W" "-S 0" "-S 64k" "-t none" "-T none -t directsync" "-r 100M"; do
    run "$calf" convert -f "$format" -O qcow2 $options $source t.qcow2
    both_agree t.qcow2 $source
    run "$calf" convert -f "$format" -O raw $options $source t.raw
    both_agree t.raw $source
  done
done

# Copied by the kernel: a file with holes whose end is inside a sector, within one file system and
# into another; formats for which that is nothing are copied as ever.
truncate -s 5M odd.raw
for at in 0 1 3; do
  head -c 700000 /dev/urandom | dd of=odd.raw bs=1M seek=$at conv=notrunc status=none
done
printf 'the end' >>odd.raw
memory=$(mktemp -d -p /dev/shm)
for target in t.raw "$memory/t.raw"; do
  rm -f "$target"
  run "$calf" convert -C -f raw -O raw odd.raw "$target"
  both_agree "$target" odd.raw
  [ "$(du -k "$target" | cut -f1)" -lt 4000 ] || fail "-C fills holes of $target"
  qemu-img create -q -f raw "$target" 5243392
  qemu-io -f raw -c 'write -P 77 0 5243392' "$target" >/dev/null
  run "$calf" convert -C -n -f raw -O raw odd.raw "$target"
  both_agree "$target" odd.raw
done
rm -r "$memory"
run "$calf" convert -C -f raw -O qcow2 odd.raw t.qcow2
both_agree t.qcow2 odd.raw
run "$calf" convert -C -f qcow2 -O raw t.qcow2 t.raw
both_agree t.raw odd.raw
if command -v strace >/dev/null; then
  strace -f -e trace=copy_file_range,pread64,preadv -o trace "$calf" convert -C -f raw -O raw odd.raw t.raw
  grep -q copy_file_range trace || fail "-C copies by itself"
else
  echo "NOT TESTED: that -C calls copy_file_range (package strace is missing)"
fi

# Onto a backing file, and into an image that holds something else.
run "$calf" convert -O qcow2 -B base.qcow2 -F qcow2 overlay.qcow2 t.qcow2
both_agree t.qcow2 overlay.qcow2
run "$calf" convert -c -O qcow2 -B base.qcow2 -F qcow2 overlay.qcow2 t.qcow2
both_agree t.qcow2 overlay.qcow2
for target in qcow2 raw; do
  qemu-img create -q -f $target t.$target 6M
  qemu-io -f $target -c "write -P 77 0 6M" t.$target >/dev/null
  run "$calf" convert -n -f qcow2 -O $target overlay.qcow2 t.$target
  both_agree t.$target overlay.qcow2
done

echo "$cases images, $failures failures"
exit $((failures != 0))
