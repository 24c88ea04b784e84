#!/usr/bin/env python3
"""On hardware, and on what emulates it, KVM executes every instruction: calf's instruction completer is never asked."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "boot"))
import harness  # noqa: E402
from harness import Build, GuestTest, SOURCE, run  # noqa: E402


class Completer(GuestTest):
    def unaided(self, *arguments):
        """Runs a guest to its power-off; what it printed. Fails if anything was completed for it."""
        result = self.folder / "result.json"
        text = self.start("--result", result, *arguments).wait()
        statistics = json.loads(result.read_text())["statistics"]
        print(statistics)
        self.assertEqual(statistics["completed-instructions"], 0)
        return text

    def test_boot_sector_on_overlay(self):
        overlay = self.overlay("vm.qcow2", self.base("64M", "io", "range=32M"))
        self.assertIn("io ok cpus 2", self.unaided("-m", "128", "-smp", "2", overlay))
        self.check_clean(overlay)

    def test_elf_kernel(self):
        self.assertIn("cpus 4 by MADT", self.unaided("-m", "64", "-smp", "4", "-kernel", Build.guest("guest.elf"), "-append", "smoke"))

    def test_linux_kernel(self):
        linux = pathlib.Path(run(SOURCE / "tests/guests/linux/build.sh").strip().splitlines()[-1])
        text = self.unaided("-m", "128", "-smp", "2", "-kernel", linux / "bzImage", "-initrd", linux / "initrd", "-append",
                            "console=ttyS0 panic=-1 reboot=k calf.test=processes")
        self.assertIn("CALF-GUEST: processes ok", text)

    def test_linux_by_syslinux(self):
        raw, base = self.folder / "disk.raw", self.folder / "base.qcow2"
        run(SOURCE / "scripts/guests/make_linux_disk.sh", raw, "calf.test=fill:2")
        run(Build.img(), "convert", "-c", "-f", "raw", "-O", "qcow2", raw, base)
        overlay = self.overlay("vm.qcow2", base)
        text = self.unaided("-m", "128", "-smp", "2", overlay)
        for word in ("SYSLINUX 6", "CALF-GUEST: root mounted", "fill ok", "reboot: Power down"):
            self.assertIn(word, text)
        self.check_clean(overlay)


if __name__ == "__main__":
    harness.main()
