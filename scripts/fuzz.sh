#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for some seconds, starting from its corpus.
# usage: fuzz.sh [SECONDS]      new inputs that reach new code are left in build/fuzz/corpus/NAME
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
command -v clang++ >/dev/null || { echo "fuzz.sh: clang++ is missing (apt-get install clang)" >&2; exit 1; }
cmake --preset fuzz >/dev/null
cmake --build build/fuzz --target fuzz
for corpus in tests/fuzz/corpus/*/; do
  name=$(basename "$corpus")
  found=build/fuzz/corpus/$name
  mkdir -p "$found"
  echo "== $name: $seconds s"
  build/fuzz/tests/fuzz/"${name}"_fuzz -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix=build/fuzz/ "$found" "$corpus"
done
