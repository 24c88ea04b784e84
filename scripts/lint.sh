#!/usr/bin/env bash
# Everything about the source that a machine can judge. LINT_TIDY=0 leaves out clang-tidy, the slow part.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t sources < <(git ls-files '*.h' '*.cpp')
mapfile -t units < <(git ls-files '*.cpp')
# The guests of the tests are freestanding C.
mapfile -t headers < <(git ls-files '*.h' ':!tests/guests/')
jobs=$(nproc)

echo "== format"
printf '%s\n' "${sources[@]}" | xargs -P "$jobs" -n 20 clang-format --dry-run --Werror
echo "== layers"
python3 scripts/check_layers.py
echo "== coroutine rules"
python3 scripts/check_coroutines.py
echo "== each header compiles alone"
scripts/check_headers.sh "${headers[@]}"
if [ "${LINT_TIDY:-1}" != 0 ]; then
  echo "== clang-tidy"
  cmake --preset clang >/dev/null
  # Generated sources must exist before they can be read.
  printf '%s\n' "${units[@]}" | grep -v '^tests/' | grep -v '^block/io/uring_engine.cpp$' |
    xargs -P "$jobs" -n 4 clang-tidy -p build/clang --quiet --warnings-as-errors='*' 2>&1 |
    { grep -vE '^[0-9]+ warnings? generated|^Suppressed|^Use -header-filter|^$' || true; } | tee build/tidy.log
  ! grep -qE '(warning|error):' build/tidy.log
fi
