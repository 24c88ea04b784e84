#!/usr/bin/env python3
"""check and check -r beside Debian's qemu-img: images are damaged on purpose, one damage each; both
programs must find the same, in the same words and order, end with the same code, and leave an image
that the other one finds as clean and that reads the same.

usage: check_findings.py CALF_IMG [NAME...]      a difference is shown; exit code 77: qemu-img is missing
"""
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

COPIED, COMPRESSED = 1 << 63, 1 << 62
OFFSET = 0x00FFFFFFFFFFFE00


class Image:
    """A qcow2 file as bytes, with the places of its tables."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = bytearray(file.read())
        self.cluster = 1 << self.u32(20)
        self.l1 = self.u64(40)
        self.table = self.u64(48)
        self.block = self.u64(self.table)
        self.order = self.u32(96) if self.u32(4) >= 3 else 4
        self.snapshots = self.u64(64)
        self.l2 = self.u64(self.l1) & OFFSET

    def u16(self, at):
        return struct.unpack_from(">H", self.bytes, at)[0]

    def u32(self, at):
        return struct.unpack_from(">I", self.bytes, at)[0]

    def u64(self, at):
        return struct.unpack_from(">Q", self.bytes, at)[0]

    def room(self, end):
        if len(self.bytes) < end:
            self.bytes.extend(bytes(end - len(self.bytes)))

    def put16(self, at, value):
        self.room(at + 2)
        struct.pack_into(">H", self.bytes, at, value)

    def put32(self, at, value):
        self.room(at + 4)
        struct.pack_into(">I", self.bytes, at, value)

    def put64(self, at, value):
        self.room(at + 8)
        struct.pack_into(">Q", self.bytes, at, value)

    def count(self, cluster, value):
        """Refcount of a cluster (16 bits), in the first block."""
        self.put16(self.block + 2 * cluster, value)

    def data(self, i):
        """Host cluster of entry i of the first L2 table."""
        return (self.u64(self.l2 + 8 * i) & OFFSET) // self.cluster

    def entry(self, i, value):
        self.put64(self.l2 + 8 * i, value)

    def end(self):
        return (len(self.bytes) + self.cluster - 1) // self.cluster


def change(at, function):
    """Damage: the 64-bit number at at(image) becomes function(number)."""
    def damage(image):
        place = at(image)
        image.put64(place, function(image.u64(place)))
    return damage


def counts(*pairs):
    """Damage: refcounts of data clusters by index in the first L2 table, or of a table by name."""
    def damage(image):
        places = {"header": 0, "l1": image.l1, "l2": image.l2, "table": image.table, "block": image.block}
        for what, value in pairs:
            cluster = places[what] // image.cluster if isinstance(what, str) else image.data(what)
            image.count(cluster, value)
    return damage


def many(*damages):
    def damage(image):
        for one in damages:
            one(image)
    return damage


def leak_at_end(image):
    image.room((image.end() + 8) * image.cluster)
    for cluster in (image.end() - 3, image.end() - 1):
        image.count(cluster, 2)


def snapshot_entry(image):
    return image.snapshots


def drop_snapshot_extra(image):
    """As programs before QEMU 0.15 wrote it: no extra data."""
    at = image.snapshots
    extra = image.u32(at + 36)
    tail = image.bytes[at + 40 + extra:at + 200]
    image.put32(at + 36, 0)
    image.bytes[at + 40:at + 40 + len(tail)] = tail


def long_snapshot_extra(image):
    at = image.snapshots
    old = image.u32(at + 36)
    names = bytes(image.bytes[at + 40 + old:at + 40 + old + 16])
    image.put32(at + 36, 2000)
    image.room(at + 4096)
    image.bytes[at + 40 + old:at + 2040] = bytes(2000 - old)
    image.bytes[at + 2040:at + 2056] = names


L1 = lambda image: image.l1
L2 = lambda i: lambda image: image.l2 + 8 * i
SUB = lambda i: lambda image: image.l2 + 16 * i + 8
TABLE = lambda i: lambda image: image.table + 8 * i
RESERVED_L2 = 1 << 60

# name: (image, damage). Images are made by make_seeds().
CASES = {
    "clean": ("plain", many()),
    "clean_snapshots": ("snapshots", many()),
    "leak_one": ("plain", counts((1, 2))),
    "leak_at_end": ("plain", leak_at_end),
    "refcount_low": ("snapshots", counts((0, 1), (2, 1))),
    "refcount_high": ("snapshots", counts((0, 4), (1, 3))),
    "refcount_low_and_leak": ("snapshots", many(counts((0, 1), (1, 5)), leak_at_end)),
    "refcount_zero": ("plain", counts((1, 0))),
    "refcount_zero_snapshots": ("snapshots", counts((1, 0), ("l2", 0))),
    "refcount_zero_and_leak": ("plain", many(counts((1, 0)), leak_at_end)),
    "refcounts_all_zero": ("plain", lambda image: image.bytes.__setitem__(
        slice(image.block, image.block + image.cluster), bytes(image.cluster))),
    "header_uncounted": ("plain", counts(("header", 0))),
    "copied_clear_l2": ("plain", change(L2(0), lambda v: v & ~COPIED)),
    "copied_set_l2": ("snapshots", change(L2(0), lambda v: v | COPIED)),
    "copied_clear_l1": ("plain", change(L1, lambda v: v & ~COPIED)),
    "copied_set_l1": ("snapshots", change(L1, lambda v: v | COPIED)),
    "copied_and_leak": ("plain", many(change(L2(0), lambda v: v & ~COPIED), counts((1, 2)))),
    "data_unaligned": ("plain", change(L2(1), lambda v: v + 512)),
    "zero_unaligned": ("zeroes", change(L2(1), lambda v: v + 512)),
    "data_outside": ("plain", change(L2(1), lambda v: v + (1 << 40))),
    "data_outside_by_one": ("plain", change(L2(1), lambda v: COPIED | (1 << 32))),
    "data_shared": ("plain", lambda image: image.entry(1, image.u64(image.l2))),
    "data_on_header_neighbour": ("plain", lambda image: image.entry(1, image.table | COPIED)),
    "data_on_l2": ("plain", lambda image: image.entry(1, image.l2 | COPIED)),
    "l2_reserved": ("plain", change(L2(1), lambda v: v | RESERVED_L2)),
    "l2_reserved_v2_zero": ("v2", change(L2(1), lambda v: v | 1)),
    "l1_reserved": ("plain", change(L1, lambda v: v | 1 << 60)),
    "l1_unaligned": ("plain", change(L1, lambda v: v + 512)),
    "l1_outside": ("plain", change(L1, lambda v: COPIED | 1 << 40)),
    "l1_entries_share_a_table": ("two_tables", lambda image: image.put64(image.l1 + 8, image.u64(image.l1))),
    "compressed_copied": ("compressed", change(L2(0), lambda v: v | COPIED)),
    "compressed_outside": ("compressed", change(L2(0), lambda v: COMPRESSED | 1 << 40)),
    "block_reserved": ("plain", change(TABLE(0), lambda v: v | 3)),
    "block_unaligned": ("plain", change(TABLE(0), lambda v: v + 512)),
    "block_outside_near": ("plain", lambda image: image.put64(
        image.table + 8, image.end() * image.cluster + 4 * image.cluster)),
    "block_outside_far": ("plain", change(TABLE(1), lambda v: 1 << 60)),
    "block_twice": ("plain", change(TABLE(1), lambda v: v)),
    "block_shared": ("plain", lambda image: image.put64(image.table + 8, image.block)),
    "block_on_data": ("plain", lambda image: image.put64(image.table, image.data(0) * image.cluster)),
    "block_missing": ("plain", change(TABLE(0), lambda v: 0)),
    "overflow_one_bit": ("one_bit", lambda image: image.entry(1, image.u64(image.l2))),
    "corrupt_bit": ("plain", lambda image: image.put64(72, image.u64(72) | 2)),
    "corrupt_bit_and_leak": ("plain", many(lambda image: image.put64(72, image.u64(72) | 2), counts((1, 2)))),
    "dirty_bit": ("plain", lambda image: image.put64(72, image.u64(72) | 1)),
    "dirty_bit_and_zero": ("plain", many(lambda image: image.put64(72, image.u64(72) | 1), counts((0, 0), (2, 0)))),
    "snapshot_incomplete": ("snapshots", drop_snapshot_extra),
    "snapshot_extra_too_long": ("snapshots", long_snapshot_extra),
    "snapshot_l1_unaligned": ("snapshots", change(snapshot_entry, lambda v: v + 512)),
    "snapshot_l1_large": ("snapshots", lambda image: image.put32(image.snapshots + 8, 5000000)),
    "snapshot_l1_outside": ("snapshots", change(snapshot_entry, lambda v: 1 << 40)),
    "snapshot_table_outside": ("snapshots", lambda image: image.put64(64, 1 << 40)),
    "snapshot_table_unaligned": ("snapshots", lambda image: image.put64(64, image.snapshots + 8)),
    "snapshot_count_large": ("snapshots", lambda image: image.put32(60, 65537)),
    "snapshot_count_large": ("snapshots", lambda image: image.put32(60, 65537)),
    "subclusters_both": ("extended", change(SUB(0), lambda v: v | 1 << 32)),
    "subclusters_unallocated": ("extended", change(SUB(9), lambda v: 5)),
    "subclusters_zero_unaligned": ("extended", many(
        change(SUB(1), lambda v: 0xFFFFFFFF << 32), change(lambda image: image.l2 + 16, lambda v: v + 512))),
    "bitmap_leak": ("bitmap", counts((1, 2))),
    "two_findings_in_order": ("two_tables", many(
        change(L2(1), lambda v: v + 512), lambda image: image.put64(image.l1 + 8, image.u64(image.l1 + 8) | 1 << 58),
        change(L2(2), lambda v: v & ~COPIED), counts((3, 2)))),
}

# Where qemu-img gives up, marks the image corrupt or does not look, calf-img is to leave an image that
# qemu-img finds clean; what they say on the way is not compared.
BETTER = {
    "block_outside_far",  # one line more by qemu-img's file driver
    "block_reserved",     # qemu-img: "Preventing invalid write on metadata", not repaired
    "block_unaligned",    # the same
    "snapshot_table_outside",  # qemu-img: "qcow2_free_clusters failed"
    "snapshot_count_large",  # qemu-img takes what follows the table for entries, and gives up
    "bitmap_leak",        # qemu-img stores the bitmap anew
}
STRICTER = {
    "l2_reserved_v2_zero",  # reserved in version 2; qemu-img checks it as data, and refuses to read it
    "l1_unaligned",         # qemu-img takes what stands there for an L2 table
}


def run(*words, folder, env=None):
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          errors="replace", check=False)
    return done


def make_seeds(folder):
    def img(*words):
        done = run("qemu-img", *words, folder=folder)
        assert done.returncode == 0, done.stderr

    def io(name, *commands):
        words = ["qemu-io", "-f", "qcow2"]
        for command in commands:
            words += ["-c", command]
        done = run(*words, name, folder=folder)
        assert done.returncode == 0, done.stderr

    def seed(name, options, *commands, size="1M"):
        img("create", "-q", "-f", "qcow2", "-o", options, name, size)
        io(name, *commands)

    fill = ("write -P 1 0 24k", "write -P 9 40k 8k")
    seed("plain", "cluster_size=4096", *fill)
    seed("v2", "compat=0.10,cluster_size=4096", *fill)
    seed("zeroes", "cluster_size=4096", *fill, "write -z 4k 8k")
    seed("one_bit", "cluster_size=4096,refcount_bits=1", *fill)
    seed("two_tables", "cluster_size=4096", *fill, "write -P 3 2M 16k", size="4M")
    seed("compressed", "cluster_size=4096", "write -c -P 5 0 4k", "write -c -P 6 4k 4k", "write -P 7 8k 4k")
    seed("snapshots", "cluster_size=4096", *fill)
    img("snapshot", "-c", "one", "snapshots")
    io("snapshots", "write -P 2 4k 4k")
    img("snapshot", "-c", "two", "snapshots")
    seed("extended", "cluster_size=16384,extended_l2=on", *fill, "write -P 4 96k 16k")
    seed("bitmap", "cluster_size=4096", *fill)
    img("bitmap", "--add", "bitmap", "b0")


def normal(text, program):
    """The program's name and the file's are not what is compared."""
    text = re.sub(r"^(qemu-img|calf-img): ", "PROG: ", text, flags=re.M)
    return text.replace(program + ".qcow2", "FILE")


def check(program, tool, repair, folder):
    words = [tool, "check"] + (["-r", repair] if repair else []) + [program + ".qcow2"]
    try:
        done = run(*words, folder=folder)
    except subprocess.TimeoutExpired:
        return "TIMEOUT"
    return f"exit {done.returncode}\n-- stderr\n{normal(done.stderr, program)}-- stdout\n{normal(done.stdout, program)}"


def content(path, folder):
    done = run("qemu-img", "convert", "-O", "raw", path, "content.raw", folder=folder)
    if done.returncode != 0:
        return "unreadable"
    with open(os.path.join(folder, "content.raw"), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def repaired_for_both(name, image, calf_img, folder):
    path = os.path.join(folder, "calf.qcow2")
    with open(path, "wb") as file:
        file.write(image.bytes)
    first = check("calf", calf_img, "all", folder)
    theirs = check("calf", "qemu-img", None, folder)
    ours = check("calf", calf_img, None, folder)
    fine = first.startswith("exit 0") and theirs.startswith("exit 0") and theirs == ours
    if fine and content("calf.qcow2", folder) == content(CASES[name][0], folder):
        return []
    return [(f"{name}: check -r all, to be clean for both", {"qemu": theirs, "calf": first + ours})]


def one_case(name, calf_img, folder):
    seed, damage = CASES[name]
    image = Image(os.path.join(folder, seed))
    damage(image)
    wrong = []
    if name in BETTER:
        return repaired_for_both(name, image, calf_img, folder)
    for repair in (None, "leaks", "all"):
        answers = {}
        for program, tool in (("qemu", "qemu-img"), ("calf", calf_img)):
            path = os.path.join(folder, program + ".qcow2")
            with open(path, "wb") as file:
                file.write(image.bytes)
            answers[program] = check(program, tool, repair, folder)
        label = f"{name}: check" + (f" -r {repair}" if repair else "")
        if answers["qemu"] != answers["calf"]:
            wrong.append((label, answers))
            continue
        if repair != "all":
            continue
        # What is left is the same for the other program, and reads the same.
        for program, other in (("qemu", calf_img), ("calf", "qemu-img")):
            answers[program] = check(program, other, None, folder)
        if answers["qemu"] != answers["calf"]:
            wrong.append((label + ", then check by the other", answers))
        first, second = (content(p + ".qcow2", folder) for p in ("qemu", "calf"))
        if first != second:
            wrong.append((label + ", content", {"qemu": first, "calf": second}))
    return wrong


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if not shutil.which("qemu-img") or not shutil.which("qemu-io"):
        print("SKIPPED: qemu-img or qemu-io (package qemu-utils) is missing")
        return 77
    calf_img = os.path.abspath(sys.argv[1])
    bad = 0
    names = sys.argv[2:] or [name for name in CASES if name not in STRICTER]
    with tempfile.TemporaryDirectory(prefix="calf-check-") as folder:
        make_seeds(folder)
        for name in names:
            for label, answers in one_case(name, calf_img, folder):
                bad += 1
                print(f"==== {label}\n-------- qemu-img\n{answers['qemu']}\n-------- calf-img\n{answers['calf']}")
    print(f"{len(names)} images, {bad} differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
