#!/usr/bin/env python3
"""Boot loaders that others wrote: GRUB's rescue CD and iPXE. (SYSLINUX boots in the Linux demo.)"""
import harness
from harness import GuestTest

GRUB_CD = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"
IPXE = "/usr/lib/ipxe/ipxe.lkrn"


class Loaders(GuestTest):
    def test_grub_rescue_cd_reaches_its_prompt_and_takes_a_command(self):
        guest = self.start("-m", "128", "-cdrom", GRUB_CD)
        guest.expect("Change the colors")
        guest.type("c")
        guest.expect("grub>")
        guest.type("echo calf-$grub_platform\r")
        guest.expect("calf-pc")
        guest.type("halt\r")
        guest.wait(0)

    def test_ipxe_takes_a_command_and_gives_the_machine_back(self):
        """iPXE takes interrupts in protected mode with a based stack segment, and ends by INT 18h."""
        guest = self.start("-m", "128", "-kernel", IPXE)
        guest.expect("Open Source Network Boot Firmware")
        guest.expect("Press Ctrl-B")
        guest.type("\x02")
        guest.expect("iPXE>")
        guest.type("echo calf-${platform}\r")
        guest.expect("calf-pcbios")
        guest.type("exit\r")
        guest.expect("There is nothing to boot from")
        guest.wait(1)


if __name__ == "__main__":
    harness.main()
