#!/usr/bin/env bash
# commit and rebase: stopped and run again, with what an overlay notes about its base, and never more
# written than differs. usage: chain_jobs.sh CALF_IMG
set -eu
calf=$(realpath "$1")
for tool in qemu-img qemu-io; do
  command -v $tool >/dev/null || { echo "SKIPPED: $tool (package qemu-utils) is missing"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "$*"; exit 1; }
clean() { qemu-img check -q "$1" || fail "$1 is not clean after $2"; }
shows() {
  "$calf" convert -O raw "$1" out && cmp -s out "$2" || fail "$1 shows something else after $3"
}

make_chain() {
  rm -f base copy other overlay
  qemu-img create -q -f qcow2 base 8M
  qemu-io -c "write -P 1 0 6M" base >/dev/null
  cp base copy
  "$calf" create -q -f qcow2 -b base -F qcow2 overlay 10M
  qemu-io -c "write -P 2 64k 4M" -c "write -P 3 9M 512k" -c "write -z 5M 256k" overlay >/dev/null
  "$calf" convert -O raw overlay flat
}

# A stop loses nothing, and the next run ends the work.
make_chain
"$calf" commit -r 200k overlay 2>err &
job=$!
for _ in $(seq 100); do
  [ "$(stat -c %Y%s base)" != "$(stat -c %Y%s copy)" ] && break
  sleep 0.1
done
kill -INT $job
code=0
wait $job || code=$?
[ $code = 130 ] || fail "a stopped commit ends with $code: $(cat err)"
grep -q "run the commit again" err || fail "a stopped commit says: $(cat err)"
clean base "a stopped commit"
clean overlay "a stopped commit"
shows overlay flat "a stopped commit"
"$calf" commit -q overlay || fail "the second commit"
clean base "commit"
clean overlay "commit"
shows base flat "commit"
shows overlay flat "commit"
[ "$(qemu-img map --output=json overlay | grep -c '"depth": 0')" = 0 ] || fail "not emptied"
# The base was changed by ourselves: the overlay fits.
"$calf" snapshot -c after overlay || fail "the overlay does not take its base for the same"
"$calf" commit -q -d overlay 2>err || fail "commit once more: $(cat err)"

# Onto an equal base nothing is copied.
make_chain
cp base other
qemu-img map --output=json overlay >before
"$calf" rebase -b other -F qcow2 overlay
"$calf" map --output=json overlay >after
cmp before after || fail "rebase onto an equal base has copied"
shows overlay flat rebase
clean overlay rebase
"$calf" info overlay | grep -q "backing file: other" || fail "the header names another base"
# Onto a different, longer and a shorter one, and onto none.
qemu-img create -q -f raw long 20M
qemu-io -f raw -c "write -P 9 5M 15M" long >/dev/null
"$calf" rebase -b long -F raw overlay
shows overlay flat "rebase onto a longer base"
clean overlay "rebase onto a longer base"
qemu-img create -q -f qcow2 short 1M
qemu-io -c "write -P 1 0 1M" short >/dev/null
"$calf" rebase -p -b short -F qcow2 overlay | grep -q '100.00/100%' || fail "no progress"
shows overlay flat "rebase onto a shorter base"
"$calf" rebase -b '' overlay
rm -f base other long short
shows overlay flat "rebase onto no base"
clean overlay "rebase onto no base"
qemu-img info overlay | grep -q "backing file" && fail "there is still a base"

# -u mends what was noted: the base was changed, and that is all right.
make_chain
qemu-io -c "write -P 7 7M 64k" base >/dev/null
"$calf" snapshot -c x overlay || fail "a snapshot needs no base"
"$calf" commit -q overlay 2>err && fail "a changed base was committed to"
grep -q "rebase -u" err || fail "a changed base: $(cat err)"
"$calf" rebase -u -b base -F qcow2 overlay
"$calf" commit -q overlay || fail "commit after rebase -u"

# A chain of three: into the lowest, from the top; the middle stays.
make_chain
"$calf" create -q -f qcow2 -b overlay -F qcow2 top
qemu-io -c "write -P 8 3M 3M" top >/dev/null
"$calf" convert -O raw top flat
sum=$(sha256sum <overlay)
"$calf" commit -q -b base top
[ "$sum" = "$(sha256sum <overlay)" ] || fail "the middle was changed"
shows base flat "commit -b"
clean base "commit -b"
echo "commit and rebase as they should be"
