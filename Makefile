# `make test` is what CI runs; the other targets are for people.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/perennial
CARGO_DENY := $(CACHE)/tools/bin/cargo-deny
DATA_DIR ?= data
# Tests that start servers wait on each other when too many run at once.
TEST_THREADS ?= 4

.PHONY: run demo demo-restore build test test-tools lint soak bench fuzz

run: ## Build and start everything in one process, on ./data
	cargo run --release -- standalone --data-dir $(DATA_DIR)

build: ## The program as it is released
	cargo build --profile figures

demo: ## Also start node_exporter and a Prometheus that writes here and reads back
	cargo build --release --locked
	tests/demo.sh

demo-restore: ## An incident from the delete to the data being back, with a real Prometheus
	cargo build --release --locked
	tests/demo-restore.sh

test-tools: ## Install what the tests need (Debian packages need root)
	tests/install.sh

lint: test-tools
	cargo fmt --check
	cargo clippy --locked --all-targets --features failpoints -- -D warnings
	$(CARGO_DENY) check --hide-inclusion-graph bans licenses

test: lint ## Everything: format, lints, dependencies, unit and integration tests with real peers, 50 simulated seeds
	PERENNIAL_REQUIRE_PEERS=1 cargo test --locked --features failpoints -- --test-threads=$(TEST_THREADS)

soak: test-tools ## Kill the processes 200 and 100 times, scrape for ten minutes, restore to 50 times, take the store away for minutes, simulate 1,000 seeds
	PERENNIAL_REQUIRE_PEERS=1 PERENNIAL_KILL_CYCLES=200 PERENNIAL_SCRAPE_SECONDS=600 PERENNIAL_OUTAGE_SECONDS=240 \
	  PERENNIAL_ARCHIVER_KILLS=100 PERENNIAL_RESTORE_TIMES=50 PERENNIAL_RESTORE_STRIDE=1 PERENNIAL_SCENE_SECONDS=300 \
	  cargo test --locked --features failpoints --test it -- --nocapture --test-threads=$(TEST_THREADS) \
	    kill:: peers:: archive:: restore:: faults::
	PERENNIAL_SIM_SEEDS=1000 cargo test --locked --features failpoints --test it -- --nocapture sim::acknowledged

bench: test-tools ## The table of docs/benchmarks.md, with the peers in the same run
	cargo bench --locked --profile figures --bench engine

fuzz: ## Run cargo-fuzz on every decoder, FUZZ_SECONDS each (needs a nightly toolchain and cargo-fuzz)
	fuzz/run.sh
