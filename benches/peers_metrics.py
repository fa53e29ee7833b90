"""Answers SQL with DuckDB for `bench metrics`: a statement as JSON text in each line of input, an answer as JSON in a line of output.

usage: peers_metrics.py THREADS
The first line says the version. An answer has rows, and ms: the time until all rows are there as values of Python. A column called t holds
nanoseconds since 1970 and is answered as an instant in RFC 3339. A statement that fails is answered with error.
"""
import json
import sys
import time

import duckdb


def rfc3339(nanoseconds):
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09}Z"


def answer(store, statement):
    begun = time.perf_counter()
    rows = store.execute(statement).fetchall()
    milliseconds = (time.perf_counter() - begun) * 1e3
    instants = {at for at, column in enumerate(store.description or []) if column[0] == "t"}
    rows = [[rfc3339(value) if at in instants else value for at, value in enumerate(row)] for row in rows]
    return {"ms": milliseconds, "rows": rows}


def main():
    store = duckdb.connect()
    store.execute(f"SET threads = {int(sys.argv[1])}")
    print(json.dumps({"version": duckdb.__version__}), flush=True)
    for line in sys.stdin:
        try:
            said = answer(store, json.loads(line))
        except duckdb.Error as error:
            said = {"error": str(error)}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
