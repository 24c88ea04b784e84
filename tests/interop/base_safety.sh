#!/usr/bin/env bash
# What calf-img knows beyond qemu-img about bases and strangers' files: a changed base is noticed,
# refs lists what hangs on a base, audit judges a file without opening what it names.
# usage: base_safety.sh CALF_IMG
set -u
calf=$(realpath "$1")
for tool in qemu-img qemu-io; do
  command -v $tool >/dev/null || { echo "SKIPPED: $tool (package qemu-utils) is missing"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export LC_ALL=C
bad=0

fail() {
  bad=$((bad + 1))
  echo "FAILED: $*"
}
# works COMMAND…, refuses TEXT COMMAND…: TEXT stands in what it prints.
works() {
  "$@" >out 2>&1 || { fail "$* (exit code $?)"; cat out; }
}
refuses() {
  local text=$1
  shift
  "$@" >out 2>&1 && fail "$* should have been refused"
  grep -qF -- "$text" out || { fail "$*: '$text' is not in the answer:"; cat out; }
}
change() { qemu-io -f "$1" -c "write -P $((RANDOM % 200 + 1)) $3 64k" "$2" >/dev/null; }

# --- the fingerprint
for format in qcow2 raw; do
  for by in create convert; do
    rm -f base over
    qemu-img create -q -f $format base 64M
    change $format base 0
    if [ $by = create ]; then
      works "$calf" create -q -f qcow2 -b base -F $format over
    else
      works "$calf" convert -O qcow2 -B base -F $format -f $format base over
    fi
    # QEMU's programs neither mind the note nor lose it.
    works qemu-img check -q over
    works qemu-io -c 'write -P 9 1M 64k' over
    works "$calf" resize -q over 65M
    # The same bytes at another time, at another place.
    touch base
    works "$calf" resize -q over 66M
    cp base copy && mv copy base
    works "$calf" resize -q over 67M
    change $format base 128k
    touch base
    refuses "calf-img rebase -u -b 'base' -F $format 'over'" "$calf" resize over 68M
    # Reading is how one gets out what is left.
    works "$calf" convert -O raw over copy
    grep -q "was changed after" out || fail "convert says nothing about the changed base"
    # Whoever stands in for qemu-img notes nothing.
    ln -sf "$calf" qemu-img
    works ./qemu-img create -q -f qcow2 -b base -F $format over
    rm qemu-img
    change $format base 192k
    works "$calf" resize -q over 68M
  done
done
# --force goes on, in every subcommand that is refused, and says so each time.
fresh() {
  rm -f base over
  qemu-img create -q -f qcow2 base 64M
  change qcow2 base 0
  "$calf" create -q -f qcow2 -b base -F qcow2 over
  "$calf" bitmap --add over seen
  change qcow2 over 1M
  change qcow2 base 128k
}
# forced COMMAND WORDS…: `calf-img COMMAND WORDS…` is refused, `calf-img COMMAND --force WORDS…` works.
forced() {
  local command=$1
  shift
  fresh
  refuses "the option --force" "$calf" "$command" "$@"
  works "$calf" "$command" --force "$@"
  grep -q "was changed after" out || fail "$command --force does not warn"
  works qemu-img check -q over
}
qemu-img create -q -f raw source 64M
qemu-io -f raw -c 'write -P 3 0 64k' source >/dev/null
forced resize over 65M
forced amend -o lazy_refcounts=on over
forced bitmap --clear over seen
forced bench -w -c 4 over
forced convert -n -f raw -O qcow2 source over
works qemu-img compare source over
forced rebase -b source -F raw over
forced commit over
# The overlay is empty and notes the base as it is now.
works "$calf" resize -q over 66M
grep -q "was changed" out && fail "commit --force leaves the overlay with the old note"
# It is no standing permission: the next one is asked again.
forced resize over 65M
refuses "the option --force" "$calf" resize over 66M
works "$calf" rebase -u -b base -F qcow2 over
works "$calf" resize over 66M
# Served for writing; the server ends with the client.
fresh
refuses "the option --force" "$calf" serve -w --socket "$work/sock" over
mkfifo ready
"$calf" serve -w --force --socket "$work/sock" over >ready 2>server &
server=$!
read -r _ <ready || fail "serve --force did not start"
rm ready
works qemu-io -f raw -c 'write -P 4 2M 64k' "nbd+unix:///?socket=$work/sock"
wait $server || { fail "serve --force"; cat server; }
grep -q "was changed after" server || fail "serve --force does not warn"
# Where nothing can be written to, the word has no place.
refuses "--force requires use of -n flag" "$calf" convert --force -O qcow2 source new
# qemu-img has --force-share, which may be shortened, and no --force.
ln -sf "$calf" qemu-img
works ./qemu-img info --force source
fresh
refuses "unrecognized option '--force'" ./qemu-img resize --force over 65M
rm qemu-img
# A commit past a layer: the top says how to go on, and siblings of the target are refused.
fresh
works "$calf" create -q -f qcow2 -b base -F qcow2 sibling
rm over
works "$calf" create -q -f qcow2 -b base -F qcow2 over
works "$calf" create -q -f qcow2 -b over -F qcow2 top
qemu-io -c 'write -P 8 3M 64k' top >/dev/null
works "$calf" convert -O raw top before
works "$calf" commit -b base top
grep -qF "calf-img rebase -u -b 'base' -F FORMAT 'top'" out || { fail "commit -b leaves no advice"; cat out; }
refuses "rebase -u" "$calf" resize sibling 65M
refuses "rebase -u" "$calf" resize top 65M
works "$calf" rebase -u -b base -F qcow2 top
works qemu-img compare before top
works "$calf" resize top 65M

# Another program's rebase makes the note void.
rm -f base over
qemu-img create -q -f raw base 64M
qemu-img create -q -f raw other 64M
works "$calf" create -q -f qcow2 -b base -F raw over
qemu-img rebase -u -f qcow2 -b other -F raw over
works "$calf" resize -q over 65M

# --- refs
mkdir -p tree/deep
qemu-img create -q -f raw tree/base 1M
works "$calf" create -q -f qcow2 -b base -F raw tree/a.qcow2
works "$calf" create -q -f qcow2 -b ../base -F raw tree/deep/b.qcow2
qemu-img create -q -u -f qcow2 -b gone -F raw tree/c.qcow2 1M
ln -s /etc tree/link
mkfifo tree/fifo
works "$calf" refs tree
printf '%s\n' "$work/tree/base" "    tree/a.qcow2 (qcow2)" "    tree/deep/b.qcow2 (qcow2)" "$work/tree/gone" \
  "    tree/c.qcow2 (qcow2, the base is missing)" | cmp -s - out || { fail "refs tree:"; cat out; }
qemu-img resize -q -f raw tree/base 2M
works "$calf" refs --output=json tree
[ "$(python3 -c 'import json; print([[o["base-state"] for o in b["overlays"]] for b in json.load(open("out"))])')" = \
  "[['changed', 'changed'], ['missing']]" ] || { fail "refs --output=json:"; cat out; }
echo QFI >tree/cut
printf 'QFI\xfb\0\0\0\3' >>tree/cut2
"$calf" refs tree >out 2>&1 && fail "refs leaves a broken image out without a word"
grep -q cut2 out || fail "refs does not name the broken image"
refuses "No such file" "$calf" refs nowhere

# --- audit
# verdict FILE WORD CODE OPTIONS…: the verdict, the exit code.
verdict() {
  local file=$1 word=$2 code=$3
  shift 3
  "$calf" audit --json "$@" "$file" >out 2>err
  [ $? = "$code" ] || fail "audit $* $file: exit code is not $code"
  python3 -c 'import json,sys; sys.exit(json.load(open("out"))["verdict"] != sys.argv[1])' "$word" ||
    { fail "audit $* $file: not $word"; cat out err; }
}
rule() { grep -qF "\"rule\": \"$1\"" out || fail "audit: the rule $1 is missing"; }
qemu-img create -q -f qcow2 clean 64M
change qcow2 clean 0
verdict clean accept 0 --deep
verdict clean accept 0 --deep --time-limit=30
verdict clean refuse 2 --deep --time-limit=0
rule not-finished-in-time
refuses "refuse: not-finished-in-time: Its tables could not be walked within 0 seconds" \
  "$calf" audit --deep --time-limit=0 clean
refuses "--time-limit is for --deep" "$calf" audit --time-limit=5 clean
refuses "time limit" "$calf" audit --deep --time-limit=soon clean
verdict clean refuse 2 -f raw
rule other-format
verdict clean refuse 2 --max-size 32M
rule too-large
qemu-img create -q -u -f qcow2 -b /etc/passwd -F raw thief 1M
verdict thief refuse 2
rule names-backing-file
if command -v strace >/dev/null; then
  strace -f -e trace=open,openat -o trace "$calf" audit thief >/dev/null 2>&1
  grep -q etc/passwd trace && fail "audit opens what the image names"
else
  echo "NOT TESTED: that audit opens nothing else (package strace is missing)"
fi
qemu-img create -q -f qcow2 -o data_file=data two 1M
verdict two refuse 2
rule names-data-file
cp clean broken
printf '\0\0' | dd of=broken bs=1 seek=131082 conv=notrunc status=none
verdict broken refuse 2 --deep
rule damaged
head -c 100000 clean >short
verdict short refuse 2
rule malformed
head -c 4096 /dev/urandom >noise
verdict noise accept 0
refuses "regular file" "$calf" audit tree/fifo
refuses "No such file" "$calf" audit nowhere
# A sparse file that claims to be enormous costs nothing.
truncate -s 6E huge 2>/dev/null || truncate -s 15T huge
dd if=clean of=huge conv=notrunc status=none
(ulimit -v 1000000; timeout 10 "$calf" audit --json --deep huge >out 2>&1)
[ $? -le 2 ] || fail "audit of a huge sparse file"

[ $bad = 0 ] && echo "all as promised"
[ $bad = 0 ]
