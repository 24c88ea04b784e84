#!/bin/bash
# Second half of run.sh, as the first process of a host whose /dev/kvm is SVM: runs the cases one by one, reports each by name, and
# switches the host off.
#   run_inside.sh BUILD [PATTERN]     PATTERN: a regular expression, for some of the cases
set -u
build=$1 only=${2:-}
source=$(dirname "$(realpath "$0")")/../..
cd /tmp || exit 1
passed=0 failed=0 skipped=0
trap 'echo "SVM: $passed passed, $failed failed, $skipped skipped"; sync; busybox poweroff -f' EXIT

# run_case NAME COMMAND…
run_case() {
  local name=$1 status=0 start=$SECONDS
  shift
  [[ $name =~ $only ]] || return 0
  timeout 3000 "$@" >log 2>&1 </dev/null || status=$?
  # Nothing of a case outlives it: this shell is all that the host runs.
  kill -KILL -1 2>/dev/null
  if [ $status -eq 77 ] || { [ $status -eq 0 ] && grep -q '^\[  SKIPPED \]' log; }; then
    echo "SVM: skipped $name: $(grep -iE -m1 'skip.*:|needs' log)"
    skipped=$((skipped + 1))
  elif [ $status -eq 0 ]; then
    echo "SVM: passed $name ($((SECONDS - start)) s)"
    passed=$((passed + 1))
  else
    sed 's/^/SVM| /' log
    echo "SVM: FAILED $name (status $status, $((SECONDS - start)) s)"
    failed=$((failed + 1))
  fi
}

gtest() {  # PROGRAM: each of its tests in a process of its own, as ctest does it
  local line suite=
  while read -r line; do
    case $line in
    *.) suite=$line ;;
    *) run_case "$suite$line" "$1" --gtest_filter="$suite$line" ;;
    esac
  done < <("$1" --gtest_list_tests | grep -v '^Running main')
}
unittest() {  # FILE: each of its tests likewise
  local name
  for name in $(awk -F '[ (:]+' '/^class /{class = $2} /^    def test_/{print class "." $3}' "$1"); do
    run_case "$name" python3 "$1" "$build" "$name"
  done
}

gtest "$build/tests/kvm/guest_code_test"
gtest "$build/tests/kvm/machine_test"
unittest "$source/tests/svm/test_completer.py"
unittest "$source/tests/boot/test_disk_guest.py"
run_case demo "$source/scripts/demo.sh" "$build"
unittest "$source/tests/boot/test_loaders.py"
unittest "$source/tests/boot/test_linux.py"
run_case demo-linux "$source/scripts/demo_linux.sh" "$build"
