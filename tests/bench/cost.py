#!/usr/bin/env python3
"""What work costs as it grows: time and memory against the size of a disk, the length of a chain, the number of guests and of vCPUs.

usage: cost.py BUILD [--json FILE] [--plots FOLDER] [--curve PATTERN] [--runs N] [--work FOLDER]

Each point is the median of a few runs, calf and QEMU in turn. Plots are written as SVG (docs/plots has those that docs/performance.md
shows).
"""
import argparse
import fnmatch
import json
import os
import pathlib
import statistics
import sys
import tempfile
from dataclasses import dataclass, field

from guest_rows import QEMU, GuestRows
from image_files import ImageFiles
from measuring import Failed, Runner, run
from plot import Plot

GIB = 1 << 30


@dataclass
class Curve:
    name: str
    title: str
    x_name: str
    unit: str
    points: list                 # of x
    tick: object                 # x → text
    measure: object              # x → {series: () → Sample}
    figure: object = lambda sample: sample.value
    result: dict = field(default_factory=dict)


def size_text(value):
    return f"{value >> 40} TiB" if value >= 1 << 40 else f"{value >> 30} GiB"


class ImageCurves:
    """`qemu-img` commands on disks from 1 GiB to 64 TiB, and on chains of 1 to 100."""

    SIZES = [GIB << shift for shift in range(0, 17, 2)]
    DEPTHS = [1, 2, 5, 10, 20, 50, 100]

    def __init__(self, runner, img, files):
        self.runner, self.files = runner, files
        self.sides = (("calf", img), ("QEMU", "qemu-img"))

    def image(self, size):
        """64 MiB of data, spread over the disk in 64 runs of a MiB."""
        def make(path):
            run("qemu-img", "create", "-q", "-f", "qcow2", path, str(size))
            step = size // 64 // 65536 * 65536
            commands = [word for i in range(64) for word in ("-c", f"write -q {i * step} 1M")]
            run("qemu-io", "-f", "qcow2", *commands, path)
        return self.files.made(f"cost-{size >> 30}G.qcow2", make)

    def on_image(self, *words):
        return lambda size: {who: lambda p=program: self.runner.seconds([[p, *words, self.image(size)]], scale=1000)
                             for who, program in self.sides}

    def creation(self, size):
        path = self.files.path("cost-new.qcow2")

        def make(program):
            path.unlink(missing_ok=True)
            return self.runner.seconds([[program, "create", "-q", "-f", "qcow2", path, str(size)]], scale=1000)
        return {who: lambda p=program: make(p) for who, program in self.sides}

    def first_write(self, size):
        path = self.files.path("cost-new.qcow2")

        def write(program):
            path.unlink(missing_ok=True)
            run("qemu-img", "create", "-q", "-f", "qcow2", path, str(size))
            return self.runner.seconds([[program, "bench", "-q", "-w", "-c", "1", "-f", "qcow2", path]], scale=1000)
        return {who: lambda p=program: write(p) for who, program in self.sides}

    def chain_reads(self, depth):
        words = ["bench", "-c", "50000", "-d", "32", "-S", str(261 * 4096 * 17), "-t", "writeback", "-f", "qcow2"]
        return {who: lambda p=program: self.runner.rate([[p, *words, self.files.chain(depth)]], 50000) for who, program in self.sides}

    def curves(self):
        sizes = {"x_name": "virtual size", "points": self.SIZES, "tick": size_text}
        yield Curve("size-create", "Create an empty image", unit="ms", measure=self.creation, **sizes)
        yield Curve("size-info", "info", unit="ms", measure=self.on_image("info", "-f", "qcow2"), **sizes)
        yield Curve("size-check", "check, 64 MiB of data", unit="ms", measure=self.on_image("check", "-q", "-f", "qcow2"), **sizes)
        yield Curve("size-check-memory", "check, 64 MiB of data: memory", unit="MiB", measure=self.on_image("check", "-q", "-f", "qcow2"),
                    figure=lambda sample: sample.rss / 1024, **sizes)
        yield Curve("size-map", "map, 64 MiB of data", unit="ms", measure=self.on_image("map", "--output=json", "-f", "qcow2"), **sizes)
        yield Curve("size-first-write", "Open, write 4 KiB, close", unit="ms", measure=self.first_write, **sizes)
        chain = {"x_name": "images in the chain", "points": self.DEPTHS, "tick": str}
        yield Curve("chain-reads", "Cached reads, depth 32, of the lowest image's data", unit="reads/s", measure=self.chain_reads, **chain)
        yield Curve("chain-info", "info of the top", unit="ms", measure=lambda depth: {
            who: lambda p=program: self.runner.seconds([[p, "info", "-f", "qcow2", self.files.chain(depth)]], scale=1000)
            for who, program in self.sides}, **chain)
        yield Curve("chain-open-memory", "Memory to read through the chain", unit="MiB", measure=self.chain_reads,
                    figure=lambda sample: sample.rss / 1024, **chain)


class GuestCurves:
    """Guests that run to their first instructions and end: 1 to 32 at once, with 1 to 16 vCPUs."""

    def __init__(self, runner, guests, files, qemu):
        self.runner, self.guests, self.files, self.qemu = runner, guests, files, qemu

    def at_once(self, count):
        base = self.guests.boot_disk("test=exit")
        overlays = [self.files.overlay(f"cost-guest{i}.qcow2", base) for i in range(count)]
        commands = [[self.guests.calf, *self.guests.to_exit, *self.guests.disk(overlay)] for overlay in overlays]
        return {"calf": self.guests.to_exit_of(commands)}

    def kernels_at_once(self, count):
        kernel = [*self.guests.to_exit, "-kernel", self.guests.elf, "-append", "test=exit"]
        out = {"calf": self.guests.to_exit_of([[self.guests.calf, *kernel]] * count)}
        if self.qemu:
            out["QEMU microvm"] = self.guests.to_exit_of([[*self.guests.qemu, "-M", "microvm", *kernel]] * count)
        out["limit"] = lambda: self.runner.seconds([[self.guests.limits, "kvm"]] * count, scale=1000)
        return out

    def vcpus(self, count):
        kernel = [*self.guests.to_exit, "-smp", str(count), "-kernel", self.guests.elf, "-append", "test=exit"]
        out = {"calf": self.guests.to_exit_of([[self.guests.calf, *kernel]])}
        if self.qemu:
            out["QEMU microvm"] = self.guests.to_exit_of([[*self.guests.qemu, "-M", "microvm", *kernel]])
        return out

    def curves(self):
        guests = {"x_name": "guests at once", "points": [1, 2, 4, 8, 16, 32], "tick": str}
        yield Curve("guests-kernel", "exec to gone, a kernel that ends at once", unit="ms", measure=self.kernels_at_once, **guests)
        yield Curve("guests-overlays", "exec to gone, overlays on one base, from the boot sector", unit="ms", measure=self.at_once, **guests)
        vcpus = {"x_name": "vCPUs", "points": [1, 2, 4, 8, 16], "tick": str}
        yield Curve("vcpus-start", "exec to gone, a kernel that ends at once", unit="ms", measure=self.vcpus, **vcpus)
        yield Curve("vcpus-memory", "exec to gone: memory of the process", unit="MiB", measure=self.vcpus,
                    figure=lambda sample: sample.rss / 1024, **vcpus)


def measure(curve, runs):
    for x in curve.points:
        series = curve.measure(x)
        taken = {name: [] for name in series}
        for turn in range(runs + 1):
            for name, once in series.items():
                try:
                    sample = once()
                except (Failed, OSError) as error:
                    if name == "calf":
                        raise
                    print(f"  {curve.name} at {curve.tick(x)}: {name} left out: {error}", file=sys.stderr)
                    continue
                if turn > 0:
                    taken[name].append(curve.figure(sample))
        for name, values in taken.items():
            if values:
                curve.result.setdefault(name, []).append((x, statistics.median(values)))
        figures = "  ".join(f"{name} {statistics.median(values):.4g}" for name, values in taken.items() if values)
        print(f"{curve.name:18} {curve.tick(x):>9}  {figures} {curve.unit}", flush=True)


def plot(curve, folder):
    every = max(1, len(curve.points) // 7)
    ticks = [(x, curve.tick(x)) for x in curve.points[::every]]
    drawing = Plot(curve.title, curve.x_name, curve.unit, ticks, curve.result)
    (folder / f"{curve.name}.svg").write_text(drawing.svg(), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--plots", type=pathlib.Path)
    parser.add_argument("--curve", default="*")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=pathlib.Path)
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    with tempfile.TemporaryDirectory(prefix="calf-bench-", dir="/var/tmp") as own:
        work = arguments.work or pathlib.Path(own)
        work.mkdir(exist_ok=True)
        files = ImageFiles(build / "bin/calf-img", work.resolve(), 256)
        limits = build / "tests/bench/limits/bench_limits"
        runner = Runner(limits)
        curves = list(ImageCurves(runner, build / "bin/calf-img", files).curves())
        if os.access("/dev/kvm", os.R_OK | os.W_OK):
            guests = GuestRows(runner, build, limits, files)
            curves += GuestCurves(runner, guests, files, QEMU).curves()
        else:
            print("SKIPPED: /dev/kvm is not usable: no curves of guests", file=sys.stderr)
        named = [curve for curve in curves if fnmatch.fnmatch(curve.name, arguments.curve)]
        if not named:
            print(f"cost.py: no curve '{arguments.curve}'; there are:\n  " + "\n  ".join(c.name for c in curves), file=sys.stderr)
            return 1
        try:
            for curve in named:
                measure(curve, arguments.runs)
        except Failed as error:
            print(f"cost.py: {error}", file=sys.stderr)
            return 1
    if arguments.plots:
        arguments.plots.mkdir(parents=True, exist_ok=True)
        for curve in named:
            plot(curve, arguments.plots)
    if arguments.json:
        results = [{"curve": c.name, "unit": c.unit, "x": c.x_name, "series": c.result} for c in named]
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
