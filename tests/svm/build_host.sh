#!/bin/bash
# Builds the kernel of the host in which calf runs on SVM, once: the result is kept in a cache folder under a hash of everything that
# goes into it. Prints the folder that holds bzImage and config, and nothing else unless it fails.
#
#   build_host.sh [CACHE]   default ${CALF_CACHE:-~/.cache/calf}/hosts; about five CPU minutes the first time
set -euo pipefail

here=$(dirname "$(realpath "$0")")
guest=$here/../guests/linux
. "$guest/kernel_lib.sh"
cache=${1:-${CALF_CACHE:-$HOME/.cache/calf}/hosts}
require_kernel_tools

build_kernel() {
  local work=$1 tree out
  local -a make
  configure_kernel "$work" "$guest/config" "$here/config"
  "${make[@]}" bzImage
  cp "$out/arch/x86/boot/bzImage" "$out/.config" "$work"
  mv "$work/.config" "$work/config"
  rm -r "$tree" "$out"
}

host=$cache/svm-$( (kernel_ingredients; declare -f build_kernel; hash_of "$guest/config" "$here/config") | hash_of -)
if [ ! -e "$host/complete" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
  # Another build may have made it while this one waited.
  [ -e "$host/complete" ] || make_folder build_kernel "$host"
fi
echo "$host"
