#!/usr/bin/env python3
"""QEMU's own iotests with calf-img in qemu-img's place.

Each test runs by itself through QEMU's `check`, in a folder of its own, with Debian's qemu-io, qemu-nbd and
qemu-storage-daemon beside the tool under test. In the place of a system emulator stands a stub that answers what
`check` asks and refuses to start a machine: a test that wanted one is none of ours.

  run.py IMG                    run all of targets.txt; fails if one of must_pass.txt does not pass
  run.py IMG qcow2/029 luks     run these tests, or all targets of these formats; shows how the output differs
  run.py --survey QEMU_IMG      run everything with QEMU's own tool and write targets.txt and excluded.txt anew
  run.py --record IMG           run all targets and write must_pass.txt anew

Lists (one test a line, FORMAT/TEST, then a reason):
  targets.txt    Debian's qemu-img passes it here, without a machine
  excluded.txt   the other tests that apply to these formats, and why they are no targets
  must_pass.txt  calf-img passes it; if it no longer does, that is a regression
"""

import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FORMATS = ("qcow2", "raw", "luks")
TIMEOUT = 300  # seconds for one test; QEMU's own tool needs 60 for the longest
EXIT_SKIP = 77
MAX_SHOWN = 200  # lines of one test's output

STUB = """#!/bin/sh
# Stands where the system emulator would: hands questions on to it, starts no machine.
case " $* " in
*" help "* | *"=help "* | *",help "* | *"-version "* | *" -help "*) exec {emulator} "$@" ;;
esac
touch "$CALF_MACHINE_WANTED"
echo "no machine here" >&2
exit 1
"""


@dataclass
class Outcome:
    verdict: str  # pass, fail, not run, timeout
    reason: str
    seconds: float
    log: str
    machine: bool = False


def read_list(name):
    """The tests of a list with their reasons, in order."""
    path = HERE / name
    tests = {}
    if not path.exists():
        return tests
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            test, _, reason = line.partition(" ")
            tests[test] = reason.strip()
    return tests


def write_list(name, head, tests):
    lines = [f"# {line}" for line in head]
    width = max((len(test) for test in tests), default=0)
    for test, reason in tests.items():
        lines.append(f"{test:{width}}  {reason}".rstrip())
    (HERE / name).write_text("\n".join(lines) + "\n")


def find_program(name):
    path = shutil.which(name)
    if path is None:
        print(f"SKIPPED: {name} (packages qemu-utils, qemu-system-x86) is missing")
        sys.exit(EXIT_SKIP)
    return path


class Bench:
    """Where tests run: QEMU's test folder, the programs they use, scratch space."""

    def __init__(self, tool, keep):
        found = subprocess.run([HERE / "fetch_source.sh"], stdout=subprocess.PIPE, text=True)
        if found.returncode != 0:
            print("SKIPPED: QEMU's iotests could not be fetched (the lines above tell why)")
            sys.exit(EXIT_SKIP)
        self.source = Path(found.stdout.strip())
        # Short, since names of sockets go below it; on a disk, since tests use O_DIRECT.
        self.work = Path(tempfile.mkdtemp(prefix="calf-io-", dir="/var/tmp"))
        self.keep = keep
        self.runs = 0
        programs = self.work / "bin"
        programs.mkdir()
        self.programs = {"QEMU_IMG_PROG": programs / "qemu-img", "QEMU_PROG": programs / "qemu-system-x86_64"}
        (programs / "qemu-img").symlink_to(Path(tool).resolve())
        (programs / "qemu-system-x86_64").write_text(STUB.format(emulator=find_program("qemu-system-x86_64")))
        (programs / "qemu-system-x86_64").chmod(0o755)
        for variable, name in (("QEMU_IO_PROG", "qemu-io"), ("QEMU_NBD_PROG", "qemu-nbd"),
                               ("QSD_PROG", "qemu-storage-daemon")):
            (programs / name).symlink_to(find_program(name))
            self.programs[variable] = programs / name
        (self.work / "check").symlink_to(self.source / "check")

    def all_tests(self, image_format):
        listed = subprocess.run([sys.executable, "./check", f"-{image_format}", "-n"], cwd=self.work,
                                env=self.environment(self.work / "list"), stdout=subprocess.PIPE, text=True, check=True)
        return [line.strip() for line in listed.stdout.splitlines() if line.strip()]

    def environment(self, scratch):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("QEMU_", "IMG", "GDB_"))}
        env.update({k: str(v) for k, v in self.programs.items()})
        env.update(TEST_DIR=str(scratch), SOCK_DIR=str(scratch / "s"), LC_ALL="C", MALLOC_PERTURB_="0",
                   CALF_MACHINE_WANTED=str(scratch / "machine-wanted"), PYTHONDONTWRITEBYTECODE="1")
        return env

    def run(self, test):
        """Runs one test; again if QEMU could not time its key derivation, which a busy machine brings about."""
        for _ in range(5):
            outcome = self.run_once(test)
            if "accurate CPU usage" not in outcome.reason + outcome.log:
                break
        return outcome

    def run_once(self, test):
        image_format, name = test.split("/", 1)
        self.runs += 1
        scratch = self.work / f"t{self.runs}"
        scratch.mkdir()
        env = self.environment(scratch)
        begin = time.monotonic()
        wanted = scratch / "machine-wanted"
        log_path = scratch.with_suffix(".log")
        with log_path.open("w") as log_file:
            child = subprocess.Popen([sys.executable, "./check", f"-{image_format}", Path(name).name], cwd=self.work, env=env,
                                     stdout=log_file, stderr=subprocess.STDOUT, start_new_session=True)
            # A test that wants a machine is over: it would only wait for one that never answers.
            while child.poll() is None and not wanted.exists() and time.monotonic() - begin < TIMEOUT:
                time.sleep(0.05)
        in_time = child.poll() is not None
        end_group(child.pid)  # what a failed test left running
        child.wait()
        end_orphans()
        log = log_path.read_text(errors="replace")
        if wanted.exists():
            verdict, reason = "fail", "wants a virtual machine"
        elif in_time:
            verdict, reason = self.read_verdict(log)
        else:
            verdict, reason = "timeout", f"did not end in {TIMEOUT} s"
        seconds = time.monotonic() - begin
        machine = wanted.exists()
        if not self.keep:
            shutil.rmtree(scratch, ignore_errors=True)
        return Outcome(verdict, reason, seconds, log, machine)

    @staticmethod
    def read_verdict(log):
        for line in log.splitlines():
            # "\r" stands between the line of the start and that of the end.
            line = line.rsplit("\r", 1)[-1]
            found = re.match(r"\S+\s+(pass|fail|not run)\s+\[[^]]*\]\s+\[[^]]*\]\s*\S+\s*(?:\(last: [^)]*\))?\s*(.*)", line)
            if found:
                return found[1], found[2].strip()
        return "fail", "check itself failed"

    def close(self):
        if self.keep:
            print(f"kept: {self.work}")
        else:
            shutil.rmtree(self.work, ignore_errors=True)


def end_group(leader):
    try:
        os.killpg(leader, 9)
    except ProcessLookupError:
        pass


def adopt_orphans():
    """Daemons that a test starts become children of ours when their parent ends."""
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans():
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := children.read_text().split():
        for pid in map(int, pids):
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def print_log(log):
    lines = log.splitlines()
    begin = next((i for i, line in enumerate(lines) if line.startswith("--- ")), 0)
    shown = lines[begin : begin + MAX_SHOWN]
    print("\n".join(shown))
    if len(lines) > begin + MAX_SHOWN:
        print(f"... {len(lines) - begin - MAX_SHOWN} more lines (--logs DIR keeps them)")


def run_all(bench, tests, show_log=False, log_folder=None):
    outcomes = {}
    for test in tests:
        outcome = bench.run(test)
        outcomes[test] = outcome
        print(f"{test:40} {outcome.verdict:8} {outcome.seconds:6.1f}s  {outcome.reason}", flush=True)
        if log_folder:
            Path(log_folder, test.replace("/", "-") + ".log").write_text(f"{outcome.verdict} {outcome.reason}\n{outcome.log}")
        if show_log and outcome.verdict != "pass":
            print_log(outcome.log)
    return outcomes


def exclusion(outcome):
    """Why a test is no target; None for one that is."""
    if outcome.machine:
        return "needs a running virtual machine"
    if outcome.verdict == "pass":
        return None
    reason = re.sub(r" \(see .*\)| on /\S+", "", outcome.reason)
    if outcome.verdict == "not run":
        return "does not apply: " + (reason or "not run")
    return f"Debian's qemu-img does not pass it on this machine ({reason or outcome.verdict})"


def survey(bench, formats):
    targets, excluded = {}, {}
    for image_format in formats:
        tests = [f"{image_format}/{name}" for name in bench.all_tests(image_format)]
        for test, outcome in run_all(bench, tests).items():
            why = exclusion(outcome)
            if why is None:
                targets[test] = ""
            else:
                excluded[test] = why
    write_list("targets.txt", ["iotests that need no machine and that Debian's qemu-img passes (run.py --survey)"], targets)
    write_list("excluded.txt", ["The other iotests, and why they are no targets (run.py --survey)"], excluded)
    print(f"{len(targets)} targets, {len(excluded)} excluded")


def summary(outcomes):
    count = {}
    for outcome in outcomes.values():
        count[outcome.verdict] = count.get(outcome.verdict, 0) + 1
    passed = count.pop("pass", 0)
    rest = ", ".join(f"{n} {verdict}" for verdict, n in sorted(count.items()))
    print(f"{len(outcomes)} tests: {passed} pass" + (f", {rest}" if rest else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", help="the program in qemu-img's place")
    parser.add_argument("tests", nargs="*", help="FORMAT/TEST or FORMAT; all targets if none is given")
    parser.add_argument("--survey", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--logs", metavar="DIR", help="keep each test's output there")
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder")
    args = parser.parse_intermixed_args()

    adopt_orphans()
    bench = Bench(args.tool, args.keep)
    try:
        if args.survey:
            survey(bench, args.tests or FORMATS)
            return 0
        targets = read_list("targets.txt")
        chosen = []
        for word in args.tests or FORMATS:
            chosen += [word] if "/" in word else [t for t in targets if t.startswith(word + "/")]
        if args.logs:
            Path(args.logs).mkdir(parents=True, exist_ok=True)
        outcomes = run_all(bench, chosen, bool(args.tests) and not args.logs, args.logs)
    finally:
        bench.close()
    summary(outcomes)
    if args.record:
        good = {test: "" for test in targets if test in outcomes and outcomes[test].verdict == "pass"}
        write_list("must_pass.txt", ["iotests that calf-img passes; make test-iotests fails if one no longer does"], good)
        return 0
    lost = [test for test in read_list("must_pass.txt") if test in outcomes and outcomes[test].verdict != "pass"]
    for test in lost:
        print(f"REGRESSION: {test} passed before")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
