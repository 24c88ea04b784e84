#!/usr/bin/env bash
# Installs the Debian packages named in the given list that are not there yet. Says nothing when all is there.
set -euo pipefail
list=${1:?usage: deps.sh packages.txt}

mapfile -t wanted < <(grep -Ev '^\s*(#|$)' "$list")
missing=()
installed=$(dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' 2>/dev/null | awk '$1 == "ii" {print $2}')
for package in "${wanted[@]}"; do
  grep -qxF "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "calf: missing packages: ${missing[*]}" >&2
    echo "calf: install them as root: apt-get install ${missing[*]}" >&2
    exit 1
  }
  sudo=(sudo)
fi
echo "Installing ${#missing[@]} packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { "${sudo[@]}" apt-get update && "${sudo[@]}" apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "calf: apt-get failed; the lines above tell why" >&2
  exit 1
fi
