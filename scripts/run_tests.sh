#!/usr/bin/env bash
# Runs the tests of a build folder from fast to slow and stops after the first stage that fails. The last line counts all
# of them: a stage whose tests are all skipped must not be taken for the whole.
# usage: run_tests.sh BUILD [LABELS]    LABELS: a regular expression, to run those stages only
set -euo pipefail
build=${1:?usage: run_tests.sh BUILD [LABELS]}
only=${2:-}
stages=(unit hostile model crash interop kvm boot)

if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
  echo "SKIPPED: /dev/kvm is not usable here: every test labelled kvm or boot is skipped"
fi
# Test programs that are not there have no labels, so no stage would miss them. (For `threads` just those are built.)
missing=
[ "$only" = threads ] || missing=$(ctest --test-dir "$build" -N | sed -n 's/.*: \(.*\)_NOT_BUILT.*/\1/p' | sort -u | head -n 5)
if [ -n "$missing" ]; then
  echo "run_tests.sh: not built: ${missing//$'\n'/, }, …: cmake --build $build" >&2
  exit 1
fi
status=0
report=$(mktemp)
trap 'rm -f "$report"' EXIT
declare -A sum=([tests]=0 [failures]=0 [skipped]=0)
# Adds the figures of the stage's report to `sum`.
count() {
  local what value
  for what in "${!sum[@]}"; do
    value=$(sed -n "/<testsuite/,/>/s/.*\b$what=\"\([0-9]*\)\".*/\1/p" "$report" | head -n 1)
    sum[$what]=$((sum[$what] + ${value:-0}))
  done
}
[ "$only" = threads ] && stages=(threads)
for stage in "${stages[@]}"; do
  if [ -n "$only" ] && ! grep -qxE "$only" <<<"$stage"; then continue; fi
  # Guests share the processors: one at a time, so that their time limits mean something.
  jobs=$(nproc)
  case $stage in kvm | boot) jobs=1 ;; esac
  echo "== $stage"
  : > "$report"
  ctest --test-dir "$build" -L "(^|[+])$stage([+]|\$)" -j "$jobs" --output-on-failure --no-tests=ignore --output-junit "$report" || status=1
  count
  [ $status = 0 ] || break
done
ran=$((sum[tests] - sum[skipped]))
echo "== all stages: $ran tests ran, $((ran - sum[failures])) passed, ${sum[failures]} failed; ${sum[skipped]} were skipped, by name above"
if [ $status = 0 ] && [ "${sum[tests]}" = 0 ]; then
  echo "run_tests.sh: no test has a label that matches '${only:-any}'" >&2
  status=1
fi
exit $status
