# The front door. `make` alone lists the targets; every target installs what it needs first.
#
# What needs thought lives in scripts beside the tools: `tools/setup.sh` (machine), `tools/gates.sh`
# (lint, check, test), `tools/release.sh`, `tools/lock.sh` (no build during a benchmark), `tools/fuzz/run.sh`.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

CARGO ?= cargo
# Where cargo puts what it builds.
OUT := $(or $(CARGO_TARGET_DIR),target)
# Extra arguments for the program behind `demo` and `bench-relay`.
ARGS ?=
# The demonstration's size.
AGENTS ?= 2
CALLS ?= 1
# What `bench-sip` measures: `dist`, as it is deployed (`make release`), or `release`, which is built sooner.
BUILD ?= dist
# Seconds for each fuzz target.
SECONDS ?= 60

export CARGO

SHARED := tools/lock.sh shared
EXCLUSIVE := tools/lock.sh exclusive

# Some programs, with the features that the whole workspace asks of what they depend on. `-p` alone would ask for fewer
# of them, and build tokio, ring and all above once more.
programs = --workspace $(addprefix --bin ,$(1))

.PHONY: help setup setup-build setup-test setup-bench setup-release build release demo lint check test bench-relay bench-sip bench-mix bench-transcode audit fuzz

help: ## List the targets (default)
	@echo 'usage: make <target>'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Start with `make demo`; run `make check` before each commit and `make test` before each push.'

setup: ## Install all that building, testing and benchmarking need (apt; elsewhere: names it)
	@tools/setup.sh build test bench

setup-build:
	@tools/setup.sh build

setup-test:
	@tools/setup.sh build test

setup-bench:
	@tools/setup.sh build bench

setup-release:
	@tools/setup.sh build release

build: setup-build ## Build every program and library
	$(SHARED) $(CARGO) build --locked --workspace

release: setup-release ## mediad, controld and mctl to deploy, controld compiled for the calls it takes (target/dist)
	$(SHARED) tools/release.sh

demo: setup-build ## A call centre: two agents, a customer, proof of audio (AGENTS=2 CALLS=1 ARGS=…)
	$(SHARED) $(CARGO) build --locked $(call programs,mediad controld demo agent customer)
	$(SHARED) $(OUT)/debug/demo --agents $(AGENTS) --calls $(CALLS) $(ARGS)

lint: setup-build ## Format, clippy, rustdoc and tidy; no tests
	@tools/gates.sh lint

check: setup-build ## The gate for each commit: lint and the unit tests (minutes)
	@tools/gates.sh check

test: setup-test ## Everything: lint, all tests, the fuzz corpora, the demo
	@tools/gates.sh test

bench-relay: setup-bench ## Compare the relay with rtpengine, alone on the machine (ARGS=…)
	$(SHARED) $(CARGO) build --release --locked $(call programs,mediad bench)
	$(EXCLUSIVE) $(OUT)/release/bench relay $(ARGS)

bench-sip: setup-bench $(if $(filter dist,$(BUILD)),release) ## Registrations, calls with audio, memory, alone on the machine (BUILD=dist ARGS=…)
	$(SHARED) $(CARGO) build --release --locked $(call programs,mediad controld bench)
	$(EXCLUSIVE) $(OUT)/release/bench sip --mediad $(OUT)/$(BUILD)/mediad --controld $(OUT)/$(BUILD)/controld $(ARGS)

bench-mix: setup-bench ## Rooms: members, loudest talkers, cost beside a relay, idle, alone on the machine (ARGS=…)
	$(SHARED) $(CARGO) build --release --locked $(call programs,mediad bench)
	$(EXCLUSIVE) $(OUT)/release/bench mix $(ARGS)

bench-transcode: setup-bench ## Compare SRTP and Opus with rtpengine, alone on the machine (ARGS=…)
	$(SHARED) $(CARGO) build --release --locked $(call programs,mediad bench)
	$(EXCLUSIVE) $(OUT)/release/bench transcode $(ARGS)

audit: ## Check dependencies for advisories, licences and sources (needs cargo-deny)
	@$(CARGO) deny --version >/dev/null 2>&1 || { \
	  echo 'audit: cargo-deny is missing; install it with: cargo install --locked cargo-deny' >&2; exit 1; }
	$(CARGO) deny --locked check

fuzz: setup-build ## Run each fuzz target for SECONDS=60 (needs cargo-fuzz)
	@$(SHARED) tools/fuzz/run.sh $(SECONDS)
