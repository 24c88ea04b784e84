#!/usr/bin/env bash
# Runs the command lines of a file with calf-img (named qemu-img) and with Debian's qemu-img, each in
# a folder of its own prepared the same way, and compares what they print and return, byte for byte.
# usage: contract.sh CALF_IMG COMMANDS
#
# The file: lines before "--" prepare the folder (with Debian's tools); each line after it is one
# case; "#" begins a comment. Lines that begin with "!" are run but may differ.
set -u
calf=$(realpath "$1")
commands=$2
for tool in qemu-img qemu-io; do
  command -v $tool >/dev/null || { echo "SKIPPED: $tool (package qemu-utils) is missing"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/ours" "$work/theirs" "$work/bin"
ln -s "$calf" "$work/bin/qemu-img"
export LC_ALL=C
# Not Debian's twice.
"$work/bin/qemu-img" --version | grep -q calf || { echo "$calf does not run"; exit 1; }

setup=$(sed '/^--$/q' "$commands" | sed '$d')
for side in ours theirs; do
  (cd "$work/$side" && eval "$setup") >/dev/null 2>"$work/setup.log" ||
    { echo "the preparation failed:"; cat "$work/setup.log"; exit 1; }
done

# run SIDE COMMAND: stdout, exit code, stderr. How many blocks a file has is its file system's affair,
# and changes while data is on its way to the disk. The content IDs of vmdk images are random.
run() {
  local path=$PATH
  [ "$1" = ours ] && path="$work/bin:$PATH"
  (
    cd "$work/$1" || exit 1
    PATH=$path timeout 60 bash -c "$2" 2>"$work/stderr" </dev/null
    echo "exit code $?"
    cat "$work/stderr"
  ) | sed -E -e 's/^( *"actual-size": |disk size: ).*/\1(some)/' -e 's/^( *"?(parent[- ])?cid"?: )[0-9]+/\1(some)/'
}

cases=0
bad=0
while IFS= read -r line; do
  case $line in '' | '#'*) continue ;; esac
  may_differ=0
  case $line in '!'*) may_differ=1 line=${line#!} ;; esac
  cases=$((cases + 1))
  run ours "$line" >"$work/a" 2>/dev/null
  run theirs "$line" >"$work/b" 2>/dev/null
  [ $may_differ = 1 ] && continue
  if ! cmp -s "$work/a" "$work/b"; then
    bad=$((bad + 1))
    echo "#### $line   (< qemu-img, > calf-img)"
    diff "$work/b" "$work/a"
  fi
done < <(sed '1,/^--$/d' "$commands")
echo "$cases commands, $bad differ"
[ $cases -gt 0 ] && [ $bad = 0 ]
