"""The traces and lines of Nezha, a real system of 28 services, in two real servers: asked for, and compared with the files.

    nezha.py --server target/release/foretell --data ../shared/data/nezha [--seed 1]

One server is loaded by the commands of docs/import-export.md, the other by OTLP. Both are killed when all is acknowledged, and
started again. Then rows, traces, searches of Jaeger's API and words in lines are compared with loops over the files themselves.
Prints a table of what was compared; ends with 1 when something differs. Each comparison has its canary: one changed and one
lost row, which it must find.
"""
import argparse
import collections
import hashlib
import pathlib
import random
import re
import signal
import sys
import tempfile
import time

import nezha_search
import nezha_send
import nezha_traces
import nezha_words
from checks import Checks, canonical, difference, falsified
from nezha_rows import Data, unpack
from server import Failed, Server, instant

ROUTES = ("import", "otlp")
MINUTE = 60 * 10**9
COLUMNS = {
    "spans": "ts, duration, trace_id, span_id, parent_span_id, service, name, kind, status, attributes, resource",
    "logs": "ts, service, severity, severity_number, body, trace_id, span_id, attributes, resource",
}


def main():
    """Runs it; the code to end with."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--server", required=True, metavar="FILE", help="the foretell binary")
    arguments.add_argument("--data", required=True, metavar="DIR", help="the folder of Nezha")
    arguments.add_argument("--seed", type=int, default=1, help="of what is asked")
    arguments.add_argument("--traces", type=int, default=50, help="traces that are looked at one by one")
    arguments.add_argument("--searches", type=int, default=30, help="searches of Jaeger's API")
    arguments.add_argument("--words", type=int, default=20, help="rare words; half as many ids")
    options = arguments.parse_args()
    # ended by a signal, it still ends the servers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="foretell-nezha-") as directory:
        directory, servers = pathlib.Path(directory), {}
        try:
            failed = run(options, directory, servers)
        except Failed as error:
            print(f"nezha: {error}", file=sys.stderr)
            for name, server in servers.items():
                print(f"nezha: log of the server loaded by {name}:\n{server.log()}", file=sys.stderr)
            failed = 1
        finally:
            for server in servers.values():
                server.kill()
    print(f"nezha: seed {options.seed}, {time.monotonic() - started:.1f} s")
    return 1 if failed else 0


def run(options, directory, servers):
    """Number of comparisons that failed."""
    unpack(options.data, directory)
    data, checks = Data(directory), Checks()
    index = nezha_words.Index(data.lines)
    compare_figures(checks, data)
    for name in ROUTES:
        (directory / name).mkdir()
        servers[name] = Server(options.server, directory / name)
        servers[name].start()
        load(checks, servers[name], data, name)
        # all was acknowledged, so all must be there
        servers[name].kill()
    for name, server in servers.items():
        server.start()
        compare_rows(checks, server, name, "spans", data.spans, lambda span: span.start)
        compare_rows(checks, server, name, "logs", data.lines, lambda line: line.ts)
        # the same questions to both
        rng = random.Random(options.seed)
        nezha_traces.compare(checks, server, data, name, nezha_traces.choose(data, rng, options.traces))
        nezha_search.compare(checks, server, data, name, rng, options.searches)
        nezha_words.compare(checks, server, data, name, index, rng, options.words)
        server.kill()
    return checks.report("nezha")


def figures(data):
    """The sentence of the documentation with the figures of the files."""
    total = len(data.all_lines) + data.left_out["log"]
    return (
        f"{len(data.all_spans):,} spans and {len(data.all_lines):,} of {total:,} lines are sent, "
        f"and {len(data.spans):,} and {len(data.lines):,} different ones stored"
    )


def compare_figures(checks, data):
    """What the documentation says."""
    said = re.search(r"[\d,]+ spans and .*? different ones stored", " ".join(nezha_send.section().split()))
    checks.equal("figures of docs/import-export.md", figures(data), said and said.group(0))


def load(checks, server, data, name):
    """Sends all, by one route."""
    for what, rows, kind in (("spans", data.all_spans, "trace"), ("logs", data.all_lines, "log")):
        if name == "import":
            sent, left_out, seconds = nezha_send.by_import(server, what, data.directory)
            checks.equal(f"{name}: {what} left out", data.left_out[kind], left_out)
        else:
            sent, seconds = nezha_send.by_otlp(server, what, rows)
        checks.equal(f"{name}: {what} acknowledged", len(rows), sent)
        print(f"nezha: {name}: {sent} {what} in {seconds:.1f} s, {sent / seconds:.0f} a second")


def compare_rows(checks, server, name, table, rows, time_of):
    """Counts, and all rows, minute by minute."""
    [row] = server.sql(f"SELECT count(*) AS n FROM {table}")
    checks.equal(f"{name}: {table}, count(*)", len(rows), row["n"])
    counts = collections.Counter(row.service for row in rows)
    found = server.sql(f"SELECT service, count(*) AS n FROM {table} GROUP BY service")
    checks.compare(f"{name}: {table} by service", [{"service": service, "n": n} for service, n in counts.items()], found)
    minutes = collections.defaultdict(list)
    for row in rows:
        minutes[time_of(row) // MINUTE].append(row)
    sent, found = [], []
    for minute, rows_of in sorted(minutes.items()):
        since, until = instant(minute * MINUTE), instant((minute + 1) * MINUTE)
        there = server.sql(f"SELECT {COLUMNS[table]} FROM {table} WHERE ts >= '{since}' AND ts < '{until}'")
        ours = [row.row() for row in rows_of]
        sent.append({"minute": since, "rows": len(ours), "sha256": digest(ours)})
        found.append({"minute": since, "rows": len(there), "sha256": digest(there)})
        if sent[-1] != found[-1]:
            missing, surplus = difference(ours, there)
            print(f"{name}: {table}: {since}: {len(missing)} missing {missing[:2]}, {len(surplus)} not sent {surplus[:2]}")
        if len(sent) == 1 and digest(ours) in (digest(falsified(ours)), digest(ours[1:])):
            raise Failed("the canary was not found: a changed or a lost row counts as equal")
    checks.compare(f"{name}: {table}, each minute's rows by checksum", sent, found)


def digest(rows):
    """A checksum of rows in any order."""
    return hashlib.sha256("\n".join(sorted(map(canonical, rows))).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
