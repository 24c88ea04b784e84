"""What a row has to reach: figures of its contestants held against each other, or against a number."""
import dataclasses
from typing import Callable, Optional

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Figures:
    """One contestant's: the median in the row's unit, CPU seconds, KiB, and bytes of the file that it made."""
    median: float
    cpu: float
    rss: int
    file_bytes: int


class Results:
    """Of one row, by contestant."""

    def __init__(self, figures, higher):
        self.figures, self.higher = figures, higher
        self.calf = figures["calf"]
        self.limit = figures.get("limit")
        self.peers = [entry for name, entry in figures.items() if name.startswith("QEMU")]

    def better(self, other):
        """How many times better calf is than `other`."""
        own, theirs = self.calf.median, other.median
        return own / theirs if self.higher else theirs / own

    def times_qemu(self):
        """Than the best way to run QEMU."""
        return min(map(self.better, self.peers)) if self.peers else None


@dataclasses.dataclass(frozen=True)
class Goal:
    words: str
    reached: Callable[[Results], Optional[float]]   # None: whom it is held against is missing
    bound: float
    at_least: bool = False

    def verdict(self, results):
        """(what was reached or None, "met", "MISSED" or "no peer")"""
        value = self.reached(results)
        if value is None:
            return None, "no peer"
        met = value >= self.bound if self.at_least else value <= self.bound
        return value, "met" if met else "MISSED"


def times_qemu(bound):
    return Goal(f"{bound:g} x QEMU", Results.times_qemu, bound, at_least=True)


def at_most(bound, unit):
    return Goal(f"at most {bound:g} {unit}", lambda results: results.calf.median, bound)


def times_limit(bound):
    """At most so many times what the limit takes."""
    return Goal(f"at most {bound:g} x the limit", lambda results: 1 / results.better(results.limit) if results.limit else None, bound)


def times_other(name, bound):
    """At least so many times as good as the contestant `name`."""
    return Goal(f"{bound:g} x {name}", lambda results: results.better(results.figures[name]) if name in results.figures else None,
                bound, at_least=True)


def beyond(name, bound, unit):
    """At most so much more than the contestant `name`."""
    return Goal(f"at most {bound:g} {unit} beyond {name}", lambda results: results.calf.median - results.figures[name].median
                if name in results.figures else None, bound)


def cpu_of_qemu(bound):
    return Goal(f"at most {bound:g} of QEMU's CPU time", lambda results: results.calf.cpu / min(peer.cpu for peer in results.peers)
                if results.peers else None, bound)


def cpu_each(microseconds, count):
    return Goal(f"at most {microseconds:g} us of CPU each", lambda results: results.calf.cpu * 1e6 / count, microseconds)


def wall_of_cpu(bound, cores):
    """At most so many times the CPU time over the cores."""
    return Goal(f"at most {bound:g} x CPU time / {cores}", lambda results: results.calf.median * cores / results.calf.cpu, bound)


def memory(mib):
    return Goal(f"at most {mib:g} MiB", lambda results: results.calf.rss / 1024, mib)


def not_larger():
    """The file that calf makes, beside QEMU's."""
    return Goal("a file not larger than QEMU's", lambda results: results.calf.file_bytes / min(p.file_bytes for p in results.peers)
                if results.peers else None, 1)
