# Every target does what its line in `make help` says, from a clean checkout, on a machine that has
# nothing but Rust and Debian's packages.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# rustup's programs, where the shell has not been told of them.
export PATH := $(PATH):$(HOME)/.cargo/bin

CARGO ?= cargo
HOST := $(shell PATH="$(PATH)" rustc -vV 2>/dev/null | sed -n 's/^host: //p')
STATIC := target/$(HOST)/release/model-swarms
FUZZ_SECONDS ?= 600
TARGETS := $(patsubst fuzz/fuzz_targets/%.rs,%,$(wildcard fuzz/fuzz_targets/*.rs))

# What the tests and lints look at: also the training of the mini testbed, and the CUDA kernels.
FEATURES := train,kernel-tests
KERNEL_TESTS := $(patsubst tests/%.rs,--test %,$(wildcard tests/kernels_*.rs))
# Planted bugs are the emulated machine's to find.
GPU_TESTS := $(patsubst tests/%.rs,--test %,$(filter-out %_planted.rs,$(wildcard tests/kernels_*.rs)))
# The CUDA compiler, from PyPI; pinned, or the table of registers would change by itself.
CUDA := target/cuda
CUDA_PACKAGES := nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
	nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
# What reads machine code; these releases read what 13.0 writes.
CUDA_READERS := nvidia-cuda-cuobjdump==13.2.78 nvidia-cuda-nvdisasm==13.2.78
NVCC = $(firstword $(wildcard $(CUDA)/venv/lib/python3.*/site-packages/nvidia/cu13/bin/nvcc))
GPU_BENCHES := --bench kernels --bench swarm_gpu
# What `make gpu-check` runs, and where it says what it found.
GPU := target/gpu
GPU_RESULTS ?= $(or $(OUT),expected/gpu)
PARTS ?= tests tables timings sanitizer

.PHONY: help setup build static test lint format bench fuzz example testbed reproduce expected \
	picture clean sanitize cuda-toolkit kernels kernels-expected gpu-binaries gpu-check test-gpu bench-track

BENCHES := $(patsubst benches/%.rs,--bench %,$(filter-out %/track.rs,$(wildcard benches/*.rs)))
TABLE ?= 1
TESTBED ?= mini
SCALE ?= full
DEVICE ?= auto
SEED ?=
# Where `make expected` keeps what `make reproduce` is compared with.
EXPECTED ?= expected/$(if $(filter smoke,$(SCALE)),smoke,$(TESTBED))/$(shell printf table%02d $(TABLE)).json
REPRODUCE = ./target/release/model-swarms reproduce --table $(TABLE) --testbed $(TESTBED) \
	--scale $(SCALE) --device $(DEVICE) $(if $(SEED),--seed $(SEED))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A linker, rustfmt and clippy: found, or installed where that can be done without a question.
setup: ## see that the compiler, its linker and its lints are there
	@command -v $(CARGO) >/dev/null || { \
		echo "cargo is missing: install Rust 1.95 or later from https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { \
		[ "$$(id -u)" = 0 ] && apt-get install -y --no-install-recommends gcc libc6-dev; } || { \
		echo "a C linker is missing: apt-get install gcc libc6-dev" >&2; exit 1; }
	@$(CARGO) fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@$(CARGO) clippy --version >/dev/null 2>&1 || rustup component add clippy

build: setup $(if $(filter cuda,$(DEVICE)),cuda-toolkit) ## the program, in target/release
	$(CARGO) build --release --locked $(if $(filter cuda,$(DEVICE)),--features cuda)

static: setup ## the program without any shared library, and the proof of it
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --release --locked --target $(HOST)
	@echo "ldd $(STATIC)"
	@{ ldd $(STATIC) 2>&1 || true; } | tee /dev/stderr \
		| grep -Eq 'statically linked|not a dynamic executable'

test: lint ## formatting, lints and all tests; the golden ones name each case
	$(CARGO) test --locked --features $(FEATURES) -- --skip golden
	$(CARGO) test --locked --features $(FEATURES) golden -- --nocapture

lint: setup ## formatting and lints
	@command -v c++ >/dev/null || { \
		[ "$$(id -u)" = 0 ] && apt-get install -y --no-install-recommends g++; } || { \
		echo "the kernels' tests want a C++ compiler: apt-get install g++" >&2; exit 1; }
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --features $(FEATURES) -- -D warnings

# The kernels' tests once more, where every access of a kernel is looked at. A sanitizer's runtime
# must come before all other libraries, which the runner sees to.
RUNNER = CARGO_TARGET_$(subst -,_,$(shell echo $(HOST) | tr a-z A-Z))_RUNNER
SANITIZED = $(RUNNER)="env ASAN_OPTIONS=detect_leaks=0 \
	TSAN_OPTIONS=suppressions=$(CURDIR)/kernels/host/tsan.supp LD_PRELOAD=$$(c++ -print-file-name=$(2))" \
	KERNELS_SANITIZER=$(1) $(CARGO) test --locked --features kernel-tests $(3)
# Whole forward passes start kernels that have tests of their own: for ThreadSanitizer those are
# enough, and the passes would take it an hour.
WHOLE := tests/kernels_backend.rs tests/kernels_experts.rs tests/kernels_memory.rs
sanitize: setup ## the kernels' tests under AddressSanitizer with UBSan, then ThreadSanitizer
	$(call SANITIZED,address,libasan.so,$(KERNEL_TESTS))
	$(call SANITIZED,thread,libtsan.so,$(patsubst tests/%.rs,--test %,$(filter-out $(WHOLE),$(wildcard tests/kernels_*.rs))))

cuda-toolkit: ## the CUDA compiler, from PyPI, in target/cuda (500 MB)
	@[ -n "$(NVCC)" ] || { python3 -m venv $(CUDA)/venv && \
		$(CUDA)/venv/bin/pip install --quiet $(CUDA_PACKAGES); }
	@[ -e $(dir $(NVCC))cuobjdump ] || \
		$(CUDA)/venv/bin/pip install --quiet --no-deps $(CUDA_READERS) || \
		echo "without cuobjdump and nvdisasm, PTX is looked at and not machine code" >&2

kernels: cuda-toolkit ## the CUDA kernels, for all chips, and what must hold of them
	kernels/compile.sh $(NVCC) $(CUDA)

kernels-expected: cuda-toolkit ## keep the kernels' registers and shared memory as expected ones
	kernels/compile.sh $(NVCC) $(CUDA) --write

gpu-binaries: cuda-toolkit ## the program, the kernels' tests and benches, for a machine with a GPU and no cargo
	$(CARGO) build --release --locked --features cuda
	rm -rf $(GPU) && mkdir -p $(GPU)
	strip -o $(GPU)/model-swarms target/release/model-swarms
	$(CARGO) test --release --locked --no-run --message-format json \
		--features cuda,kernel-tests $(GPU_TESTS) $(GPU_BENCHES) | \
		sed -nE -e 's/.*"name":"(kernels_[a-z_]*)".*"executable":"([^"]*)".*/\1 \2/p' \
			-e 's/.*"kind":\["bench"\].*"name":"([a-z_]*)".*"executable":"([^"]*)".*/bench_\1 \2/p' | \
		while read -r name path; do strip -o $(GPU)/$$name $$path; done
	git rev-parse HEAD >$(GPU)/commit
	tar -cJf $(GPU).tar.xz $(GPU)

gpu-check: ## what only a GPU can tell: PARTS="tests tables timings sanitizer"; without cargo, from target/gpu.tar.xz
	@if command -v $(CARGO) >/dev/null; then $(MAKE) gpu-binaries; else tar -xJf $(GPU).tar.xz; fi
	kernels/gpu_check.sh $(GPU) $(GPU_RESULTS) $(PARTS)

test-gpu: cuda-toolkit ## the kernels' tests, the forward pass and the goldens on this machine's GPU
	MODEL_SWARMS_GPU=1 $(CARGO) test --release --locked --features cuda,kernel-tests \
		$(GPU_TESTS) --bench kernels -- --test-threads 1


format: setup ## format the sources
	$(CARGO) fmt

bench: setup ## the benchmarks, at their full sizes
	$(CARGO) bench --locked

# Cases to track; the medians of a run are lines of the history. On a GPU, the benches of its own:
# BENCH_FOLDER, with 20 GB of room, is where the model of the end-to-end rows is written.
CASES ?=
HISTORY ?= $(CURDIR)/target/bench-history.tsv
TRACKED = $(if $(filter cuda,$(DEVICE)),--features cuda$(comma)kernel-tests $(GPU_BENCHES),$(BENCHES))
comma := ,
MACHINE = $(if $(filter cuda,$(DEVICE)),nvidia-smi --query-gpu=name --format=csv$(comma)noheader,\
	sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo)
bench-track: setup $(if $(filter cuda,$(DEVICE)),cuda-toolkit) ## the benchmarks, their medians appended to HISTORY and drawn beside it (CASES=filter DEVICE=cuda)
	BENCH_HISTORY=$(HISTORY) BENCH_COMMIT=$$(git rev-parse --short HEAD) BENCH_DATE=$$(date -u +%F) \
		BENCH_MACHINE="$$($(MACHINE) | head -1)" $(CARGO) bench --locked $(TRACKED) -- $(CASES)
	BENCH_HISTORY=$(HISTORY) $(CARGO) bench --locked --bench track

fuzz: setup ## every fuzz target for FUZZ_SECONDS (600) seconds
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	python3 fuzz/seeds.py
	for target in $(TARGETS); do \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) \
			-dict="fuzz/corpus/$$target.dict" -rss_limit_mb=4096 -max_len=8192; \
	done

example: build ## the README's example, in target/example
	rm -rf target/example
	./target/release/model-swarms example --out target/example

testbed: setup ## make the mini testbed again from its seed, in target/mini (half an hour), and compare
	$(CARGO) build --release --locked --features train
	./target/release/model-swarms testbed build --out target/mini
	diff suites/mini/SHA256SUMS target/mini/SHA256SUMS

reproduce: build ## TABLE=1 of the paper: TESTBED=mini|FILE SCALE=smoke|full DEVICE=auto|cpu|cuda SEED=
	$(REPRODUCE)

expected: build ## keep the results of `make reproduce` as those that later ones are compared with
	mkdir -p $(dir $(EXPECTED))
	$(REPRODUCE) --write-expected $(EXPECTED) --commit "$$(git describe --always --dirty --abbrev=12)"

picture: ## the README's picture: how the searches on GSM8k went in the last `make reproduce`
	awk '/<svg .*aria-label="GSM8k"/ { on = 1 } on { sub(/.*<svg/, "<svg xmlns=\"http://www.w3.org/2000/svg\""); sub(/<\/svg>.*/, "</svg>"); \
		print } /<\/svg>/ { on = 0 }' reproduced/mini-table01-full/report.html \
		| sed -E 's/var\(--[a-z0-9]+, ([^)]+)\)/\1/' > expected/mini/gsm8k.svg

clean: ## remove what was built
	$(CARGO) clean
