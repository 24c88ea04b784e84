#!/usr/bin/env bash
# Encrypted images written by one program, read, checked and compared by the other: LUKS and AES
# inside qcow2, luks as a format, key slots, cryptsetup as the third opinion.
# usage: encryption.sh CALF_IMG
set -u
calf=$(realpath "$1")
for tool in qemu-img qemu-io; do
  command -v $tool >/dev/null || { echo "SKIPPED: $tool (package qemu-utils) is missing"; exit 77; }
done
command -v cryptsetup >/dev/null || {
  echo "SKIPPED: cryptsetup (package cryptsetup-bin) is missing"
  exit 77
}
"$calf" --version >/dev/null || { echo "$calf does not run"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
cases=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }
run() { "$@" >log 2>&1 || fail "$*: $(cat log)"; }
# qemu-img measures how fast the machine is, and gives up where the clock of the processor is coarse.
qemu() {
  local tries=0
  while [ $tries -lt 20 ]; do
    qemu-img "$@" >log 2>&1 && return 0
    grep -q 'accurate CPU usage' log || break
    tries=$((tries + 1))
  done
  fail "qemu-img $*: $(cat log)"
}
secrets=(--object secret,id=s,data=letmein --object secret,id=t,data=sesame)

{ head -c 300000 /dev/urandom; head -c 500000 /dev/zero; head -c 200000 /dev/urandom; } >source.raw
truncate -s 1536k source.raw

# node FORMAT SECRET FILE
node() {
  case $1 in
    luks) echo "driver=luks,key-secret=$2,file.filename=$3" ;;
    qcow2) echo "driver=qcow2,encrypt.key-secret=$2,file.filename=$3" ;;
  esac
}
both_agree() {  # FORMAT SECRET FILE
  cases=$((cases + 1))
  local n
  n=$(node "$1" "$2" "$3")
  run qemu-img compare "${secrets[@]}" --image-opts driver=raw,file.filename=source.raw "$n"
  run "$calf" compare "${secrets[@]}" --image-opts driver=raw,file.filename=source.raw "$n"
  if [ "$1" = qcow2 ]; then
    run qemu-img check "${secrets[@]}" --image-opts "$n"
    run "$calf" check "${secrets[@]}" --image-opts "$n"
  fi
  # What is not in the clear there must not be found.
  head -c 64 source.raw >needle
  ! LC_ALL=C grep -qaF "$(head -c 16 needle | tr -d '\0\n')" "$3" || fail "plain text in $3"
}

for options in "" cipher-alg=aes-128 cipher-alg=aes-192 cipher-alg=aes-256,cipher-mode=cbc \
  cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256 hash-alg=sha1 \
  hash-alg=sha512,ivgen-alg=plain cipher-alg=serpent-256 cipher-alg=serpent-192 cipher-alg=twofish-128 \
  cipher-alg=twofish-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256; do
  o=key-secret=s,iter-time=10${options:+,$options}
  rm -f t.luks
  run "$calf" convert "${secrets[@]}" -f raw -O luks -o "$o" source.raw t.luks
  both_agree luks s t.luks
  run cryptsetup luksDump t.luks
  # Where the kernel lacks a cipher for user space, cryptsetup asks device-mapper, which may be missing too.
  cryptsetup open --test-passphrase --type luks1 t.luks <<<letmein >log 2>&1 || {
    if grep -q device-mapper log; then
      echo "SKIPPED: cryptsetup cannot try $options on this host: $(cat log)"
    else
      fail "cryptsetup does not open our volume ($options): $(cat log)"
    fi
  }
  rm -f t.luks
  qemu convert "${secrets[@]}" -f raw -O luks -o "$o" source.raw t.luks
  both_agree luks s t.luks
  q=encrypt.format=luks,encrypt.${o//,/,encrypt.}
  for more in "" ,compat=0.10 ,cluster_size=4k ,extended_l2=on ,preallocation=metadata; do
    rm -f t.qcow2
    run "$calf" convert "${secrets[@]}" -f raw -O qcow2 -o "$q$more" source.raw t.qcow2
    both_agree qcow2 s t.qcow2
    [ -z "$options" ] || break
  done
  rm -f t.qcow2
  qemu convert "${secrets[@]}" -f raw -O qcow2 -o "$q" source.raw t.qcow2
  both_agree qcow2 s t.qcow2
done
for more in "" ,compat=0.10 ,cluster_size=4k; do
  for tool in "$calf" qemu-img; do
    rm -f t.qcow2
    run "$tool" convert "${secrets[@]}" -f raw -O qcow2 \
      -o "encrypt.format=aes,encrypt.key-secret=s$more" source.raw t.qcow2
    both_agree qcow2 s t.qcow2
  done
done

# Key slots: what one program adds, the other opens with; what one erases, the other does not open.
for format in luks qcow2; do
  p=
  [ $format = qcow2 ] && p=encrypt.
  for first in "$calf" qemu-img; do
    rm -f k
    o=key-secret=s,iter-time=10
    [ $format = qcow2 ] && o=encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10
    run "$calf" convert "${secrets[@]}" -f raw -O $format -o $o source.raw k
    if [ "$first" = "$calf" ]; then
      run "$calf" amend "${secrets[@]}" --image-opts -o "${p}state=active,${p}new-secret=t,${p}iter-time=10,${p}keyslot=6" \
        "$(node $format s k)"
    else
      qemu amend "${secrets[@]}" --image-opts -o "${p}state=active,${p}new-secret=t,${p}iter-time=10,${p}keyslot=6" \
        "$(node $format s k)"
    fi
    both_agree $format t k
    both_agree $format s k
    run "$first" amend "${secrets[@]}" --image-opts -o "${p}state=inactive,${p}old-secret=s" \
      "$(node $format t k)"
    both_agree $format t k
    for tool in "$calf" qemu-img; do
      "$tool" convert "${secrets[@]}" --image-opts "$(node $format s k)" -O raw x >log 2>&1 &&
        fail "$tool opens $format with an erased key"
      grep -q 'Invalid password, cannot unlock any keyslot' log || fail "$tool: $(cat log)"
    done
    "$calf" amend "${secrets[@]}" --image-opts -o "${p}state=inactive,${p}keyslot=6" \
      "$(node $format t k)" >log 2>&1 && fail "the last key of $format is gone"
    grep -q 'Attempt to erase the only active keyslot 6' log || fail "$(cat log)"
  done
done

# amend of plain images, judged by qemu-img.
for options in compat=0.10 compat=1.1 refcount_bits=1 refcount_bits=64 lazy_refcounts=on size=3M; do
  for from in "" -o\ compat=0.10; do
    rm -f p.qcow2
    run qemu-img convert $from -f raw -O qcow2 source.raw p.qcow2
    run qemu-io -c 'write -z 64k 64k' p.qcow2
    run qemu-img convert -O raw p.qcow2 want.raw
    case "$from$options" in *0.10refcount* | *0.10lazy*)
      "$calf" amend -o "$options" p.qcow2 >log 2>&1 && fail "amend -o $options of version 2"
      ;;
    *)
      run "$calf" amend -o "$options" p.qcow2
      [ "$options" = size=3M ] && truncate -s 3M want.raw
      ;;
    esac
    run qemu-img check p.qcow2
    run qemu-img compare want.raw p.qcow2
    cases=$((cases + 1))
  done
done

echo "$cases images, $failures failures"
exit $((failures != 0))
