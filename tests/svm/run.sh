#!/bin/bash
# calf on SVM, on a machine that has none: QEMU without KVM emulates a processor with AMD's virtualisation, a Linux in it is the host,
# and calf's tests run there on a real /dev/kvm of kvm_amd.
#   run.sh BUILD [PATTERN]     BUILD: a finished build; PATTERN: a regular expression, for the cases whose names match
# The host sees this machine's files read-only; what it writes goes to a disk that is thrown away.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
build=$(realpath "${1:?usage: run.sh BUILD [PATTERN]}")
only=${2:-}
limit=${CALF_SVM_LIMIT:-10800}  # seconds for all of it: ends a host that hangs
PATH=$PATH:/usr/sbin:/sbin

fail() {
  echo "run.sh: $*" >&2
  exit 1
}
[ -x "$build/tests/kvm/machine_test" ] || fail "$build holds no tests: make build"
skip() {
  echo "SKIPPED: every test on SVM: $*"
  exit 0
}
qemu=$(type -P qemu-system-x86_64) || skip "qemu-system-x86_64 is missing: apt-get install qemu-system-x86"
errors=$("$qemu" -accel tcg -cpu qemu64,+svm,+npt,enforce -S -nodefaults -display none -monitor stdio <<<quit 2>&1 >/dev/null) ||
  skip "this QEMU does not emulate it: $errors"

# Both are built out here, where it takes minutes.
host=$("$here/build_host.sh")
"$here/../guests/linux/build.sh" >/dev/null

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/root/{bin,dev,machine,proc,root,scratch,sys}
install -m 755 "$(type -P busybox)" "$work/root/bin/busybox"
ln -s busybox "$work/root/bin/sh"
install -m 755 "$here/init" "$work/root/init"
printf '%s=%q\n' source "$(realpath "$here/../..")" build "$build" home "$HOME" only "$only" \
  patience "${CALF_TEST_PATIENCE:-1200}" >"$work/root/settings"
(cd "$work/root" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/initrd"
truncate -s 16G "$work/disk"
mkfs.ext4 -q -F "$work/disk"

status=0
timeout "$limit" "$qemu" -accel tcg,thread=multi -cpu max,xsave=off -smp 2 -m 6G -nodefaults -display none -no-reboot -serial stdio \
  -kernel "$host/bzImage" -initrd "$work/initrd" -append "console=ttyS0 panic=-1 loglevel=4 mitigations=off tsc=reliable no_timer_check" \
  -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe,discard=unmap" \
  -fsdev local,id=machine,path=/,security_model=none,readonly=on,multidevs=remap \
  -device virtio-9p-pci,fsdev=machine,mount_tag=machine </dev/null | sed -u 's/\r$//' | tee "$work/log" || status=$?
[ $status -ne 124 ] || fail "not done after $limit seconds (CALF_SVM_LIMIT)"
grep -q '^SVM: [0-9]* passed, 0 failed' "$work/log" || fail "calf has failed on SVM, or its host has: the lines above tell"
