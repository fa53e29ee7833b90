# `make help` lists the targets. Everything is built with one profile (release), so the dependency tree is compiled once.
SHELL := /bin/bash
CARGO ?= cargo
# --workspace always: the features of shared dependencies are then the same for every target, and each is compiled once
FLAGS := --release --locked --workspace
BIN = $(or $(CARGO_TARGET_DIR),target)/release
# the real peers (Prometheus, node_exporter, …) are unpacked here once
PEERS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/foretell/peers
FOR ?= 120s
# how long the demo goes on after its answer; `make demo DEMO=` stays until Ctrl-C
DEMO ?= --for 60s

.PHONY: help setup build demo test check fmt lint unit e2e-prometheus e2e-prometheus-short bench deny clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 24

setup: ## install what a fresh Debian lacks (C++ compiler, libclang); says what it installs
	@.ci/setup

build: setup ## build the foretell binary
	$(CARGO) build $(FLAGS) --bins

demo: build ## a simulated shop with a fault, sent to a real server; prints the SQL that finds it
	$(BIN)/foretell demo $(DEMO)

test: setup check unit e2e-prometheus-short ## all that CI runs

check: setup fmt lint ## formatting and lints

fmt:
	$(CARGO) fmt --all -- --check

lint:
ifneq ($(LINT),compiled)
	$(CARGO) clippy $(FLAGS) --all-targets -- -D warnings
endif

unit: setup ## every test of every crate
	$(CARGO) test $(FLAGS)

e2e-prometheus: build ## real Prometheus and node_exporter against foretell, with a kill -9 in the middle (FOR=120s)
	benches/peers.sh $(PEERS) prometheus prometheus-node-exporter
	$(BIN)/bench e2e-prometheus --peers $(PEERS) --for $(FOR)

e2e-prometheus-short:
	@$(MAKE) --no-print-directory e2e-prometheus FOR=40s

bench: build ## every benchmark; figures go to benches/results/
	$(BIN)/bench all

deny: ## licences and sources of the dependency tree
	@command -v cargo-deny >/dev/null || { echo "deny: installing cargo-deny from the package registry"; $(CARGO) install --locked cargo-deny; }
	$(CARGO) deny --locked check licenses bans sources

clean: ## remove what cargo built
	$(CARGO) clean
