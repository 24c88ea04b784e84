#!/usr/bin/env python3
"""Measures calf beside QEMU, interleaved, in one run; prints min, median, max and the ratio of the medians.

usage: bench.py BUILD [--row NAME] [--runs N] [--json FILE] [--list]

A row is a list of contestants; each contestant is run in turn, RUNS times, after one run that is not counted. A peer that is
not installed, or that fails on this host, is named and left out. Ratio: calf's median over QEMU's; below 1 is better, but for
rates (marked "higher is better") it is the other way round.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

QEMU = "qemu-system-x86_64"
SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"


class Failed(Exception):
    pass


def run(command, expect=0, timeout=120):
    """Runs a command to its end; returns (seconds of wall time, its output)."""
    start = time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=timeout)
    wall = time.monotonic() - start
    if expect is not None and done.returncode != expect:
        raise Failed(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout.decode(errors='replace')[-2000:]}")
    return wall, done.stdout.decode(errors="replace")


class Bench:
    def __init__(self, build, work):
        self.work = work
        self.calf = build / "bin/calf"
        self.img = build / "bin/calf-img"
        self.guests = build / "tests/guests"
        self.elf = self.guests / "guest.elf"
        self.disk = self.guests / "guest.raw"

    # ---- files, made once ----
    def boot_disk(self, test):
        """A qcow2 disk whose boot sector guest runs `test`."""
        raw, image = self.work / f"{test}.raw", self.work / f"{test}.qcow2"
        if not image.exists():
            run([SCRIPTS / "guests/make_guest_disk.sh", self.disk, raw, "64M", f"test={test}"])
            run([self.img, "convert", "-f", "raw", "-O", "qcow2", raw, image])
        return image

    def data_image(self):
        """256 MiB of data in a qcow2 image, in the page cache."""
        image = self.work / "data.qcow2"
        if not image.exists():
            raw = self.work / "data.raw"
            with open(raw, "wb") as out:
                for _ in range(256):
                    out.write(os.urandom(1 << 20))
            run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image])
            raw.unlink()
        return image

    # ---- what is measured; each returns one number ----
    def start_to_exit(self, command):
        # The guest's first act is a write of 0x10 to isa-debug-exit: (0x10 << 1) | 1.
        return 1000 * run(command, expect=33)[0]

    def io_rate(self, command, count):
        output = run(command)[1]
        return count / float(re.search(r"Run completed in ([0-9.]+) seconds", output)[1])

    def memory_beyond_guest(self, command, ready, guest_bytes):
        """PSS of the process less the guest RAM that it has touched, in MiB, when the guest's console shows `ready`."""
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            for line in process.stdout:
                if ready in line:
                    break
            else:
                raise Failed(f"{' '.join(map(str, command))}: ended before its guest was ready")
            total = touched = 0
            size = 0
            for line in pathlib.Path(f"/proc/{process.pid}/smaps").read_text().splitlines():
                if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                    size = int(match[2], 16) - int(match[1], 16)
                elif match := re.match(r"Pss:\s+(\d+) kB", line):
                    total += int(match[1])
                    if size >= guest_bytes // 2:
                        touched += int(match[1])
            return (total - touched) / 1024
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    # ---- rows: name -> (unit, higher is better, [(contestant, function)]) ----
    def rows(self):
        exit_device = ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        qemu = [QEMU, "-accel", "kvm", "-m", "128", "-nodefaults", "-display", "none", "-no-reboot"]
        quiet = ["-serial", "null"]

        def disk(image):
            return ["-drive", f"file={image},format=qcow2,if=virtio,snapshot=on"]

        def image_rows(name, cache, count):
            arguments = ["bench", "-c", str(count), "-d", "32", "-S", "1069056", "-t", cache, "-f", "qcow2"]
            return ("reads/s", True, [
                (who, lambda p=program: self.io_rate([p, *arguments, self.data_image()], count))
                for who, program in (("calf", self.img), ("QEMU", "qemu-img"))])

        yield "boot-sector", ("ms", False, [
            ("calf", lambda: self.start_to_exit([self.calf, "-m", "128", *quiet, *exit_device, *disk(self.boot_disk("exit"))])),
            ("QEMU pc", lambda: self.start_to_exit([*qemu, "-M", "pc", *quiet, *exit_device, *disk(self.boot_disk("exit"))]))])
        yield "kernel-entry", ("ms", False, [
            ("calf", lambda: self.start_to_exit(
                [self.calf, "-m", "128", *quiet, *exit_device, "-kernel", self.elf, "-append", "test=exit"])),
            ("QEMU microvm", lambda: self.start_to_exit(
                [*qemu, "-M", "microvm", *quiet, *exit_device, "-kernel", self.elf, "-append", "test=exit"]))])
        idle = ["-kernel", str(self.elf), "-append", "test=idle"]
        yield "memory", ("MiB", False, [
            ("calf", lambda: self.memory_beyond_guest([self.calf, "-m", "128", "-serial", "stdio", *idle], b"idle", 128 << 20)),
            ("QEMU microvm", lambda: self.memory_beyond_guest(
                [*qemu, "-M", "microvm", "-serial", "stdio", *idle], b"idle", 128 << 20))])
        yield "cached-read-4k", image_rows("cached-read-4k", "writeback", 200000)
        yield "direct-read-4k", image_rows("direct-read-4k", "none", 40000)


def measure(name, row, runs):
    unit, higher, contestants = row
    samples = {who: [] for who, _ in contestants}
    for turn in range(runs + 1):
        for who, function in contestants:
            if samples[who] is None:
                continue
            try:
                value = function()
            except (Failed, OSError, subprocess.TimeoutExpired) as error:
                if who == "calf":
                    raise
                print(f"  {name}: {who} left out: {error}", file=sys.stderr)
                samples[who] = None
                continue
            if turn > 0:
                samples[who].append(value)
    result = {"row": name, "unit": unit, "higher-is-better": higher, "contestants": {}}
    ours = statistics.median(samples["calf"])
    for who, values in samples.items():
        if not values:
            continue
        middle = statistics.median(values)
        result["contestants"][who] = {"min": min(values), "median": middle, "max": max(values)}
        ratio = f"{ours / middle:8.3f}" if who != "calf" else ""
        print(f"{name:16} {who:14} {min(values):12.2f} {middle:12.2f} {max(values):12.2f} {unit:8} {ratio}", flush=True)
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--row")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    for peer in (QEMU, "qemu-img"):
        if shutil.which(peer) is None:
            print(f"SKIPPED: {peer} is not installed: its figures are missing below", file=sys.stderr)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("SKIPPED: /dev/kvm is not usable: rows with guests will fail", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="calf-bench-") as work:
        bench = Bench(arguments.build.resolve(), pathlib.Path(work))
        rows = dict(bench.rows())
        if arguments.list:
            print("\n".join(rows))
            return 0
        if arguments.row and arguments.row not in rows:
            print(f"bench.py: no row '{arguments.row}'; there are: {', '.join(rows)}", file=sys.stderr)
            return 1
        print(f"{'row':16} {'':14} {'min':>12} {'median':>12} {'max':>12} {'':8} calf/it")
        results = [measure(name, row, arguments.runs) for name, row in rows.items()
                   if arguments.row in (None, name)]
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
