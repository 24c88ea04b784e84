"""Rows about images: calf-img beside qemu-img with the same arguments on the same files."""
import goals
from measuring import Contestant, Row, Sample, run

STEP = 261 * 4096 * 17   # far apart, and prime to the length: each request is somewhere else


class ImageRows:
    def __init__(self, runner, img, limits, files, full):
        self.runner, self.img, self.limits, self.files = runner, img, limits, files
        self.factor = 4 if full else 1
        self.sides = (("calf", img), ("QEMU", "qemu-img"))

    # ---- bench ----
    def bench(self, program, image, count, depth, cache, *more, step=STEP):
        return [program, "bench", "-c", str(count), "-d", str(depth), "-S", str(step), "-t", cache, "-f", "qcow2", *more, image]

    def reads(self, name, goal, image, count, depth, cache, limit, step=STEP, usual=True, also=(), beside=None):
        """`limit`: the raw file that the limit reads, or a function of the count that gives the limit's words; `beside`: one more
        contestant, (its name, its image), read by calf."""
        count *= self.factor
        sides = [(who, program, image) for who, program in self.sides]
        if beside:
            sides.append((beside[0], self.img, beside[1]))
        contestants = [Contestant(who, lambda p=program, i=image: self.runner.rate(
            [self.bench(p, i(), count, depth, cache, step=step)], count)) for who, program, image in sides]
        contestants.append(Contestant("limit", lambda: self.runner.rate([[self.limits, *limit(count)]], count)))
        return Row(name, "reads/s", goal, contestants, higher=True, usual=usual, also=also)

    @staticmethod
    def plain_reads(file, depth, cache):
        """Words of a limit: reads of a raw file; through the page cache one thread is as fast as any depth."""
        return lambda count: ["read", file(), count, *((1,) if cache == "writeback" else (depth, "direct"))]

    def inflating(self, reads_of_a_cluster, threads, *order):
        return lambda count: ["inflate", self.files.real_raw(), count // reads_of_a_cluster, threads, *order]

    def writes(self, name, goal, fresh, count, depth, cache, *more, peers=((),), step=STEP, usual=True, limit=None,
               cpu_each=None):
        """`fresh(who)` makes the image to write to before each run; each of `peers` is a way to run QEMU; `limit` is the
        limit's work on a new file: (bytes of a write, bytes from one write to the next, the file whose data is copied, or None),
        or a function that makes the raw file to overwrite."""
        count *= self.factor
        images = {}

        def contestant(who, program, options):
            def prepare():
                images[who] = fresh()
            return Contestant(who, lambda: self.runner.rate(
                [self.bench(program, images[who], count, depth, cache, "-w", *more, *options, step=step)], count), prepare)
        sides = [contestant("calf", self.img, ())]
        sides += [contestant("QEMU" + " ".join(("",) + options[1:]), "qemu-img", options) for options in peers]
        if callable(limit):
            direct = ["direct"] if cache == "none" else []
            sides.append(Contestant("limit", lambda: self.runner.rate(
                [[self.limits, "write", images["limit"], str(count), str(depth), *direct]], count),
                lambda: images.update(limit=limit())))
        elif limit:
            sides.append(self.write_limit(limit, count, depth, cache))
        also = (goals.cpu_each(cpu_each, count),) if cpu_each else ()
        return Row(name, "writes/s", goal, sides, higher=True, usual=usual, also=also)

    def write_limit(self, limit, count, depth, cache, guests=1):
        size, every, base = limit
        names = [self.files.path(f"limit{i}.raw") for i in range(guests)]
        direct = ["direct"] if cache == "none" else []

        def measure():
            for file in names:
                file.unlink(missing_ok=True)
            return self.runner.rate([[self.limits, "allocate", file, str(count), str(depth), str(size), str(every),
                                      base() if base else "-", *direct] for file in names], count)
        return Contestant("limit", measure)

    def bench_rows(self):
        files = self.files
        raw = files.full_raw
        cached, direct = self.plain_reads(raw, 32, "writeback"), self.plain_reads(raw, 32, "none")
        yield self.reads("cached-read-full", 3, files.full, 100000, 32, "writeback", cached)
        yield self.reads("cached-read-overlay", 4, lambda: files.chain(2), 100000, 32, "writeback", cached)
        yield self.reads("cached-read-chain-of-5", 4, lambda: files.chain(5), 100000, 32, "writeback", cached,
                         beside=("one image", files.full), also=(goals.times_other("one image", 0.9),))
        yield self.many_readers()
        yield self.reads("direct-read", 1, files.full, 20000, 32, "none", direct, also=(goals.cpu_of_qemu(0.7),))
        engines = (("-i", "io_uring"), ("-i", "native"))
        full_copy = lambda: files.copy_of(files.full(), "overwritten.qcow2")
        raw_copy = lambda: files.copy_of(raw(), "overwritten.raw")
        yield self.writes("direct-overwrite-1", 1.15, full_copy, 5000, 1, "none", peers=engines, limit=raw_copy, usual=False)
        yield self.writes("direct-overwrite-32", 1, full_copy, 20000, 32, "none", peers=engines, limit=raw_copy, usual=False)
        overlay = lambda: files.overlay("written.qcow2", files.full())
        sub = lambda: files.overlay("written.qcow2", files.full(), "-o", "extended_l2=on,cluster_size=128k")
        copied, alone, apart = (65536, 65536, files.full_raw), (4096, 65536, None), (4096, 131072, None)
        yield self.writes("allocating-write", 2, overlay, 4000, 32, "none", peers=engines, limit=copied)
        yield self.writes("allocating-write-subclusters", 4, sub, 4000, 32, "none", peers=engines, limit=apart, cpu_each=12)
        yield self.writes("allocating-write-depth-1", 1.8, overlay, 2000, 1, "none", peers=engines, limit=copied)
        yield self.writes("allocating-write-cached", 2, overlay, 4000, 32, "writeback", peers=engines[:1],
                          limit=copied)
        yield self.many_writers()
        empty = lambda: files.empty("written.qcow2", f"{4 * files.scale}M")
        yield self.writes("allocating-write-no-base", 4, empty, 4000, 32, "none", peers=engines, limit=alone)
        flush = ("--flush-interval=64",)
        yield self.writes("allocating-write-flushes", 2, overlay, 2048, 32, "none", *flush, peers=engines[:1], limit=copied)
        zlib = lambda: files.compressed("zlib")
        yield self.reads("compressed-sequential-1", 15, zlib, 10000, 1, "writeback", self.inflating(16, 1), step=4096)
        yield self.reads("compressed-random-1", 1.6, zlib, 2000, 1, "writeback", self.inflating(1, 1, "random"))
        yield self.reads("compressed-random-32", 2.8, zlib, 4000, 32, "writeback", self.inflating(1, 2, "random"))

    def many_readers(self, guests=16):
        count = 20000 * self.factor
        overlays = []

        def prepare():
            if not overlays:
                overlays.extend(self.files.overlay(f"reader{i}.qcow2", self.files.full()) for i in range(guests))
        sides = [Contestant(who, lambda p=program: self.runner.rate(
            [self.bench(p, image, count, 32, "writeback") for image in overlays], count), prepare)
            for who, program in self.sides]
        sides.append(Contestant("limit", lambda: self.runner.rate(
            [[self.limits, "read", self.files.full_raw(), str(count), "1"]] * guests, count)))
        return Row("cached-read-16-overlays", "reads/s", 3.5, sides, higher=True)

    def many_writers(self, guests=16):
        count = 500 * self.factor
        overlays = []

        def prepare():
            overlays[:] = [self.files.overlay(f"writer{i}.qcow2", self.files.full()) for i in range(guests)]
        sides = [Contestant(who, lambda p=program, o=options: self.runner.rate(
            [self.bench(p, image, count, 32, "none", "-w", *o) for image in overlays], count), prepare)
            for who, program, options in (("calf", self.img, ()), ("QEMU", "qemu-img", ("-i", "native")))]
        sides.append(self.write_limit((65536, 65536, self.files.full_raw), count, 32, "none", guests))
        return Row("allocating-write-16-overlays", "writes/s", 2, sides, higher=True)

    # ---- whole images ----
    def command(self, name, goal, words, limit, fresh=None, unit="s", scale=1.0, repeat=1, usual=True, also=()):
        """`words(out)`: the command line after the program's name; `limit(out)`: that of the limits' program."""
        state = {}

        def contestant(who, program, words):
            def prepare():
                out = self.files.path("out.img")
                out.unlink(missing_ok=True)
                state[who] = fresh() if fresh else out

            def measure():
                sample = self.repeated(program, words, state[who], scale, repeat)
                sample.file_bytes = state[who].stat().st_size if state[who].exists() else 0
                return sample
            return Contestant(who, measure, prepare)
        programs = [(who, program, words) for who, program in self.sides] + [("limit", self.limits, limit)]
        return Row(name, unit, goal, [contestant(*program) for program in programs], usual=usual, also=also)

    def repeated(self, program, words, out, scale, repeat):
        command = [program, *words(out)]
        # These make something ready, which is not to be counted, and print what is.
        measure = self.runner.printed_seconds if command[1] in ("pack", "unpack") else self.runner.seconds
        samples = [measure([command], scale=scale) for _ in range(repeat)]
        return Sample(sum(s.value for s in samples) / repeat, sum(s.cpu for s in samples), max(s.rss for s in samples))

    def command_rows(self):
        files = self.files

        def convert(source_format, format, source, *options):
            return lambda out: ["convert", "-f", source_format, "-O", format, *options, source(), out]
        copy = lambda out: ["copy", files.scattered_raw(), out]
        yield self.command("convert-raw-to-qcow2", 1.6, convert("raw", "qcow2", files.scattered_raw), limit=copy)
        yield self.command("convert-qcow2-to-raw", 1.6, convert("qcow2", "raw", files.scattered), limit=copy)
        for kind, packing, unpacking, also in (("zlib", 7, 2.8, (goals.not_larger(),)), ("zstd", 1.3, 1.5, ())):
            yield self.command(f"convert-c-{kind}", packing,
                               convert("raw", "qcow2", files.real_raw, "-c", "-o", f"compression_type={kind}"),
                               limit=lambda out, k=kind: ["pack", k, files.real_raw(), out], also=also)
            yield self.command(f"decompress-{kind}", unpacking, convert("qcow2", "raw", lambda k=kind: files.compressed(k)),
                               limit=lambda out, k=kind: ["unpack", k, files.real_raw(), out])
        yield self.command("commit", 1.4, lambda image: ["commit", "-q", "-f", "qcow2", image],
                           fresh=lambda: files.filled_overlay("commit.qcow2"),
                           limit=lambda image: ["store", image, str(files.scale << 19)])
        yield self.command("rebase", 2.5, lambda image: ["rebase", "-f", "qcow2", "-b", files.full(), "-F", "qcow2", image],
                           fresh=lambda: files.overlay("rebase.qcow2", files.scattered()),
                           limit=lambda image: ["copy", files.scattered_raw(), image])
        yield self.command("compare-full", 1.8, lambda _: ["compare", "-q", "-f", "raw", "-F", "qcow2", files.full_raw(), files.full()],
                           limit=lambda _: ["compare", files.full_raw(), files.full_raw_again()])
        yield self.command("compare-zlib-raw", 4, lambda _: [
            "compare", "-q", "-f", "qcow2", "-F", "raw", files.compressed("zlib"), files.real_raw()],
            limit=lambda _: ["unpack", "zlib", files.real_raw()])
        yield self.command("check-fragmented", 100, lambda _: ["check", "-q", "-f", "qcow2", files.fragmented()],
                           limit=lambda _: ["scan", files.fragmented()])
        yield self.command("check-1-TiB-metadata", 10, lambda _: ["check", "-q", "-f", "qcow2", files.large_metadata()],
                           limit=lambda _: ["scan", files.large_metadata()])
        yield self.command("snapshot-create-fragmented", 100, lambda image: ["snapshot", "-c", "s", image],
                           limit=lambda image: ["scan", image],
                           fresh=lambda: files.copy_of(files.fragmented(), "snapshot.qcow2"), usual=False)

        def with_snapshot():
            image = files.copy_of(files.fragmented(), "snapshot.qcow2")
            run(self.img, "snapshot", "-c", "s", image)
            return image
        yield self.command("snapshot-delete-fragmented", 100, lambda image: ["snapshot", "-d", "s", image],
                           limit=lambda image: ["scan", image], fresh=with_snapshot, usual=False)
        yield self.command("map-json-fragmented", 8, lambda _: ["map", "--output=json", "-f", "qcow2", files.fragmented()],
                           limit=lambda _: ["scan", files.fragmented()])
        yield self.command("create-1-TiB-metadata", 10, lambda out: [
            "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", out, "1T"],
            limit=lambda out: ["store", out, str(160 << 20)])
        yield self.command("create-overlay", 5, lambda out: [
            "create", "-q", "-f", "qcow2", "-b", files.full(), "-F", "qcow2", out], unit="ms", scale=1000, repeat=20,
            limit=lambda out: ["store", out, str(3 * 65536)], also=(goals.memory(4),))
        yield self.command("info", 5, lambda _: ["info", "-f", "qcow2", files.full()], unit="ms", scale=1000, repeat=20,
                           limit=lambda _: ["look", files.full()], also=(goals.memory(4),))

    def rows(self):
        yield from self.bench_rows()
        yield from self.command_rows()
