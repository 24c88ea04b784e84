#!/usr/bin/env bash
# NBD beside other programs: calf-img serve for qemu-img, qemu-io, nbdinfo and nbdcopy; calf-img as
# a client of qemu-nbd and of itself; one base on one server below an overlay.
# usage: nbd.sh CALF_IMG
set -u
calf=$(realpath "$1")
for tool in qemu-img:qemu-utils qemu-io:qemu-utils qemu-nbd:qemu-utils nbdinfo:libnbd-bin \
  nbdcopy:libnbd-bin; do
  command -v "${tool%:*}" >/dev/null ||
    { echo "SKIPPED: ${tool%:*} (package ${tool#*:}) is missing"; exit 77; }
done
work=$(mktemp -d)
server=
cleanup() {
  [ -n "$server" ] && kill "$server" 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1
export LC_ALL=C
failed=0
fail() { echo "FAILED: $*"; failed=1; }
# check TEXT COMMAND...: the command succeeds.
check() {
  local text=$1
  shift
  "$@" >out 2>&1 || { fail "$text"; cat out; }
}
refuse() {
  local text=$1
  shift
  if timeout 60 "$@" >out 2>&1; then fail "$text"; cat out; fi
}
# Starts a server; returns when it says that it serves.
serve() {
  mkfifo ready
  "$calf" serve "$@" >ready 2>server.log &
  server=$!
  if ! read -r line <ready; then fail "serve $* did not start"; cat server.log; fi
  rm ready
}
# The server's end: it is waited for.
ended() {
  wait "$server" || { fail "$1 (exit code $?)"; cat server.log; }
  server=
}

seq 1 300000 | head -c 1500000 >data
truncate -s 4M data
qemu-img convert -f raw -O qcow2 data image.qcow2
qemu-img create -q -f qcow2 -b image.qcow2 -F qcow2 top.qcow2
qemu-io -c 'write -P 9 3M 64k' top.qcow2 >/dev/null
qemu-img convert -O raw top.qcow2 expected
uri="nbd+unix:///disk?socket=$work/s"

# ---- our server, their clients ----
serve --socket "$work/s" --export-name disk --persistent --shared 8 top.qcow2
check 'nbdinfo' nbdinfo "$uri"
nbdinfo --json "$uri" | grep -q '"export-size": 4194304' || fail 'the size of the export'
nbdinfo --json "$uri" | grep -q '"is_read_only": true' || fail 'read-only'
nbdinfo --list "nbd+unix:///?socket=$work/s" | grep -q 'export="disk"' || fail 'the list of exports'
nbdinfo --map --totals "$uri" | grep -q 'hole,zero' || fail 'holes are not told'
check 'nbdcopy' nbdcopy "$uri" copy.raw
check 'what nbdcopy got' cmp copy.raw expected
check 'qemu-img convert' qemu-img convert -O raw "$uri" q.raw
check 'what qemu-img got' cmp q.raw expected
check 'two at a time' bash -c "nbdcopy '$uri' c1 & nbdcopy '$uri' c2; wait; cmp c1 expected; cmp c2 expected"
refuse 'a write to a read-only export' qemu-io -f raw -c 'write 0 512' "$uri"
refuse 'an export that is not there' nbdinfo "nbd+unix:///other?socket=$work/s"
qemu-img map --output=json -f raw "$uri" >their_map
"$calf" map --output=json -f raw "$uri" >our_map
cmp their_map our_map || { fail 'map differs from qemu-img'; diff their_map our_map; }
# ---- our server, our client ----
check 'our client' "$calf" compare -F raw -f raw "$uri" expected
"$calf" info -f raw "$uri" | grep -q '^image: nbd+unix:///disk?socket=' || fail 'info of an export'
kill -TERM "$server"
ended 'SIGTERM ends the server'
[ -e s ] && fail 'the socket is left behind'

# A client that opens all its connections before it uses one.
serve --socket "$work/s" --export-name disk --shared 2 top.qcow2
check 'four connections of one client' timeout 60 nbdcopy -C 4 -T 4 "$uri" many
check 'what it got' cmp many expected
ended 'the server goes with its last client'

# ---- reading and writing ----
cp image.qcow2 rw.qcow2
serve -w --socket "$work/s" --persistent rw.qcow2
rw="nbd+unix:///?socket=$work/s"
refuse 'the image is locked' qemu-io -c 'write 0 512' rw.qcow2
check 'writes' qemu-io -f raw -c 'write -P 7 1M 128k' -c 'write -z 2M 64k' -c 'discard 2304k 64k' \
  -c 'write -P 8 -f 5k 3k' -c flush -c 'read -P 7 1M 128k' -c 'read -P 0 2M 64k' "$rw"
check 'nbdcopy to us' nbdcopy expected "$rw"
kill -TERM "$server"
ended 'SIGTERM ends the writing server'
check 'the image is clean' qemu-img check -q rw.qcow2
check 'what was written' qemu-img compare -f raw -F qcow2 expected rw.qcow2

# Without --persistent the server goes with its last client.
serve --port 0x2aa9 --bind 127.0.0.1 --export-name '' -f raw expected
check 'TCP' qemu-img compare -f raw -F raw nbd://127.0.0.1:10921 expected
ended 'the server goes with its last client'

# ---- their server, our client ----
qemu-nbd --fork --persistent -e 4 -r -x base -k "$work/s" -f qcow2 --pid-file=pid image.qcow2 ||
  fail 'qemu-nbd'
base="nbd:unix:$work/s:exportname=base"
check 'qemu-nbd, nbd:unix:' "$calf" compare -f raw -F raw "$base" data
check 'qemu-nbd, options' "$calf" compare --image-opts \
  "driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=$work/s,file.export=base" \
  driver=raw,file.filename=data
refuse 'another export of qemu-nbd' "$calf" info -f raw "nbd:unix:$work/s:exportname=x"
refuse 'writing to a read-only export' "$calf" convert -n -f raw -O raw data "$base"
# One base on one server: the overlay names it, the user says where it really is.
"$calf" create -q -u -f qcow2 -b base -F raw over.qcow2 4M
check 'a base on a server' "$calf" compare --image-opts \
  "driver=qcow2,file.filename=over.qcow2,backing.driver=raw,backing.file.driver=nbd,backing.file.path=$work/s,backing.file.export=base" \
  driver=raw,file.filename=data
# A name in an image is a path, whatever it looks like.
"$calf" create -q -u -f qcow2 -b "$base" -F raw evil.qcow2 4M
refuse 'a name in an image is not a protocol' "$calf" compare -F raw evil.qcow2 data
kill "$(cat pid)"

cp image.qcow2 theirs.qcow2
qemu-nbd --fork -k "$work/s2" -f qcow2 --pid-file=pid2 --discard=unmap theirs.qcow2 || fail 'qemu-nbd'
check 'converting to qemu-nbd' "$calf" convert -n -f raw -O raw expected "nbd+unix:///?socket=$work/s2"
for _ in $(seq 100); do [ -e pid2 ] && kill -0 "$(cat pid2)" 2>/dev/null || break; sleep 0.1; done
check 'what qemu-nbd wrote is clean' qemu-img check -q theirs.qcow2
check 'what qemu-nbd wrote' qemu-img compare -f raw -F qcow2 expected theirs.qcow2

# ---- new images in an export that held something else ----
head -c 6M /dev/urandom >place
{ printf 'QFI\373'; tail -c +5 place; } >place.2 && mv place.2 place
qemu-nbd --fork -t -k "$work/s4" -f raw --pid-file=pid4 place || fail 'qemu-nbd'
place="nbd+unix:///?socket=$work/s4"
refuse 'a raw image larger than the export' "$calf" create -q -f raw "$place" 7M
check 'a raw image' "$calf" create -q -f raw "$place" 4M
[ "$("$calf" info "$place" | grep 'file format')" = 'file format: raw' ] || fail 'the old header is still there'
check 'converting to raw' "$calf" convert -f raw -O raw expected "$place"
check 'what was converted' cmp -n 4194304 expected place
check 'converting to qcow2' "$calf" convert -f raw -O qcow2 -c expected "$place"
check 'the new image is clean' qemu-img check -q -f qcow2 "$place"
check 'the new image' qemu-img compare -f raw -F qcow2 expected "$place"
check 'preallocated' "$calf" create -q -f qcow2 -o preallocation=metadata "$place" 4M
qemu-img create -q -f raw zeroes 4M
check 'its clusters are zeroes' qemu-img compare -f raw -F qcow2 zeroes "$place"
check 'by dd' "$calf" dd -f raw -O qcow2 bs=64k count=20 if=expected of="$place"
check 'the image of dd is clean' qemu-img check -q -f qcow2 "$place"
refuse 'a relative backing file' "$calf" create -q -f qcow2 -F raw -b expected "$place"
refuse 'a relative data file' "$calf" create -q -f qcow2 -o data_file=beside "$place" 1M
[ -e beside ] && fail 'a data file was made'
refuse 'no server' "$calf" create -q -f qcow2 "nbd+unix:///?socket=$work/none" 1M
kill "$(cat pid4)"

# ---- an export that takes whole blocks only ----
truncate -s 6M blocks
qemu-nbd --fork -t -k "$work/s5" --pid-file=pid5 \
  --image-opts "driver=blkdebug,align=4096,image.driver=file,image.filename=$work/blocks" || fail 'qemu-nbd'
blocks="nbd+unix:///?socket=$work/s5"
nbdinfo "$blocks" | grep -q 'block_size_minimum: 4096' || fail 'the export takes any range'
check 'qcow2 in blocks' "$calf" convert -f raw -O qcow2 -o cluster_size=512 expected "$blocks"
check 'writing in blocks' "$calf" bench -w -q -f qcow2 -c 300 -d 8 -s 1536 -S 5120 --pattern=7 "$blocks"
kill "$(cat pid5)"
check 'what was written in blocks is clean' qemu-img check -q -f qcow2 blocks
cp expected expected.7
qemu-img bench -w -q -f raw -c 300 -d 8 -s 1536 -S 5120 --pattern=7 expected.7 >/dev/null
check 'what was written in blocks' qemu-img compare -f qcow2 -F raw blocks expected.7

# qemu-nbd tells block states under id 0.
qemu-nbd --fork -t -k "$work/s3" -f qcow2 -r --pid-file=pid3 image.qcow2 || fail 'qemu-nbd'
for tool in qemu-img "$calf"; do
  "$tool" map --output=json -f raw "nbd+unix:///?socket=$work/s3" >"$(basename "$tool").map"
done
kill "$(cat pid3)"
cmp qemu-img.map "$(basename "$calf").map" || fail 'the map of what qemu-nbd exports'
grep -q '"zero": true' qemu-img.map || fail 'the map shows no hole'
exit $failed
