"""What a row of the bench is made of, and how one is measured and shown."""
import dataclasses
import re
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Callable, Optional

from goals import Figures, Results, times_qemu


class Failed(Exception):
    pass


@dataclasses.dataclass
class Sample:
    value: float           # in the row's unit
    cpu: float = 0.0       # seconds, user and system, of all processes
    rss: int = 0           # KiB, of the largest process
    file_bytes: int = 0    # of what was made, where that is of interest


@dataclasses.dataclass
class Contestant:
    name: str                                  # "calf", a peer ("QEMU" and words), "limit", or what else a goal names
    measure: Callable[[], Sample]
    prepare: Optional[Callable[[], None]] = None  # before each run, not counted


@dataclasses.dataclass
class Row:
    name: str
    unit: str
    goal: Optional[float]                      # how many times better than QEMU's best; None: `also` has all
    contestants: list
    higher: bool = False                       # is more better?
    usual: bool = True                         # not in full runs only
    also: tuple = ()                           # more goals (goals.py)

    def goals(self):
        return ([times_qemu(self.goal)] if self.goal is not None else []) + list(self.also)


# More than any row's files and guests take.
TOUCHED_MIB = 768


class Runner:
    """Runs commands through `bench_limits run`, which measures them."""

    def __init__(self, program):
        self.program = program

    def make_ready(self):
        """The same free memory for everybody: see limits.h."""
        run(self.program, "touch", TOUCHED_MIB)

    def spawn(self, command, expect):
        report = tempfile.NamedTemporaryFile("r", prefix="calf-bench-")
        output = tempfile.TemporaryFile()
        process = subprocess.Popen([self.program, "run", report.name, *map(str, command)], stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT)

        def finish():
            status = process.wait()
            output.seek(0)
            text = output.read().decode(errors="replace")
            output.close()
            with report:
                figures = report.read().split()
            if status != expect or len(figures) != 3:
                raise Failed(f"{' '.join(map(str, command))}: exit {status}\n{text[-2000:]}")
            return text, float(figures[0]), float(figures[1]), int(figures[2])
        return finish

    def at_once(self, commands, expect=0):
        """Runs the commands together: (seconds until the last has ended, their outputs, CPU seconds, largest RSS)."""
        start = time.monotonic()
        running = [self.spawn(command, expect) for command in commands]
        ended = [finish() for finish in running]
        wall = time.monotonic() - start if len(commands) > 1 else ended[0][1]
        return wall, [e[0] for e in ended], sum(e[2] for e in ended), max(e[3] for e in ended)

    def seconds(self, commands, expect=0, scale=1.0):
        wall, _, cpu, rss = self.at_once(commands, expect)
        return Sample(wall * scale, cpu, rss)

    def printed_seconds(self, commands, scale=1.0):
        """By the time that they print themselves: what they do before does not count."""
        _, texts, cpu, rss = self.at_once(commands)
        took = max(float(re.search(r"Run completed in ([0-9.]+) seconds", text)[1]) for text in texts)
        return Sample(took * scale, cpu, rss)

    def rate(self, commands, count):
        """Requests per second of `bench` commands of `count` requests each."""
        sample = self.printed_seconds(commands)
        sample.value = count * len(commands) / sample.value
        return sample


def run(*command):
    """Not measured: makes a file."""
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout.decode(errors='replace')}")


def measure(runner, row, runs):
    """Contestants in turn, `runs` times, after one turn that is not counted. A peer that fails is left out, by name."""
    samples = {contestant.name: [] for contestant in row.contestants}
    for turn in range(runs + 1):
        for contestant in row.contestants:
            if samples[contestant.name] is None:
                continue
            try:
                if contestant.prepare:
                    contestant.prepare()
                runner.make_ready()
                sample = contestant.measure()
            except (Failed, OSError) as error:
                if contestant.name == "calf":
                    raise
                print(f"  {row.name}: {contestant.name} left out: {error}", file=sys.stderr)
                samples[contestant.name] = None
                continue
            if turn > 0:
                samples[contestant.name].append(sample)
    return report(row, {name: taken for name, taken in samples.items() if taken})


def report(row, samples):
    figures = {name: Figures(statistics.median(s.value for s in taken), statistics.median(s.cpu for s in taken),
                             max(s.rss for s in taken), max(s.file_bytes for s in taken)) for name, taken in samples.items()}
    results = Results(figures, row.higher)
    goals = []
    for goal in row.goals():
        reached, verdict = goal.verdict(results)
        goals.append({"goal": goal.words, "bound": goal.bound, "reached": reached, "verdict": verdict})
    result = {"row": row.name, "unit": row.unit, "higher-is-better": row.higher, "ratio-to-qemu": results.times_qemu(),
              "ratio-to-limit": results.better(results.limit) if results.limit else None, "goals": goals, "contestants": {}}
    for name, taken in samples.items():
        values = [sample.value for sample in taken]
        entry = {"min": min(values), "median": figures[name].median, "max": max(values),
                 "cpu-seconds": figures[name].cpu, "rss-kib": figures[name].rss}
        result["contestants"][name] = entry
        ratio = "" if name == "calf" else f"{results.better(figures[name]):8.2f}x"
        print(f"{row.name:28} {name:12} {entry['min']:11.4g} {entry['median']:11.4g} {entry['max']:11.4g} {row.unit:8}"
              f"{entry['cpu-seconds']:8.3f} {entry['rss-kib'] / 1024:7.1f} {ratio}", flush=True)
    for goal in goals:
        reached = "" if goal["reached"] is None else f" ({goal['reached']:.3g})"
        print(f"{'':28} {goal['verdict'] + ':':12} {goal['goal']}{reached}", flush=True)
    return result


def heading():
    print(f"{'row':28} {'':12} {'min':>11} {'median':>11} {'max':>11} {'':8}{'CPU s':>8} {'RSS MiB':>7} {'calf/it':>9}")
