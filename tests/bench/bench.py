#!/usr/bin/env python3
"""Measures calf beside QEMU and beside what the host itself can do, interleaved, in one run.

usage: bench.py BUILD [--row PATTERN] [--runs N] [--quick | --all | --full] [--json FILE] [--list] [--work FOLDER]

Prints min, median, max, CPU seconds and RSS of each contestant, and how many times better calf is (above 1: better) than each
peer and than the limit. All but full runs use a quarter of the data and leave a few rows out; quick ones take a row or two of each
kind and less than five minutes. The files are made in a temporary folder below /var/tmp (a file system with O_DIRECT), or kept in
--work.
"""
import argparse
import fnmatch
import json
import os
import pathlib
import shutil
import sys
import tempfile

from guest_rows import QEMU, GuestRows
from image_files import ImageFiles
from image_rows import ImageRows
from measuring import Failed, Runner, heading, measure

QUICK = ("cached-read-overlay", "direct-read", "allocating-write", "compressed-random-1", "convert-raw-to-qcow2", "convert-c-zstd",
         "commit", "compare-full", "check-1-TiB-metadata", "create-overlay", "info", "start-kernel", "start-16-at-once",
         "memory-beyond-guest", "guest-read-cached-1", "guest-read-cached-32", "kicks-per-request")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--row", default="*", help="names, with * and ?")
    parser.add_argument("--runs", type=int, default=3)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help=", ".join(QUICK))
    size.add_argument("--all", action="store_true", help="also the rows in which QEMU takes minutes")
    size.add_argument("--full", action="store_true", help="all rows, and four times as much data")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--work", type=pathlib.Path)
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    for peer in (QEMU, "qemu-img", "qemu-io"):
        if shutil.which(peer) is None:
            print(f"SKIPPED: {peer} is not installed: its figures are missing below", file=sys.stderr)
    has_kvm = os.access("/dev/kvm", os.R_OK | os.W_OK)
    if not has_kvm:
        print("SKIPPED: /dev/kvm is not usable: no rows with guests", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="calf-bench-", dir="/var/tmp") as own:
        work = arguments.work or pathlib.Path(own)
        work.mkdir(exist_ok=True)
        files = ImageFiles(build / "bin/calf-img", work.resolve(), 1024 if arguments.full else 256)
        limits = build / "tests/bench/limits/bench_limits"
        runner = Runner(limits)
        rows = list(ImageRows(runner, build / "bin/calf-img", limits, files, arguments.full).rows())
        if has_kvm:
            rows += GuestRows(runner, build, limits, files).rows()
        named = [row for row in rows if fnmatch.fnmatch(row.name, arguments.row)]
        if arguments.list:
            print("\n".join(row.name for row in rows))
            return 0
        if not named:
            print(f"bench.py: no row '{arguments.row}'; there are:\n  " + "\n  ".join(r.name for r in rows), file=sys.stderr)
            return 1
        heading()
        try:
            results = []
            for row in named:
                if wanted(row, arguments):
                    files.read_again()
                    results.append(measure(runner, row, arguments.runs))
        except Failed as error:
            print(f"bench.py: {error}", file=sys.stderr)
            return 1
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    missed = [f"  {result['row']}: {goal['goal']} ({goal['reached']:.3g})" for result in results for goal in result["goals"]
              if goal["verdict"] == "MISSED"]
    reached = sum(goal["verdict"] == "met" for result in results for goal in result["goals"])
    print("\n".join([f"goals met: {reached}, missed: {len(missed)}", *missed]))
    return 0


def wanted(row, arguments):
    if arguments.quick:
        return row.name in QUICK
    return arguments.full or arguments.all or row.usual or arguments.row == row.name


if __name__ == "__main__":
    sys.exit(main())
