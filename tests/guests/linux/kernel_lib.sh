# shellcheck shell=bash
# How kernels of the tests are built from Debian's linux-source-6.1 and kept in the cache. Sourced, not run.

source=/usr/src/linux-source-6.1.tar.xz
jobs=${CALF_JOBS:-$(nproc)}

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

require() {  # what, package
  [ -n "$(type -P "$1")" ] || [ -e "$1" ] || fail "$1 is missing: apt-get install $2"
}

require_kernel_tools() {
  require "$source" linux-source-6.1
  require flex flex
  require bison bison
  require bc bc
  require /usr/include/libelf.h libelf-dev
  require cpio cpio
  require busybox busybox-static
  busybox=$(type -P busybox)
  readelf -lW "$busybox" | grep -q INTERP && fail "$busybox is not static: apt-get install busybox-static"
  return 0
}

# configure_kernel WORK FRAGMENT…: unpacks the source to $tree and configures it in $out, by tinyconfig and the fragments. `make` is the
# command that builds in there.
configure_kernel() {
  local work=$1
  shift
  tree=$work/linux-source-6.1 out=$work/out
  export KBUILD_BUILD_TIMESTAMP='2024-01-01' KBUILD_BUILD_USER=calf KBUILD_BUILD_HOST=guest
  make=(nice make -s -j"$jobs" -C "$tree" O="$out")
  # The folder's name must not count, or a change of one option costs as much as the first build.
  [ -n "$(type -P ccache)" ] && export CCACHE_BASEDIR=$work CCACHE_NOHASHDIR=1 && make+=(CC="ccache gcc")

  tar -C "$work" -xf "$source"
  mkdir "$out"
  "${make[@]}" tinyconfig
  (cd "$tree" && scripts/kconfig/merge_config.sh -m -O "$out" "$out/.config" "$@")
  "${make[@]}" olddefconfig
  check_config "$out/.config" "$@"
}

# A line of our fragments that the kernel's dependencies overruled would go unnoticed otherwise.
check_config() {
  local line bad=0 config=$1
  shift
  while read -r line; do
    case $line in
    CONFIG_*=*) grep -qxF "$line" "$config" ;;
    "# CONFIG_"*" is not set") ! grep -q "^$(cut -d' ' -f2 <<<"$line")=" "$config" ;;
    esac || { echo "not taken: $line"; bad=1; }
  done < <(cat "$@")
  return $bad
}

hash_of() { cat "$@" | sha256sum | cut -c1-16; }

# What every kernel depends on. The tarball is hashed by its size and date: reading 130 MiB on each call would cost more than it
# proves.
kernel_ingredients() {
  stat -c '%s %Y' "$source"
  gcc -dumpfullversion
  declare -f configure_kernel check_config
}

# FUNCTION FOLDER: runs FUNCTION on a new folder that becomes FOLDER once it is whole.
make_folder() {
  local work=$2.part log=$2.log
  rm -rf "$work"
  mkdir -p "$work"
  # Not `if ! (…)`: that would switch `set -e` off inside.
  set +e
  (set -e; "$1" "$work") >"$log" 2>&1
  local status=$?
  set -e
  if [ $status -ne 0 ]; then
    tail -n 40 "$log" >&2
    fail "$1 failed; whole log: $log"
  fi
  touch "$work/complete"
  rm -rf "$2" "$log"
  mv "$work" "$2"
}
