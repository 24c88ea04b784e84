#!/usr/bin/env python3
"""The boot-sector guest and its ELF form on calf: booting, disks, kills, locks, nonsense."""
import re
import signal
import shutil
import subprocess
import unittest

import harness
from harness import Build, GuestTest, run

EXIT_DEVICE = ("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04")


class Booting(GuestTest):
    def test_boots_from_overlay_on_compressed_base_and_drives_the_disk_from_two_cpus(self):
        base = self.base("64M", "io", "range=32M", "count=2000")
        overlay = self.overlay("vm.qcow2", base)
        before = base.read_bytes()
        text = self.start("-m", "128", "-smp", "2", overlay).wait()
        self.assertRegex(text, r"io ok cpus 2 queues 2 ")
        self.assertIn("CALF-GUEST: done", text)
        self.assertEqual(base.read_bytes(), before)
        self.check_clean(overlay)

    def test_elf_kernel_drives_disks_with_interrupts_and_without_indirect_or_event_index(self):
        raw = self.folder / "disk.raw"
        with open(raw, "wb") as disk:
            disk.truncate(64 << 20)
        for words in ("io irq=1", "io indirect=0 event-idx=0", "io pci=ecam move-bars=1 queue-size=16"):
            text = self.start("-m", "128", "-smp", "2", "-kernel", Build.guest("guest.elf"), "-append", words, "-drive",
                              f"file={raw},format=raw").wait()
            self.assertIn("io ok", text, words)
            self.assertIn("io errors ok", text, words)

    def test_every_cache_mode_and_a_chain_of_three(self):
        base = self.base("32M", "io", "count=300")
        middle = self.overlay("middle.qcow2", base)
        for cache in ("writeback", "none", "writethrough", "directsync", "unsafe"):
            overlay = self.overlay(f"{cache}.qcow2", middle)
            text = self.start("-m", "64", "-drive", f"file={overlay},cache={cache},discard=unmap").wait()
            self.assertIn("io ok", text, cache)
            self.check_clean(overlay)

    def test_more_than_4_gib_of_memory(self):
        text = self.start("-m", "5G", "-kernel", Build.guest("guest.elf"), "-append", "memory").wait()
        self.assertRegex(text, r"memory ok \d+ places")

    def test_sixteen_cpus(self):
        text = self.start("-m", "128", "-smp", "16,sockets=2", "-kernel", Build.guest("guest.elf"), "-append", "smoke").wait()
        self.assertIn("cpus 16 by MADT", text)

    def test_rng_and_smbios_devices(self):
        first, second = (re.search(r"rng (\S+)", self.start(
            "-m", "64", "-device", "virtio-rng-pci", "-kernel", Build.guest("guest.elf"), "-append", "rng").wait())[1]
            for _ in range(2))
        self.assertNotEqual(first, second)


class Ending(GuestTest):
    def elf(self, words, *arguments, **options):
        return self.start("-m", "64", "-kernel", Build.guest("guest.elf"), "-append", words, *arguments, **options)

    def test_exit_codes(self):
        self.elf("smoke").wait(0)
        self.elf("exit", *EXIT_DEVICE).wait(33)
        self.elf("smoke end=debug-exit", *EXIT_DEVICE).wait(33)
        self.elf("no-such-test", *EXIT_DEVICE).wait(35)
        self.elf("idle", "--timeout", "1s").wait(36)
        self.elf("reset by=cf9", "-no-reboot").wait(0)
        self.elf("reset by=kbd", "-no-reboot", "--timeout", "100s").wait(32)
        self.elf("reset by=triple", "-no-reboot", "--timeout", "100s").wait(33)
        self.elf("panic", "-device", "pvpanic", "--timeout", "100s").wait(34)

    def test_reset_starts_over(self):
        guest = self.elf("reset by=port92")
        guest.expect("start reset")
        guest.expect("start reset")
        guest.expect("start reset")
        guest.signal(signal.SIGTERM)
        guest.expect("power button")
        guest.signal(signal.SIGTERM)
        guest.wait(0)

    def test_a_second_signal_ends_a_guest_that_ignores_the_power_button(self):
        guest = self.elf("idle")
        guest.expect("idle")
        guest.signal(signal.SIGINT)
        guest.expect("power button pressed")
        guest.signal(signal.SIGINT)
        guest.wait(0)

    def test_console_takes_input_and_survives_its_end(self):
        guest = self.elf("echo")
        guest.expect("start echo")
        guest.type("hello calf\r")
        guest.expect("echo hello calf")
        guest.type("quit\r")
        guest.wait(0)

    def test_result_file(self):
        result = self.folder / "result.json"
        self.elf("smoke", "--result", result).wait(0)
        self.assertIn('"reason": "power-off"', result.read_text())

    def test_daemonize_and_pidfile(self):
        pid_file, log = self.folder / "pid", self.folder / "console"
        self.elf("idle", "-daemonize", "-pidfile", pid_file, "-serial", f"file:{log}", stdin=subprocess.DEVNULL).wait(0)
        pid = int(pid_file.read_text())
        # It is nobody's child here, so its end is seen by tail; a second signal counts only after the first was taken.
        gone = ["tail", f"--pid={pid}", "-f", "/dev/null"]
        for _ in range(60):
            subprocess.run(["kill", "-TERM", str(pid)], check=False, stderr=subprocess.DEVNULL)
            try:
                subprocess.run(gone, check=True, timeout=1)
                break
            except subprocess.TimeoutExpired:
                continue
        self.assertFalse(pid_file.exists())


class Images(GuestTest):
    def at_worst_leaks(self, image):
        done = subprocess.run([Build.img(), "check", "-q", image], capture_output=True, text=True)
        self.assertIn(done.returncode, (0, 3), done.stderr)

    def test_snapshot_throws_writes_away(self):
        disk = self.folder / "disk.qcow2"
        run(Build.img(), "convert", "-f", "raw", "-O", "qcow2", self.boot_disk("d.raw", "32M", "write-own"), disk)
        before = disk.read_bytes()
        self.assertIn("own written", self.start("-m", "64", "-snapshot", disk).wait())
        self.assertEqual(disk.read_bytes(), before)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["d.raw", "disk.qcow2"])

    def test_a_second_program_on_one_overlay_is_refused_and_told_who_holds_it(self):
        base = self.base("32M", "idle")
        overlay, other = self.overlay("vm.qcow2", base), self.overlay("other.qcow2", base)
        guest = self.start("-m", "64", overlay)
        guest.expect("idle")
        refused = self.start("-m", "64", overlay).wait(1)
        self.assertIn(f"{guest.process.pid}", refused)
        self.assertIn('Failed to get "write" lock', refused)
        self.assertIn("write", run("qemu-io", "-f", "qcow2", "-c", "write 0 4k", overlay, expect=1))
        # The base is shared: another overlay on it works, with QEMU's tool too.
        run("qemu-io", "-f", "qcow2", "-c", "write 1M 4k", other)
        self.assertIn("virtual size", run(Build.img(), "info", overlay))
        guest.kill()

    def test_kill_during_writes_loses_nothing_that_was_flushed(self):
        base = self.base("64M", "spin-writes", "range=32M")
        overlay = self.overlay("vm.qcow2", base)
        flushed = 0
        for attempt in range(3):
            guest = self.start("-m", "64", "-drive", f"file={overlay},discard=unmap", "-kernel", Build.guest("guest.elf"),
                               "-append", f"spin-writes range=32M from={flushed}")
            for _ in range(15):
                guest.expect(r"flushed \d+")
            guest.kill()
            guest.reader.join()
            flushed = int(re.findall(r"flushed (\d+)\r?\n", guest.text)[-1])
            self.at_worst_leaks(overlay)
            text = self.start("-m", "64", overlay, "-kernel", Build.guest("guest.elf"), "-append",
                              f"verify-spin range=32M rounds={flushed}").wait()
            self.assertIn("spin verified", text)

    def test_a_full_host_disk_is_an_error_to_the_guest_not_a_crash(self):
        if not shutil.which("prlimit"):
            self.skipTest("prlimit (util-linux) is missing")
        base = self.base("64M", "write-own", "range=32M")
        overlay = self.overlay("vm.qcow2", base)
        # RLIMIT_FSIZE stands for the full disk; the policy says that the guest is told.
        text = run("prlimit", "--fsize=4194304", Build.calf(), "-m", "64", "-drive", f"file={overlay},werror=report",
                   *EXIT_DEVICE, expect=35)
        self.assertIn("CALF-GUEST: error", text)
        self.at_worst_leaks(overlay)


class Hostile(GuestTest):
    def test_nonsense_in_every_register_ring_and_bar(self):
        base = self.base("32M", "idle")
        for seed in range(1, 9):
            overlay = self.overlay(f"vm{seed}.qcow2", base)
            text = self.start("-m", "64", "-smp", "2", "-device", "virtio-rng-pci", "-device", "pvpanic", *EXIT_DEVICE,
                              "-drive", f"file={overlay}", "-kernel", Build.guest("guest.elf"), "-append",
                              f"nonsense seed={seed} count=1000", "-no-reboot", "--timeout", "20s")
            try:
                text.process.wait(harness.PATIENCE)
            except subprocess.TimeoutExpired:
                self.fail(f"seed {seed}: the host process hangs:\n{text.text[-3000:]}")
            # Any end is fine but a signal: the guest may reset, power off, panic or hang until its time is over.
            self.assertGreaterEqual(text.process.returncode, 0, f"seed {seed}: calf died:\n{text.text[-3000:]}")
            self.assertNotEqual(text.process.returncode, 134, f"seed {seed}")
            self.check_clean(overlay)


class CommandLine(GuestTest):
    def refused(self, *arguments):
        return self.start(*arguments, stdin=subprocess.DEVNULL).wait(1)

    def test_bad_input_gets_one_clear_error(self):
        corrupt = self.folder / "corrupt.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", corrupt, "16M")
        image = bytearray(corrupt.read_bytes())
        image[0x28:0x30] = (0x123456789).to_bytes(8, "big")  # the L1 table's offset
        corrupt.write_bytes(image)
        self.assertIn("Active L1 table offset invalid", self.refused(corrupt))
        self.assertIn("No such file", self.refused(self.folder / "missing.qcow2"))
        base = self.folder / "base.qcow2"
        run(Build.img(), "create", "-q", "-f", "qcow2", base, "16M")
        orphan = self.overlay("orphan.qcow2", base)
        base.unlink()
        self.assertIn(f"calf-img rebase -u -b NEW_PLACE -F FORMAT '{orphan}'", self.refused(orphan))
        self.assertIn("did you mean", self.refused("-kernal", "x"))
        empty = self.folder / "empty.raw"
        empty.write_bytes(bytes(1 << 20))
        self.assertIn("format=raw", self.refused(empty))
        self.assertIn("No bootable disk", self.refused("-drive", f"file={empty},format=raw"))
        self.assertIn("neither a bzImage nor an ELF", self.refused("-kernel", empty))


if __name__ == "__main__":
    harness.main()
