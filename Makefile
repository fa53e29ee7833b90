# `make help` lists the targets. Everything is built with one profile (release), so the dependency tree is compiled once.
SHELL := /bin/bash
CARGO ?= cargo
FLAGS := --release --locked
# the real peers (Prometheus, node_exporter, …) are unpacked here once
PEERS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/foretell/peers
FOR ?= 120s

.PHONY: help setup build demo test check fmt lint unit e2e-prometheus e2e-prometheus-short bench deny clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 24

setup: ## install what a fresh Debian lacks (C++ compiler, libclang); says what it installs
	@.ci/setup

build: setup ## build the foretell binary
	$(CARGO) build $(FLAGS) --bin foretell

demo: setup ## a simulated shop with a fault, sent to a real server; prints the SQL that finds it
	$(CARGO) run $(FLAGS) --bin foretell -- demo $(DEMO)

test: setup check unit e2e-prometheus-short ## all that CI runs

check: setup fmt lint ## formatting and lints

fmt:
	$(CARGO) fmt --all -- --check

lint:
	$(CARGO) clippy $(FLAGS) --workspace --all-targets -- -D warnings

unit: setup ## every test of every crate
	$(CARGO) test $(FLAGS) --workspace

e2e-prometheus: setup ## real Prometheus and node_exporter against foretell, with a kill -9 in the middle (FOR=120s)
	benches/peers.sh $(PEERS) prometheus prometheus-node-exporter
	$(CARGO) run $(FLAGS) -p foretell-benches --bin bench -- e2e-prometheus --peers $(PEERS) --for $(FOR)

e2e-prometheus-short:
	@$(MAKE) --no-print-directory e2e-prometheus FOR=20s

bench: setup ## every benchmark; figures go to benches/results/
	$(CARGO) build $(FLAGS) --bin foretell
	$(CARGO) run $(FLAGS) -p foretell-benches --bin bench -- all

deny: ## licences and sources of the dependency tree
	@command -v cargo-deny >/dev/null || { echo "deny: installing cargo-deny from the package registry"; $(CARGO) install --locked cargo-deny; }
	$(CARGO) deny --locked check licenses bans sources

clean: ## remove what cargo built
	$(CARGO) clean
