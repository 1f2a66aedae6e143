# Everything a newcomer or a pipeline runs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
CARGO ?= cargo
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))

.PHONY: help demo test lint bench soak fuzz faults release need

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | while IFS=$$'\t' read -r name text; do printf '  make %-8s %s\n' "$$name" "$$text"; done

need: # what a build needs, said in one line when it is missing
	@command -v $(CARGO) >/dev/null || { echo "versiond needs Rust 1.95 or newer: install rustup, then run this again"; exit 1; }
	command -v cc >/dev/null || { echo "versiond needs a C compiler to link: apt-get install gcc libc6-dev"; exit 1; }

release: need ## build the release binaries into target/release
	$(CARGO) build --release --workspace --bins

faults: need ## build a versiond and a devshardd that can break their own guards into target/faults/release
	@# In the release folder, so that no dependency is built twice; then the release is put back.
	$(CARGO) build --release -p versiond -p devshardd --features versiond/faults,devshardd/faults
	install -D $(TARGET)/release/versiond $(TARGET)/faults/release/versiond
	install -D $(TARGET)/release/devshardd $(TARGET)/faults/release/devshardd
	$(CARGO) build --release -p versiond -p devshardd

demo: release ## roll a child 20 times, then empty, kill and roll three hosts behind two routers, then roll a session host, all under load
	$(TARGET)/release/versiond-demo
	$(TARGET)/release/versiond-demo-fleet
	$(TARGET)/release/versiond-demo-sessions

test: need ## run every check; ends with a table of what ran and what was skipped
	./tests/run

lint: need ## formatting and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p versiond -p versiond-simulation -p devshardd --features versiond/faults,versiond-simulation/faults,devshardd/faults --all-targets -- -D warnings

bench: release ## measure; prints three tables, and writes bench.json, bench-peers.json and bench-sessions.json into target
	$(TARGET)/release/versiond-bench
	$(TARGET)/release/versiond-bench-peers
	$(TARGET)/release/versiond-bench-sessions

soak: release ## hold 9,000 event streams open through one router for ten minutes, under drains and swaps
	$(TARGET)/release/versiond-demo-soak

fuzz: need ## fuzz the parsers for FUZZ_SECONDS each (default 60); needs cargo-fuzz and a nightly compiler
	./tests/fuzz
