"""Loads rows of NDJSON into ClickHouse (chdb) and DuckDB, weighs them, and asks both the questions of `bench logs` and `bench traces`.

usage: peers_events.py logs|traces ROWS.ndjson DIR REPEATS NAME=NEEDLE ...
Prints JSON: for each peer version, load_seconds, bytes, and for each question answer and p50_ms.
"""
import json
import os
import statistics
import sys
import time

import chdb
import duckdb
from chdb import session

COLUMNS = {
    "logs": "ts Int64, service LowCardinality(String), host LowCardinality(String), severity LowCardinality(String), body String, "
    "trace_id String, span_id String, attributes Map(LowCardinality(String), String), "
    "INDEX words body TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 1, INDEX ids trace_id TYPE bloom_filter(0.001) GRANULARITY 1",
    "traces": "ts Int64, duration Int64, trace_id String, span_id String, parent_span_id String, service LowCardinality(String), "
    "name LowCardinality(String), kind LowCardinality(String), status LowCardinality(String), "
    "attributes Map(LowCardinality(String), String), INDEX ids trace_id TYPE bloom_filter(0.001) GRANULARITY 1, "
    "INDEX attribute_values mapValues(attributes) TYPE bloom_filter(0.01) GRANULARITY 1",
}
DUCKDB = {
    "logs": "{ts: 'BIGINT', service: 'VARCHAR', host: 'VARCHAR', severity: 'VARCHAR', body: 'VARCHAR', trace_id: 'VARCHAR', "
    "span_id: 'VARCHAR', attributes: 'MAP(VARCHAR, VARCHAR)'}",
    "traces": "{ts: 'BIGINT', duration: 'BIGINT', trace_id: 'VARCHAR', span_id: 'VARCHAR', parent_span_id: 'VARCHAR', "
    "service: 'VARCHAR', name: 'VARCHAR', kind: 'VARCHAR', status: 'VARCHAR', attributes: 'MAP(VARCHAR, VARCHAR)'}",
}
# Each question: the statement of ClickHouse, of DuckDB, and what of the answer is compared: rows, the first number, or the sum of the
# last column.
QUESTIONS = {
    "rare_word": ("SELECT ts, service, body FROM rows WHERE hasToken(body, '{}')",
                  "SELECT ts, service, body FROM rows WHERE contains(body, '{}')", "rows"),
    "common_word": ("SELECT count() FROM rows WHERE hasToken(body, '{}')",
                    "SELECT count(*) FROM rows WHERE contains(body, '{}')", "number"),
    "per_minute": ("SELECT intDiv(ts, 60000000000) AS minute, severity, count() FROM rows GROUP BY 1, 2",
                   "SELECT ts // 60000000000 AS minute, severity, count(*) FROM rows GROUP BY 1, 2", "sum"),
    "trace": ("SELECT * FROM rows WHERE trace_id = '{}'", "SELECT * FROM rows WHERE trace_id = '{}'", "rows"),
    "attribute": ("SELECT trace_id, name FROM rows WHERE attributes['user.id'] = '{0}' AND has(mapValues(attributes), '{0}')",
                  "SELECT trace_id, name FROM rows WHERE attributes['user.id'] = '{0}'", "rows"),
    "errors": ("SELECT count() FROM rows WHERE status = 'error'", "SELECT count(*) FROM rows WHERE status = 'error'", "number"),
    "p99": ("SELECT service, quantile(0.99)(duration), count() FROM rows GROUP BY 1",
            "SELECT service, approx_quantile(duration, 0.99), count(*) FROM rows GROUP BY 1", "sum"),
}


def compared(rows, how):
    if how == "rows":
        return len(rows)
    return int(rows[0][0]) if how == "number" else sum(int(row[-1]) for row in rows)


def ask(questions, repeats, which, run):
    answers = {}
    for name, needle in questions:
        statement, how = QUESTIONS[name][which].replace("{0}", needle).replace("{}", needle), QUESTIONS[name][2]
        times = []
        for _ in range(repeats + 1):
            begun = time.perf_counter()
            rows = run(statement)
            times.append((time.perf_counter() - begun) * 1e3)
        answers[name] = {"answer": compared(rows, how), "first_ms": times[0], "p50_ms": statistics.median(times[1:] or times)}
    return answers


def clickhouse(kind, source, folder, questions, repeats):
    path = os.path.join(folder, "clickhouse")
    store = session.Session(path)
    store.query("CREATE DATABASE bench ENGINE = Atomic")
    store.query("USE bench")
    order = "service, ts" if kind == "logs" else "service, name, ts"
    # sorted, and with indexes, as ClickHouse's own schema for OpenTelemetry
    store.query(f"CREATE TABLE rows ({COLUMNS[kind]}) ENGINE = MergeTree ORDER BY ({order})")
    begun = time.perf_counter()
    store.query(f"INSERT INTO rows FROM INFILE '{source}' SETTINGS input_format_null_as_default = 1 FORMAT JSONEachRow")
    seconds = time.perf_counter() - begun
    store.query("OPTIMIZE TABLE rows FINAL")
    size = store.query(
        "SELECT sum(bytes_on_disk) FROM system.parts WHERE database = 'bench' AND table = 'rows' AND active", "JSONCompact")
    run = lambda statement: json.loads(store.query(statement, "JSONCompact").bytes())["data"]
    return {
        "version": run("SELECT version()")[0][0] + f", chdb {chdb.__version__}",
        "load_seconds": seconds,
        "bytes": int(json.loads(size.bytes())["data"][0][0]),
        "questions": ask(questions, repeats, 0, run),
    }


def duck(kind, source, folder, questions, repeats):
    path = os.path.join(folder, "rows.duckdb")
    store = duckdb.connect(path)
    begun = time.perf_counter()
    store.execute(f"CREATE TABLE rows AS SELECT * FROM read_json('{source}', format = 'newline_delimited', columns = {DUCKDB[kind]})")
    store.execute("CHECKPOINT")
    seconds = time.perf_counter() - begun
    run = lambda statement: store.execute(statement).fetchall()
    answers = ask(questions, repeats, 1, run)
    store.close()
    return {"version": duckdb.__version__, "load_seconds": seconds, "bytes": os.path.getsize(path), "questions": answers}


def main():
    kind, source, folder, repeats = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    questions = [tuple(argument.split("=", 1)) for argument in sys.argv[5:]]
    result = {"duckdb": duck(kind, source, folder, questions, repeats)}
    result["clickhouse"] = clickhouse(kind, source, folder, questions, repeats)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
