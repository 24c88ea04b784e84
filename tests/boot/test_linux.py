#!/usr/bin/env python3
"""A small Linux, built from Debian's sources: started directly in each packing, its root on an overlay."""
import signal

import harness
from harness import Build, GuestTest, SOURCE, run

# What this kernel needs where KVM emulates kernel code (tests/guests/README.md); harmless elsewhere.
WORDS = ("console=ttyS0 panic=-1 reboot=k mitigations=off rodata=off no_timer_check tsc=reliable "
         "clearcpuid=erms,fsrm")


class DirectBoot(GuestTest):
    @classmethod
    def setUpClass(cls):
        import pathlib
        cls.linux = pathlib.Path(run(SOURCE / "tests/guests/linux/build.sh").strip().splitlines()[-1])

    def linux_guest(self, kernel, cpus, words, *arguments):
        return self.start("-m", "128", "-smp", cpus, "-kernel", self.linux / kernel, "-initrd", self.linux / "initrd",
                          "-append", f"{WORDS} {words}", *arguments)

    def test_elf_with_one_cpu(self):
        text = self.linux_guest("vmlinux", 1, "").wait(patience=600)
        self.assertIn("CALF-GUEST: cpus 1", text)
        self.assertIn("reboot: Power down", text)

    def test_bzimage_with_two_cpus_root_on_an_overlay(self):
        disk, base, overlay = (self.folder / name for name in ("disk.raw", "base.qcow2", "vm.qcow2"))
        run(SOURCE / "scripts/guests/make_linux_disk.sh", disk)
        run(Build.img(), "convert", "-c", "-f", "raw", "-O", "qcow2", disk, base)
        self.overlay("vm.qcow2", base)
        text = self.linux_guest("bzImage", 2, "root=/dev/vda2 calf.test=fill:4", "-drive",
                                f"file={overlay},serial=direct2").wait(patience=600)
        self.assertIn("CALF-GUEST: root mounted id direct2", text)
        self.assertIn("fill ok", text)
        self.check_clean(overlay)
        self.assertIn("Images are identical", run(Build.img(), "compare", "-f", "raw", "-F", "qcow2", disk, base))

    def test_power_button(self):
        guest = self.linux_guest("bzImage.zstd", 2, "calf.test=button")
        guest.expect("waiting for the power button", 300)
        guest.signal(signal.SIGTERM)
        text = guest.wait(patience=300)
        self.assertIn("CALF-GUEST: power button", text)
        self.assertIn("reboot: Power down", text)

    def test_processes_that_share_a_cpu_keep_their_vector_registers(self):
        """The kernel saves them by XSAVE, which calf completes on some hosts; programs use AVX for strings."""
        text = self.linux_guest("bzImage.zstd", 1, "calf.test=processes").wait(patience=600)
        self.assertIn("CALF-GUEST: processes ok", text)
        self.assertNotIn("segfault", text)


if __name__ == "__main__":
    harness.main()
