"""Rows about guests: calf beside QEMU, and beside a program that does the least KVM needs."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import exit_kernel
import goals
from measuring import Contestant, Failed, Row, Sample, run

QEMU = "qemu-system-x86_64"
TESTS = pathlib.Path(__file__).resolve().parents[1]
SCRIPTS = TESTS.parent / "scripts"
DEBUG_EXIT = 33   # the guest writes 0x10 to isa-debug-exit: (0x10 << 1) | 1


class GuestRows:
    def __init__(self, runner, build, limits, files):
        self.runner = runner
        self.calf, self.img, self.limits, self.files = build / "bin/calf", build / "bin/calf-img", limits, files
        self.elf, self.boot_sector = build / "tests/guests/guest.elf", build / "tests/guests/guest.raw"
        self.linux = build / "tests/guests/linux"
        exit_device = ["-serial", "null", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        self.to_exit = ["-m", "128", *exit_device]
        self.qemu = [QEMU, "-accel", "kvm", "-nodefaults", "-display", "none", "-no-reboot"]

    def boot_disk(self, words):
        name = "guest-" + re.sub(r"\W+", "-", words)
        raw = self.files.made(name + ".raw", lambda path: run(
            SCRIPTS / "guests/make_guest_disk.sh", self.boot_sector, path, "64M", *words.split()))
        return self.files.made(name + ".qcow2", lambda path: run(
            self.img, "convert", "-f", "raw", "-O", "qcow2", raw, path))

    def disk(self, image, *options):
        return ["-drive", ",".join([f"file={image},format=qcow2,if=virtio", *options])]

    def qemu_disk(self, image):
        """As our guest's driver wants it: virtio 1.0, with a thread of its own."""
        return ["-object", "iothread,id=io", "-drive", f"file={image},format=qcow2,if=none,id=d",
                "-device", "virtio-blk-pci,drive=d,iothread=io,disable-legacy=on"]

    def to_debug_exit(self, command, count=1):
        return lambda: self.runner.seconds([command()] * count, expect=DEBUG_EXIT, scale=1000)

    @staticmethod
    def warm(measure, count=5):
        """What takes milliseconds takes twice as many right after seconds of something else, whose memory and caches it finds: the
        median of some in a row."""
        return lambda: sorted((measure() for _ in range(count)), key=lambda sample: sample.value)[count // 2]

    def to_exit_of(self, commands):
        return lambda: self.runner.seconds(commands, expect=DEBUG_EXIT, scale=1000)

    # ---- start ----
    def start_rows(self):
        def limit(count=1):
            return Contestant("limit", self.warm(lambda: self.runner.seconds([[self.limits, "kvm"]] * count, scale=1000)))
        beside_limit = (goals.times_limit(1.25),)
        sector = lambda: self.disk(self.boot_disk("test=exit"), "snapshot=on")
        kernel = ["-kernel", str(self.elf), "-append", "test=exit"]
        yield Row("start-boot-sector", "ms", 20, [
            Contestant("calf", self.warm(self.to_debug_exit(lambda: [self.calf, *self.to_exit, *sector()]))),
            Contestant("QEMU pc", self.to_debug_exit(lambda: [*self.qemu, "-M", "pc", *self.to_exit, *sector()])), limit()],
            also=beside_limit)
        yield Row("start-kernel", "ms", 4, [
            Contestant("calf", self.warm(self.to_debug_exit(lambda: [self.calf, *self.to_exit, *kernel]))),
            Contestant("QEMU microvm", self.warm(self.to_debug_exit(
                lambda: [*self.qemu, "-M", "microvm", *self.to_exit, *kernel]))), limit()], also=beside_limit)
        yield Row("start-16-at-once", "ms", 4, [
            Contestant("calf", self.warm(self.to_debug_exit(lambda: [self.calf, *self.to_exit, *kernel], 16))),
            Contestant("QEMU microvm", self.to_debug_exit(
                lambda: [*self.qemu, "-M", "microvm", *self.to_exit, *kernel], 16)), limit(16)], also=beside_limit)

    def bzimage_row(self):
        """Until the first instruction of a stock kernel. QEMU gets it unpacked, as far as a bzImage can be: its guest would inflate
        it for minutes where KVM emulates that code."""
        found = subprocess.run([TESTS / "guests/linux/build.sh", "--cached"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if found.returncode != 0:
            print(f"SKIPPED: no row start-bzimage: {found.stderr.strip()}", file=sys.stderr)
            return
        linux = pathlib.Path(found.stdout.strip())
        stored, packed, payload = (self.files.path(f"exit-kernel.{end}") for end in ("stored", "bzImage", "gz"))

        def prepare():
            if not payload.exists():
                exit_kernel.make(linux, stored, packed, payload)

        def to_exit(image, *program):
            return lambda: self.runner.seconds([[*program, *self.to_exit, "-kernel", image, "-append", "nokaslr"]],
                                               expect=DEBUG_EXIT, scale=1000)

        def decompression():
            return self.runner.printed_seconds([[self.limits, "gunzip", payload]], scale=1000)

        def limit():
            machine, unpacking = self.runner.seconds([[self.limits, "kvm"]], scale=1000), decompression()
            return Sample(machine.value + unpacking.value, machine.cpu + unpacking.cpu, max(machine.rss, unpacking.rss))
        yield Row("start-bzimage", "ms", 5, [
            Contestant("calf", self.warm(to_exit(packed, self.calf)), prepare),
            Contestant("QEMU microvm", to_exit(stored, *self.qemu, "-M", "microvm")),
            Contestant("decompression", decompression), Contestant("limit", self.warm(limit))],
            also=(goals.beyond("decompression", 15, "ms"),))

    # ---- memory ----
    def memory_beyond_guest(self, commands, ready, guest_bytes):
        """PSS of the processes less the guest RAM that they have touched, in MiB each, when all consoles show `ready`."""
        processes = []
        try:
            for command in commands:
                processes.append(subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                                  stderr=subprocess.STDOUT))
            for process in processes:
                if not any(ready in line for line in process.stdout):
                    raise Failed(f"{process.args}: ended before its guest was ready")
            total = sum(self.pss_beyond(process.pid, guest_bytes) for process in processes)
            return Sample(total / len(processes) / 1024)
        finally:
            for process in processes:
                process.send_signal(signal.SIGKILL)
                process.wait()
                process.stdout.close()

    @staticmethod
    def pss_beyond(pid, guest_bytes):
        """KiB. Mappings of half the guest's RAM and more are its RAM."""
        beyond = size = 0
        for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
            if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                size = int(match[2], 16) - int(match[1], 16)
            elif match := re.match(r"Pss:\s+(\d+) kB", line):
                beyond += int(match[1]) if size < guest_bytes // 2 else 0
        return beyond

    def memory_rows(self):
        words = ["-m", "128", "-serial", "stdio", "-kernel", self.elf, "-append", "test=idle"]
        installed = self.files.path("calf")

        def install():
            """Of a file that the linker has just written, the kernel maps more at a time than of one that was installed."""
            installed.unlink(missing_ok=True)
            shutil.copy(self.calf, installed)
        yield Row("memory-beyond-guest", "MiB", None, [
            Contestant("calf", lambda: self.memory_beyond_guest([[installed, *words]], b"idle", 128 << 20), install),
            Contestant("QEMU microvm", lambda: self.memory_beyond_guest(
                [[*self.qemu, "-M", "microvm", *words]], b"idle", 128 << 20)),
            Contestant("limit", lambda: self.memory_beyond_guest(self.idle_limits(1), b"idle", 128 << 20))],
            also=(goals.at_most(4, "MiB"),))

        def of_eight(disk, *program):
            overlays = self.overlays(8)
            return self.memory_beyond_guest([[*program, *words, *disk(overlay)] for overlay in overlays], b"idle", 128 << 20)
        yield Row("memory-of-8-on-one-base", "MiB each", None, [
            Contestant("calf", lambda: of_eight(self.disk, installed), install),
            Contestant("QEMU", lambda: of_eight(self.qemu_disk, *self.qemu, "-M", "q35")),
            Contestant("limit", lambda: self.memory_beyond_guest(self.idle_limits(8), b"idle", 128 << 20))])

    def idle_limits(self, count):
        return [[self.limits, "kvm", "idle", "stay"]] * count

    def overlays(self, count):
        return [self.files.overlay(f"guest{i}.qcow2", self.files.full()) for i in range(count)]

    # ---- many on one base, and the end ----
    def base_row(self):
        """Eight guests at once read 80 MiB each of one base, through overlays of their own; until the last is gone. The CPU
        column over the number of cores is the least that it can take."""
        words = ["-m", "128", "-serial", "null", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-kernel", self.elf,
                 "-append", "test=bench op=read depth=32 count=20000 start=0 range=192M end=debug-exit"]
        overlays = []

        def prepare():
            overlays[:] = self.overlays(8)

        def all_of(disk, *program):
            return lambda: self.runner.seconds([[*program, *words, *disk(overlay)] for overlay in overlays], expect=DEBUG_EXIT)
        yield Row("8-guests-on-one-base", "s", None, [
            Contestant("calf", all_of(self.disk, self.calf), prepare),
            Contestant("QEMU", all_of(self.qemu_disk, *self.qemu, "-M", "q35"), prepare)],
            also=(goals.wall_of_cpu(1.1, min(8, os.cpu_count())),))

    def end_of(self, command):
        """From the guest's last line, right before it ends the machine, to the end of the process."""
        process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        with process.stdout:
            if not any(b"CALF-GUEST: done" in line for line in process.stdout):
                process.wait()
                raise Failed(f"{command}: ended before its guest was done")
            start = time.monotonic()
            process.stdout.read()
        process.wait()
        return Sample((time.monotonic() - start) * 1000)

    def end_row(self):
        words = ["-m", "128", "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-kernel", self.elf,
                 "-append", "test=bench op=write count=64 start=0 range=16M end=debug-exit"]
        overlays = []

        def prepare():
            overlays[:] = self.overlays(1)
        yield Row("power-off-to-gone", "ms", None, [
            Contestant("calf", lambda: self.end_of([self.calf, *words, *self.disk(overlays[0])]), prepare),
            Contestant("QEMU", lambda: self.end_of([*self.qemu, "-M", "q35", *words, *self.qemu_disk(overlays[0])]), prepare),
            Contestant("limit", lambda: self.end_of([self.limits, "kvm", "CALF-GUEST: done"]))], also=(goals.at_most(10, "ms"),))

    # ---- disk ----
    def guest_requests(self, command, count):
        """Requests per second by the guest's own clock."""
        _, texts, cpu, rss = self.runner.at_once([command], expect=DEBUG_EXIT)
        took = re.search(r"bench .* microseconds (\d+)", texts[0])
        if not took:
            raise Failed(f"{command}: the guest printed no figure\n{texts[0][-500:]}")
        return Sample(count * 1e6 / int(took[1]), cpu, rss)

    def disk_row(self, depth, cache, goal):
        count = 20000 if depth > 1 else 4000
        words = f"test=bench op=read depth={depth} count={count} start=0 range=192M end=debug-exit"
        guest = ["-m", "128", "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
                 "-kernel", self.elf, "-append", words]

        def calf():
            return self.guest_requests([self.calf, *guest, *self.disk(self.files.full(), f"cache={cache}", "readonly=on")], count)

        def qemu():
            drive = f"file={self.files.full()},format=qcow2,if=none,id=d,cache={cache},aio=io_uring,readonly=on"
            return self.guest_requests(
                [*self.qemu, "-M", "q35", *guest, "-object", "iothread,id=io", "-drive", drive,
                 "-device", "virtio-blk-pci,drive=d,iothread=io,disable-legacy=on"], count)

        def limit():
            """One at a time, each has to go into the guest and back; many can wait for the disk together."""
            raw, direct = self.files.full_raw(), ["direct"] if cache == "none" else []
            words = ["kvm-answers", raw, count] if depth == 1 else ["read", raw, count, depth if direct else 1]
            return self.runner.rate([[self.limits, *words, *direct]], count)
        return Row(f"guest-read-{'cached' if cache == 'writeback' else 'direct'}-{depth}", "reads/s", goal,
                   [Contestant("calf", calf), Contestant("QEMU", qemu), Contestant("limit", limit)], higher=True)

    def statistics_rows(self):
        """What a request costs at depth 32 beside its transfer, by calf's own count (--result)."""
        count = 20000
        words = f"test=bench op=read depth=32 count={count} start=0 range=192M"

        def of_each(figure):
            result = self.files.path("result.json")
            _, _, cpu, rss = self.runner.at_once([[self.calf, "-m", "128", "-serial", "null", "-kernel", self.elf, "-append", words,
                                                   "--result", result, *self.disk(self.files.full(), "readonly=on")]])
            return Sample(json.loads(result.read_text())["statistics"][figure] / count, cpu, rss)
        for name, figure, goal in (("exits-per-request", "exits", 0.2), ("kicks-per-request", "disk-kicks", 0.2),
                                   ("interrupts-per-request", "disk-interrupts", 0.2),
                                   ("io-entries-per-request", "disk-io-entries", 0.1)):
            yield Row(name, "each", None, [Contestant("calf", lambda f=figure: of_each(f))], also=(goals.at_most(goal, "each"),))

    def rows(self):
        yield from self.start_rows()
        yield from self.bzimage_row()
        yield from self.memory_rows()
        yield from self.base_row()
        yield from self.end_row()
        yield self.disk_row(1, "writeback", 1.5)
        yield self.disk_row(32, "writeback", 1.5)
        yield self.disk_row(1, "none", 1.5)
        yield self.disk_row(32, "none", 1.5)
        yield from self.statistics_rows()
