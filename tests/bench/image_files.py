"""The images that the rows are measured on. Each is made once, on first use, in the bench's work folder."""
import functools
import os
import pathlib
import random
import shutil
import struct

from measuring import run

MIB = 1 << 20
CLUSTER = 65536


class ImageFiles:
    """`scale` MiB stand for one GiB of PERFORMANCE's table: 256 in a quick run, 1024 in a full one."""

    def __init__(self, img, work, scale):
        self.img, self.work, self.scale = img, work, scale

    def path(self, name):
        return self.work / name

    def made(self, name, make):
        path = self.path(name)
        if not path.exists():
            part = self.path(name + ".part")
            make(part)
            part.rename(path)
        return path

    def read_again(self):
        """What the rows read, into the page cache: direct reads of a file drop some of its pages."""
        for name in ("full.raw", "full-again.raw", "full.qcow2", "scattered.raw", "scattered.qcow2", "real.raw"):
            if self.path(name).exists():
                with open(self.path(name), "rb", buffering=0) as file:
                    while file.read(4 * MIB):
                        pass

    # ---- data ----
    def scattered_raw(self):
        """4 units long, one unit of data in runs of 64 KiB to 4 MiB."""
        def make(path):
            chance = random.Random(1)
            size = 4 * self.scale * MIB
            with open(path, "wb") as out:
                out.truncate(size)
                written = 0
                while written < self.scale * MIB:
                    length = chance.choice((1, 4, 16, 64)) * 65536
                    out.seek(chance.randrange(0, (size - length) // 65536) * 65536)
                    out.write(chance.randbytes(length))
                    written += length
        return self.made("scattered.raw", make)

    def full_raw(self):
        """4 units of data that does not compress."""
        def make(path):
            with open(path, "wb") as out:
                for _ in range(4 * self.scale):
                    out.write(os.urandom(MIB))
        return self.made("full.raw", make)

    def full_raw_again(self):
        """The same bytes in another file: of one that is compared with itself, each is read from the processor's cache once."""
        return self.made("full-again.raw", lambda path: shutil.copyfile(self.full_raw(), path))

    def real_raw(self):
        """One unit of what file systems hold: this machine's programs and libraries."""
        def make(path):
            left = self.scale * MIB
            with open(path, "wb") as out:
                for folder in ("/usr/lib", "/usr/bin", "/usr/share"):
                    for source in sorted(pathlib.Path(folder).rglob("*")):
                        if left <= 0:
                            return
                        try:
                            if not source.is_file() or source.is_symlink():
                                continue
                            with open(source, "rb") as data:
                                left -= out.write(data.read(min(left, 16 * MIB)))
                        except OSError:
                            continue
                out.truncate((out.tell() + 511) // 512 * 512)
        return self.made("real.raw", make)

    # ---- images, made by QEMU so that both sides read the same ----
    def converted(self, name, source, *options):
        return self.made(name, lambda path: run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, source, path))

    def full(self):
        return self.converted("full.qcow2", self.full_raw())

    def scattered(self):
        return self.converted("scattered.qcow2", self.scattered_raw())

    def compressed(self, kind):
        return self.converted(f"real-{kind}.qcow2", self.real_raw(), "-c", "-o", f"compression_type={kind}")

    def overlay(self, name, base, *options):
        """A new one each time."""
        path = self.path(name)
        path.unlink(missing_ok=True)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", *options, path)
        return path

    def empty(self, name, size, *options):
        path = self.path(name)
        path.unlink(missing_ok=True)
        run("qemu-img", "create", "-q", "-f", "qcow2", *options, path, size)
        return path

    def chain(self, depth):
        image = self.full()
        for layer in range(1, depth):
            image = self.made(f"chain{layer}.qcow2", lambda path, base=image: run(
                "qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path))
        return image

    def filled_overlay(self, name):
        """Half a unit of changed data on the scattered image."""
        base = self.path(name + ".base")
        shutil.copyfile(self.scattered(), base)
        overlay = self.overlay(name, base)
        length = self.scale * MIB // 2
        run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 7 0 {length}", overlay)
        # Or the flushes of who is measured would write all this first.
        for path in (base, overlay):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        return overlay

    @functools.cache
    def fragmented(self):
        """64 GiB virtual, 524288 clusters in random order: tables only, the data is a hole."""
        return self.made("fragmented.qcow2", write_fragmented)

    def large_metadata(self):
        return self.made("tib.qcow2", lambda path: run(
            "qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, "1T"))

    def copy_of(self, image, name):
        path = self.path(name)
        path.unlink(missing_ok=True)
        run("cp", "--sparse=always", image, path)
        # On the disk and out of the page cache: direct writes would have to write its pages first, and do nothing else.
        with open(path, "rb") as copy:
            os.fsync(copy.fileno())
            os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return path


def write_fragmented(path, virtual=64 << 30, count=524288):
    """Every second guest cluster is allocated; where it stands in the file is shuffled."""
    entries = CLUSTER // 8
    guest_clusters = virtual // CLUSTER
    l2_tables = guest_clusters // entries
    blocks = (count + l2_tables) // (CLUSTER // 2) + 2
    first_table = 2 + blocks + 1
    first_data = first_table + l2_tables
    total = first_data + count
    places = list(range(first_data, total))
    random.Random(7).shuffle(places)
    used = 1 << 63
    with open(path, "wb") as out:
        out.write(struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, virtual, 0, l2_tables,
                              (2 + blocks) * CLUSTER, CLUSTER, 1, 0, 0, 0, 0, 0, 4, 104))
        out.seek(CLUSTER)
        out.write(struct.pack(f">{blocks}Q", *((2 + i) * CLUSTER for i in range(blocks))))
        out.seek(2 * CLUSTER)
        out.write(struct.pack(">H", 1) * total)
        out.seek((2 + blocks) * CLUSTER)
        out.write(struct.pack(f">{l2_tables}Q", *((first_table + i) * CLUSTER | used for i in range(l2_tables))))
        out.seek(first_table * CLUSTER)
        for start in range(0, count, entries // 2):
            row = []
            for place in places[start:start + entries // 2]:
                row += [place * CLUSTER | used, 0]
            out.write(struct.pack(f">{len(row)}Q", *row))
        out.truncate(total * CLUSTER)
