#!/usr/bin/env bash
# Runs the tests of a build folder from fast to slow and stops after the first stage that fails.
# usage: run_tests.sh BUILD [LABELS]    LABELS: a regular expression, to run those stages only
set -euo pipefail
build=${1:?usage: run_tests.sh BUILD [LABELS]}
only=${2:-}
stages=(unit hostile model crash interop kvm boot)

if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
  echo "SKIPPED: /dev/kvm is not usable here: every test labelled kvm or boot is skipped"
fi
status=0
[ "$only" = threads ] && stages=(threads)
for stage in "${stages[@]}"; do
  if [ -n "$only" ] && ! grep -qxE "$only" <<<"$stage"; then continue; fi
  # Guests share the processors: one at a time, so that their time limits mean something.
  jobs=$(nproc)
  case $stage in kvm | boot) jobs=1 ;; esac
  echo "== $stage"
  ctest --test-dir "$build" -L "^$stage\$" -j "$jobs" --output-on-failure --no-tests=ignore || { status=1; break; }
done
exit $status
