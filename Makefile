# `make demo` and `make test` do all the set-up they need on a Debian machine with Rust.
# `make help` lists the rest.

.DEFAULT_GOAL := help
.PHONY: help setup setup-test build demo test gate bench bench-peers bench-servers bless fmt lint

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## system packages that the build needs
	@./tests/setup build

setup-test: ## and the real programs that the tests talk to
	@./tests/setup build peers infinity fuzz api scanners

build: setup ## the program, as target/debug/crosspoint
	cargo build --locked

demo: setup ## two endpoints call each other through the gateway; prints the proof
	cargo run --locked --quiet -- demo

test: setup-test ## every test of CI, with the time of each stage
	@./tests/stages ci

gate: setup-test ## the release gate: slow and real-time promises
	@./tests/setup gate servers
	@./tests/stages gate

bench: setup ## criterion benchmarks of codecs and kernels
	cargo bench --locked

bench-peers: ## our kernels beside libyuv, speexdsp, libswresample, libsrtp2, ffmpeg and plain C, with ratios
	@./tests/setup build bench
	cargo run --release --manifest-path benches/peers/Cargo.toml

bench-servers: ## legs, registrations and calls beside rtpengine and Kamailio, in turns; idle connections, bindings
	@./tests/setup build servers
	cargo test --locked --workspace --release --test gate_figures -- --nocapture --test-threads=1
	CROSSPOINT_CONNECTIONS=2000 cargo test --locked --workspace --release --test system_exhausted promise_26 -- --nocapture
	CROSSPOINT_DEVICES=10000 cargo test --locked --workspace --release --test system_hostile promises_24 -- --nocapture

bless: setup ## the pictures that layouts are compared with, made anew: look at them before you commit
	mkdir -p fixtures/layouts
	CROSSPOINT_BLESS=1 cargo test --locked --workspace --test layouts

fmt:
	cargo fmt --all

lint: setup
	cargo clippy --locked --workspace --all-targets -- -D warnings
