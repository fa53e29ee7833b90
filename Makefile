# `make help` lists the targets. Everything is built with one profile (release), so the dependency tree is compiled once.
SHELL := /bin/bash
CARGO ?= cargo
# a clang++ that parses the headers of RocksDB once
export PATH := $(CURDIR)/.ci/bin:$(PATH)
# --workspace always: the features of shared dependencies are then the same for every target, and each is compiled once
FLAGS := --release --locked --workspace
BIN = $(or $(CARGO_TARGET_DIR),target)/release
# the real peers (Prometheus, node_exporter, …) are unpacked here once
PEERS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/foretell/peers
# and real clients in Python here
CLIENTS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/foretell/clients
# the data set Nezha, for `make nezha`
NEZHA ?= ../shared/data/nezha
FOR ?= 120s
# ClickHouse and DuckDB as Python packages, for `make bench-logs`, `make bench-traces` and `make bench-metrics`
EVENTS_VENV ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/foretell/events-venv
ROWS ?= 10000000
# statsforecast, river and scikit-learn as Python packages, for `make bench-ml`; its data sets, its scorers, and which parts
ML_VENV ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/foretell/ml-venv
DATA ?= ../shared/data
SCORE ?= ../shared/score
ML ?= accuracy detect detect-speed
# which parts of `make bench-metrics` (ingest, merged, lastpoint, linear, sql, promql); all of them when empty
ONLY ?=
# what `make abuse` offers
SERIES ?= 2000000
# how long the demo goes on after its answer; `make demo DEMO=` stays until Ctrl-C
DEMO ?= --for 60s

# how much of each harness: kills, seeds, flips, seconds a decoder, MiB of log, questions; and where to start
EXPRESSIONS ?= 6000
EVENTS ?= 20000
RULES_FOR ?= 60
KILLS ?= 1000
STREAM_KILLS ?= 240
OUTAGE ?= 3600
SEED ?= 1
SEEDS ?= 10000
FLIPS ?= 10000
FUZZ ?= 60
WAL_MIB ?= 1024
QUESTIONS ?= 10000

.PHONY: help setup build demo test check fmt lint unit e2e-prometheus e2e-prometheus-short clients clients-short nezha promql-diff promql-diff-short rules-diff alertmanager bench-alerts outage bench-default-detector bench-metrics bench-promql bench-ml bench-logs bench-traces crash crash-short stream-check stream-check-short crashfs sim bitrot fuzz recovery abuse abuse-short year metamorphic bench churn deny clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 24

setup: ## install what a fresh Debian lacks (C++ compiler, libclang); says what it installs
	@.ci/setup

build: setup ## build the foretell binary
	$(CARGO) build $(FLAGS) --bins

demo: build ## a simulated shop with a fault, sent to a real server; prints the SQL that finds it
	$(BIN)/foretell demo $(DEMO)

test: setup check unit crash-short stream-check-short e2e-prometheus-short clients-short promql-diff-short ## all that CI runs

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
	benches/peers.sh $(PEERS) prometheus promtool prometheus-node-exporter
	$(BIN)/bench e2e-prometheus --peers $(PEERS) --for $(FOR)

e2e-prometheus-short:
	@$(MAKE) --no-print-directory e2e-prometheus FOR=40s

clients: build ## OpenTelemetry's SDK and clients of Loki and InfluxDB send, the server is killed, all is read back (EVENTS=20000)
	.ci/setup clients
	benches/clients/venv.sh $(CLIENTS)
	PYTHONDONTWRITEBYTECODE=1 $(CLIENTS)/bin/python benches/clients/run.py --server $(BIN)/foretell --events $(EVENTS)

clients-short:
	@$(MAKE) --no-print-directory clients EVENTS=200

nezha: build ## traces and lines of a real system by import and by OTLP, both servers killed, every answer beside its files (NEZHA=folder)
	.ci/setup clients
	benches/clients/venv.sh $(CLIENTS)
	PYTHONDONTWRITEBYTECODE=1 $(CLIENTS)/bin/python benches/clients/nezha.py --server $(BIN)/foretell --data $(NEZHA) --seed $(SEED)

promql-diff: build ## the same expressions to a real Prometheus and to foretell (EXPRESSIONS=6000 SEED=1)
	benches/peers.sh $(PEERS) prometheus
	$(BIN)/bench promql-diff --peers $(PEERS) --expressions $(EXPRESSIONS) --seed $(SEED)

promql-diff-short:
	@$(MAKE) --no-print-directory promql-diff EXPRESSIONS=300

rules-diff: build ## the same rule file in a real Prometheus and in foretell, over the same samples (RULES_FOR=60 seconds)
	benches/peers.sh $(PEERS) prometheus
	$(BIN)/bench rules-diff --peers $(PEERS) --for $(RULES_FOR)

alertmanager: build ## a real Alertmanager hears of alerts from foretell, groups them, and tells of their end
	benches/peers.sh $(PEERS) prometheus-alertmanager
	$(BIN)/bench alertmanager --peers $(PEERS)

bench-alerts: build ## from a sample to the POST that tells of it: 100,000 series, 1,000 detectors, 500,000 samples a second
	$(BIN)/bench alerting

outage: build ## webhooks that answer 500 and hang for a long time; all others go on, and nothing is lost (OUTAGE=3600 seconds)
	$(BIN)/bench outage --for $(OUTAGE)

bench-default-detector: build ## what the default detector on every series costs ingest: a server with it and one without it, in turn
	$(BIN)/bench default-detector

bench-metrics: build $(EVENTS_VENV)/bin/python ## ingest, size, memory, SQL and PromQL beside VictoriaMetrics, Prometheus and DuckDB, with the goals (ONLY="merged lastpoint")
	benches/peers.sh $(PEERS) prometheus victoria-metrics
	$(BIN)/bench metrics --peers $(PEERS) --python $(EVENTS_VENV)/bin/python $(foreach part,$(ONLY),--only $(part))

bench-promql: build ## each class of PromQL query beside a real Prometheus and a real VictoriaMetrics (FULL=1: 50,000 series, 6 h, with the goals)
	benches/peers.sh $(PEERS) prometheus victoria-metrics
	$(BIN)/bench promql --peers $(PEERS) $(if $(FULL),--full)

crash: build ## kill -9 of the real server under load, a fifth of the times in recovery (KILLS=1000 SEED=1)
	$(BIN)/bench crash --cycles $(KILLS) --seed $(SEED)

crash-short:
	@$(MAKE) --no-print-directory crash KILLS=30

stream-check: build ## kill -9 of the real server while continuous queries, alerts and subscribers work: each table is its SELECT (STREAM_KILLS=240 SEED=1)
	$(BIN)/bench stream --cycles $(STREAM_KILLS) --seed $(SEED)

stream-check-short:
	@$(MAKE) --no-print-directory stream-check STREAM_KILLS=24

crashfs: setup ## power cuts and failing calls at every call to the file system, all draws
	FORETELL_CRASH_STRIDE=1 FORETELL_CRASH_SEEDS=8 $(CARGO) test $(FLAGS) --test engine -- --nocapture crash:: faults::

sim: setup ## seeded simulation of a store against a model (SEEDS=10000)
	FORETELL_SIM_SEEDS=$(SEEDS) $(CARGO) test $(FLAGS) --test engine -- --nocapture sim::

bitrot: setup ## one flipped bit at a time in every file of a store (FLIPS=10000)
	FORETELL_BITROT_FLIPS=$(FLIPS) $(CARGO) test $(FLAGS) --test engine -- --nocapture bitrot::

fuzz: setup ## decoders of everything stored, and the guard of the PromQL parser, against mutated bytes (FUZZ=60 seconds each)
	FUZZ_SECONDS=$(FUZZ) $(CARGO) test $(FLAGS) --lib -- --nocapture --test-threads 2 fuzz::

year: setup ## a year of 1,000 series, late rows, overwrites and deletes against a brute-force model (SEED=1)
	FORETELL_YEAR=full FORETELL_YEAR_SEED=$(SEED) $(CARGO) test $(FLAGS) --test engine -- --nocapture year::a_year

metamorphic: setup ## random SQL over the same rows, stored in random ways, against brute force (QUESTIONS=10000 SEED=1)
	FORETELL_METAMORPHIC=$(QUESTIONS) FORETELL_METAMORPHIC_SEED=$(SEED) \
		$(CARGO) test $(FLAGS) --test query -- --nocapture metamorphic::the_same

recovery: build ## a killed server with a log of WAL_MIB=1024: time to ready, memory, first query
	$(BIN)/bench recovery --wal-mib $(WAL_MIB)

abuse: build ## 2,000,000 series and heavy queries offered to a server of 512 MiB; fails when it exceeds that (SERIES=)
	$(BIN)/bench abuse --series $(SERIES)

abuse-short:
	@$(MAKE) --no-print-directory abuse SERIES=300000

bench: build ## every benchmark; figures go to benches/results/
	$(BIN)/bench all

$(ML_VENV)/bin/python:
	.ci/setup clients
	python3 -m venv $(ML_VENV)
	$(ML_VENV)/bin/pip install --quiet numpy==2.4.6 statsforecast==2.1.1 river==0.26.1 scikit-learn==1.9.1 || { rm -rf $(ML_VENV); exit 1; }

bench-ml: build $(ML_VENV)/bin/python ## forecasts, change points, detection through SQL: accuracy, speed, beside Python's libraries (DATA= SCORE= ML="accuracy detect detect-speed")
	@failed=0; for part in $(ML); do \
		$(BIN)/bench $$part --data $(DATA) --score $(SCORE) --python $(ML_VENV)/bin/python --libraries || failed=1; \
	done; exit $$failed

$(EVENTS_VENV)/bin/python:
	.ci/setup clients
	python3 -m venv $(EVENTS_VENV)
	$(EVENTS_VENV)/bin/pip install --quiet chdb==4.4.0 duckdb==2.0.1 || { rm -rf $(EVENTS_VENV); exit 1; }

bench-logs: build $(EVENTS_VENV)/bin/python ## log lines over OTLP beside ClickHouse and DuckDB: rate, size, searches (ROWS=10000000)
	$(BIN)/bench logs --rows $(ROWS) --python $(EVENTS_VENV)/bin/python

bench-traces: build $(EVENTS_VENV)/bin/python ## spans over OTLP beside ClickHouse and DuckDB: rate, size, a trace, searches (ROWS=10000000)
	$(BIN)/bench traces --rows $(ROWS) --python $(EVENTS_VENV)/bin/python

churn: build ## a day in which a tenth of the series is replaced every ten minutes: memory and index stay bounded
	$(BIN)/bench churn

deny: ## licences and sources of the dependency tree
	@command -v cargo-deny >/dev/null || { echo "deny: installing cargo-deny from the package registry"; $(CARGO) install --locked cargo-deny; }
	$(CARGO) deny --locked check licenses bans sources

clean: ## remove what cargo built
	$(CARGO) clean
