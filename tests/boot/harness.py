"""Runs calf as a person would: a process with a console that is read, typed at, and waited for.

Every test file is a program: test_x.py BUILD [test names]. It ends with 77 (ctest: skipped), and says why, where the host has
no usable /dev/kvm.
"""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
# Machines for tests are slow and shared; a limit is only there to end a test that hangs.
PATIENCE = float(os.environ.get("CALF_TEST_PATIENCE", "240"))


class Build:
    """Where things are; set by main()."""
    path = None

    @classmethod
    def calf(cls):
        return cls.path / "bin/calf"

    @classmethod
    def img(cls):
        return cls.path / "bin/calf-img"

    @classmethod
    def guest(cls, name):
        return cls.path / "tests/guests" / name


def run(*command, expect=0):
    """Runs a program to its end; its output, and an error with all of it if it ended otherwise than expected."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=PATIENCE)
    text = done.stdout.decode(errors="replace")
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"{' '.join(map(str, command))}\nended with {done.returncode}, not {expect}:\n{text}")
    return text


class Guest:
    """A running calf. Its console and messages are one stream, `text`."""

    def __init__(self, *arguments, stdin=subprocess.PIPE):
        self.command = [str(Build.calf()), *map(str, arguments)]
        self.process = subprocess.Popen(self.command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.text = ""
        self.searched = 0
        self.changed = threading.Condition()
        self.ended = False
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while True:
            data = self.process.stdout.read1(65536)
            with self.changed:
                if data:
                    self.text += data.decode(errors="replace")
                else:
                    self.ended = True
                self.changed.notify_all()
            if not data:
                return

    def expect(self, pattern, patience=PATIENCE):
        """Waits for a pattern behind the last one found; the match."""
        deadline = time.monotonic() + patience
        with self.changed:
            while True:
                match = re.compile(pattern).search(self.text, self.searched)
                if match:
                    self.searched = match.end()
                    return match
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    why = "ended" if self.ended else "was silent"
                    raise AssertionError(f"{' '.join(self.command)}\n{why} before '{pattern}':\n{self.text[-6000:]}")
                self.changed.wait(left)

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def wait(self, expect=0, patience=PATIENCE):
        """Waits for the end; everything that was printed."""
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{' '.join(self.command)}\ndid not end:\n{self.text[-6000:]}") from None
        self.kill()
        if status != expect:
            raise AssertionError(f"{' '.join(self.command)}\nended with {status}, not {expect}:\n{self.text[-6000:]}")
        return self.text

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        for stream in (self.process.stdout, self.process.stdin):
            if stream:
                stream.close()


class GuestTest(unittest.TestCase):
    """A test with a folder of its own, whose guests do not outlive it."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="calf-test-"))
        self.guests = []

    def tearDown(self):
        for guest in self.guests:
            guest.kill()
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o600)
        shutil.rmtree(self.folder)

    def start(self, *arguments, **options):
        guest = Guest(*arguments, **options)
        self.guests.append(guest)
        return guest

    def boot_disk(self, name, size, *words):
        """A raw disk that boots the boot-sector guest."""
        path = self.folder / name
        run(SOURCE / "scripts/guests/make_guest_disk.sh", Build.guest("guest.raw"), path, size, *words)
        return path

    def overlay(self, name, base, base_format="qcow2"):
        path = self.folder / name
        run(Build.img(), "create", "-q", "-f", "qcow2", "-b", base, "-F", base_format, path)
        return path

    def base(self, size, *words, options=()):
        """A compressed, write-protected qcow2 base with the boot-sector guest."""
        raw = self.boot_disk("base.raw", size, *words)
        path = self.folder / "base.qcow2"
        run(Build.img(), "convert", "-c", "-f", "raw", "-O", "qcow2", *options, raw, path)
        path.chmod(0o444)
        return path

    def check_clean(self, *images):
        for image in images:
            run(Build.img(), "check", "-q", image)
            if shutil.which("qemu-img"):
                run("qemu-img", "check", "-q", image)


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BUILD [test names]")
    Build.path = pathlib.Path(sys.argv[1]).resolve()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("SKIPPED: /dev/kvm is missing or not accessible on this host")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[2:]])
