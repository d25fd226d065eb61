# SPDX-License-Identifier: Apache-2.0
# The ways in: each target installs what it needs (as root) or says what is missing, and builds.
#
#   make demo          real programs exchange files over TLS 1.3, under a minute after the build
#   make check         all tests: races under tsan, everything under asan+ubsan, everything again as
#                      built for use, a real kernel in QEMU included
#   make check-quick   what a developer runs: one build, everything but the kernel
#   make check-kernel  kTLS in a real kernel (KERNEL=newest or stable)
#   make bench         measures (BENCH=--json for scripts)
#   make fuzz          every fuzz target for FUZZ_SECONDS
#   make clean         removes build/

.NOTPARALLEL:
.PHONY: all demo check check-quick check-dev check-asan check-tsan check-kernel bench fuzz clean
SHELL := /bin/bash

JOBS ?= $(shell nproc)
KERNEL ?= newest
BENCH ?=
FUZZ_SECONDS ?= 60
INSTALL := tools/install-dependencies
CCACHE := $(if $(shell command -v ccache),-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)

# $(call build,PRESET,TARGETS): configures (quietly, unless it fails) and builds.
define build
	@mkdir -p build
	@cmake --preset $(1) $(CCACHE) > build/$(1).configure.log 2>&1 || { cat build/$(1).configure.log; exit 1; }
	cmake --build build/$(1) -j $(JOBS) $(if $(2),--target $(2))
endef
# Tests may count on every core being theirs to share with one neighbour, no more.
CTEST := ctest --output-on-failure -j 2 --test-dir

all:
	@$(INSTALL) --build
	$(call build,release,handshaked handshakectl)

demo:
	@$(INSTALL) --build --demo
	$(call build,release,handshaked handshakectl)
	@tools/demo --build build/release

# ctest's closing line is the last thing that this prints.
check: check-tsan check-asan check-dev

check-tsan:
	@$(INSTALL) --build --test
	$(call build,tsan,hs_races)
	$(CTEST) build/tsan -L races --no-tests=error

check-asan:
	@$(INSTALL) --build --test
	$(call build,asan)
	$(CTEST) build/asan -LE kernel

check-dev:
	@$(INSTALL) --build --test --kernel
	@tests/kernel/fetch "" $(KERNEL)
	$(call build,dev)
	HS_MUST_RUN=kernel $(CTEST) build/dev

check-quick:
	@$(INSTALL) --build --test
	$(call build,dev)
	$(CTEST) build/dev -LE kernel

check-kernel:
	@$(INSTALL) --build --kernel
	$(call build,dev,handshaked handshakectl)
	HS_MUST_RUN=kernel tests/kernel/smoke build/dev $(KERNEL)

bench:
	@$(INSTALL) --build
	$(call build,release,handshaked hs_bench)
	@bench/run build/release $(BENCH)

fuzz:
	@$(INSTALL) --build --test
	$(call build,fuzz)
	@fuzz/run build/fuzz $(FUZZ_SECONDS)

clean:
	rm -rf build
