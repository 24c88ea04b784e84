# Shared by the demos: prints each command before it runs it, fails loudly when a claim is untrue. Sourced, not run.

bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
[ -t 1 ] || bold= green= red= dim= plain=

step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
ok() { printf '   %s%s%s\n' "$green" "$*" "$plain"; }
fail() {
  printf '\n%sdemo failed: %s%s\n' "$red" "$*" "$plain" >&2
  exit 1
}
# Whatever fails without a word of ours fails with one.
set -E
trap 'fail "this failed: $BASH_COMMAND"' ERR
# Prints the command as a person would type it, then runs it.
run() {
  printf '%s$ %s%s\n' "$dim" "$*" "$plain"
  "$@"
}

# Exit code 77 says "cannot run here": as a test, the demo is skipped then.
require_kvm() {
  [ -r /dev/kvm ] && [ -w /dev/kvm ] && return
  echo "SKIPPED: /dev/kvm is not usable. Load the module (modprobe kvm_intel or kvm_amd), or join its group:" \
    "sudo usermod -aG kvm $(id -un)" >&2
  exit 77
}

# check_clean IMAGE…: both calf-img and, where it is installed, qemu-img find nothing wrong.
check_clean() {
  local image
  for image in "$@"; do
    run calf-img check -q "$image" || fail "calf-img check finds errors in $image"
    if command -v qemu-img >/dev/null; then
      run qemu-img check -q "$image" || fail "qemu-img check finds errors in $image"
    fi
  done
}

# start_guest NAME ARGUMENTS…: calf in the background, each console line prefixed with the guest's name and kept in NAME.log.
# A guest's number in `pids` is its place among those started.
pids=()
names=()
readers=()
start_guest() {
  local name=$1
  shift
  printf '%s$ calf %s &%s\n' "$dim" "$*" "$plain"
  rm -f "$name.console"
  mkfifo "$name.console"
  tee "$name.log" <"$name.console" | tr -d '\r' | sed -u "s/^/${bold}[$name]${plain} /" &
  readers+=($!)
  calf "$@" </dev/null >"$name.console" 2>&1 &
  pids+=($!)
  names+=("$name")
}
# Waits for all of them, and for the last line of their consoles; every one must end with status 0.
wait_guests() {
  local i status
  for i in "${!pids[@]}"; do
    status=0
    wait "${pids[$i]}" || status=$?
    [ "$status" -eq 0 ] || fail "guest ${names[$i]} ended with status $status; its console is above"
  done
  wait "${readers[@]}"
  pids=()
  names=()
  readers=()
}
stop_guests() {
  local pid
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
}
