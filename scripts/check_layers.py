#!/usr/bin/env python3
"""Holds every #include against the direction of dependency (docs/architecture.md).

The longest matching folder decides which row a file belongs to; an include of ours must lead to a row that is allowed.
"""
import pathlib
import re
import subprocess
import sys

BASE = {"block/base"}
IO = BASE | {"block/io"}
NODE = IO | {"block", "block/crypto"}
# folder -> folders it may include from, besides itself
ALLOWED = {
    "block/base": set(),
    "block/io": BASE,
    "block": IO | {"block/crypto"},
    "block/crypto": IO,
    "block/luks": NODE,
    "block/qcow2": NODE,
    "block/nbd": NODE,
    "block/vmdk": NODE,
    "block/formats": NODE | {"block/nbd", "block/qcow2", "block/luks", "block/vmdk"},
    "block/ops": NODE | {"block/luks", "block/qcow2", "block/formats"},
    "block/tool": NODE | {"block/nbd", "block/qcow2", "block/luks", "block/vmdk", "block/formats",
                          "block/ops"},
    "devices": IO,
    "devices/virtio": IO | {"devices", "block"},
    "firmware": NODE | {"devices"},
    "vmm": NODE | {"block/formats", "block/ops", "devices", "devices/virtio", "firmware"},
}
# Only these may see KVM's ABI.
KVM_HEADER_ALLOWED = ("vmm/", "tests/")
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def row_of(path):
    parts = path.split("/")[:-1]
    while parts:
        folder = "/".join(parts)
        if folder in ALLOWED:
            return folder
        parts.pop()
    return None


def main():
    bad = []
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.h", "*.cpp"],
                           check=True, capture_output=True, text=True).stdout.split()
    for name in files:
        text = pathlib.Path(name).read_text()
        row = row_of(name)
        for number, line in enumerate(text.splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = match.group(2)
            if target == "linux/kvm.h" and not name.startswith(KVM_HEADER_ALLOWED):
                bad.append(f"{name}:{number}: only vmm/ may include <linux/kvm.h>")
            if match.group(1) != '"' or row is None:
                continue
            other = row_of(target)
            if target.startswith("tests/"):
                bad.append(f"{name}:{number}: {row} may not include the tests")
            elif other is not None and other != row and other not in ALLOWED[row]:
                bad.append(f"{name}:{number}: {row} may not include {target} ({other})")
    print("\n".join(bad), file=sys.stderr, end="\n" if bad else "")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
