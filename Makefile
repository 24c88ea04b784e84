# Thin: what a person types. The build itself is CMake (CMakePresets.json).
#
#   make deps        Debian packages that are missing (root or sudo); silent when all is there
#   make build       release build in build/release
#   make test        everything from unit tests to booted guests; under 25 minutes on two cores
#   make test-iotests  QEMU's own tests of qemu-img with calf-img in its place (fetched on first use)
#   make test-svm    guests on AMD's virtualisation, which QEMU emulates where there is none (CASE=pattern for some)
#   make demo        four guests at once from one compressed, write-protected base image
#   make demo-linux  the same with Linux, booted by SYSLINUX from the disk's MBR
#   make bench       figures beside QEMU's and the host's limits; ROW=pattern for some, QUICK=1 for five minutes' worth, ALL=1 also for
#                    the rows in which QEMU takes minutes, FULL=1 for the large files
#   make bench-inside  coroutines, codecs, lookups: what lies inside a process (Google Benchmark)
#   make bench-cost  time and memory as disks, chains, guests and vCPUs grow; plots for docs/performance.md
#   make lint        format, layers, headers alone, coroutine rules, clang-tidy
#   make fuzz        each fuzz target for a minute (FUZZ_SECONDS=)
#   make test-long   10,000 damaged images through every subcommand, crash tests with more seeds
#   make test-asan test-tsan test-clang    the same tests under sanitizers, the other compiler
#   make install     programs, man pages, completion below PREFIX (DESTDIR is honoured)

PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
ROW ?=
QUICK ?=
ALL ?=
FULL ?=
IOTESTS ?=
CASE ?=
RELEASE := build/release

.DEFAULT_GOAL := build
.PHONY: deps build guests linux-guest test test-iotests test-svm test-long test-asan test-tsan test-clang demo demo-linux bench bench-inside bench-cost lint fuzz install clean

deps:
	@scripts/deps.sh packages.txt

build: deps
	@cmake --preset release > build.log 2>&1 || { cat build.log; rm -f build.log; exit 1; }
	@rm -f build.log
	@cmake --build $(RELEASE) -j $(JOBS)

linux-guest: deps
	@tests/guests/linux/build.sh

test: build linux-guest
	@scripts/run_tests.sh $(RELEASE)

test-iotests: build
	@tests/iotests/run.py $(RELEASE)/bin/calf-img $(IOTESTS)

test-svm: build
	@tests/svm/run.sh $(RELEASE) $(CASE)

test-long: build
	@$(RELEASE)/tests/hostile/mutation_run --images 10000 --jobs $(JOBS)
	@QCOW2_CRASH_SEEDS=40 QCOW2_MODEL_RUNS=2000 scripts/run_tests.sh $(RELEASE) 'model|crash'

test-asan: deps
	@cmake --preset asan > /dev/null
	@cmake --build build/asan -j $(JOBS)
	@scripts/run_tests.sh build/asan 'unit|hostile|model|crash'

test-tsan: deps
	@cmake --preset tsan > /dev/null
	@cmake --build build/tsan -j $(JOBS) --target tsan_tests
	@scripts/run_tests.sh build/tsan 'threads'

test-clang: deps
	@cmake --preset clang > /dev/null
	@cmake --build build/clang -j $(JOBS)
	@scripts/run_tests.sh build/clang 'unit|hostile|model|crash'

demo: build
	@scripts/demo.sh $(RELEASE)

demo-linux: build linux-guest
	@scripts/demo_linux.sh $(RELEASE)

bench: build linux-guest
	@tests/bench/bench.py $(RELEASE) $(if $(ROW),--row "$(ROW)") $(if $(QUICK),--quick) $(if $(ALL),--all) $(if $(FULL),--full) --json $(RELEASE)/bench.json

bench-inside: build
	@$(RELEASE)/tests/bench/inside/bench_inside

bench-cost: build
	@tests/bench/cost.py $(RELEASE) --plots docs/plots --json $(RELEASE)/cost.json

lint: deps
	@scripts/lint.sh

fuzz: deps
	@scripts/fuzz.sh $(FUZZ_SECONDS)

install: build
	@cmake --install $(RELEASE) --prefix $(PREFIX)

clean:
	rm -rf build
