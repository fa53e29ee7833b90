"""Clients of Loki: handlers of Python's logging that push JSON, plain and with gzip, with structured metadata.

What counts as sent is the body of each request that got its 204.
"""
import gzip
import json
import logging
import time

from logging_loki import LokiHandler
from loki_logger_handler.loki_logger_handler import LokiLoggerHandler

from server import Failed, instant

PUSH = "/loki/api/v1/push"
SEVERITIES = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}
APPS = ("clients-plain", "clients-gzip")
FLUSH_SECONDS = 30


def keep(sent):
    """A hook of requests that adds what was stored to `sent`."""

    def hook(response, *_args, **_kwargs):
        if response.status_code != 204:
            raise Failed(f"{response.url}: {response.status_code} {response.text}")
        body = response.request.body
        if response.request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        sent.extend(json.loads(body)["streams"])

    return hook


def send(urls, events):
    """Sends lines by both clients; the streams that were sent."""
    sent = []
    log = logging.getLogger("clients.loki")
    log.setLevel(logging.DEBUG)
    log.propagate = False

    plain = LokiHandler(url=urls["http"] + PUSH, tags={"app": "clients-plain", "host": "a \"b\" \\ ü"}, version="1")
    plain.emitter.session.hooks["response"].append(keep(sent))
    log.addHandler(plain)
    # this one sends each line by itself
    for i in range(min(events, 200)):
        log.log((i % 5 + 1) * 10, "plain line %d: Größe {\"a\": %d}\nsecond line", i, i, extra={"tags": {"shard": str(i % 3)}})
    log.removeHandler(plain)
    # a handler of Python's logging swallows errors
    if len(list(lines(sent, "clients-plain"))) != min(events, 200):
        raise Failed("python-logging-loki has not sent everything")

    zipped = LokiLoggerHandler(
        url=urls["http"] + PUSH,
        labels={"app": "clients-gzip", "host": "h2"},
        label_keys=["level"],
        message_in_json_format=True,
        enable_structured_loki_metadata=True,
        loki_metadata={"region": "eu"},
        loki_metadata_keys=["thread"],
        timeout=1,
        compressed=True,
    )
    zipped.request.session.hooks["response"].append(keep(sent))
    log.addHandler(zipped)
    for i in range(events):
        metadata = {"trace_id": f"{i + 1:032x}", "span_id": f"{i + 1:016x}", "order": i, "share": i / 4}
        log.log((i % 5 + 1) * 10, "gzip line %d", i, extra={"loki_metadata": metadata if i % 2 else {}})
    log.removeHandler(zipped)
    zipped.flush_event.set()
    until = time.monotonic() + FLUSH_SECONDS
    while len(list(lines(sent, "clients-gzip"))) < events:
        if zipped.error or time.monotonic() > until:
            raise Failed("loki-logger-handler has not sent everything")
        time.sleep(0.02)
    return sent


def lines(sent, app):
    """(labels, time, line, metadata) of what was sent."""
    for stream in sent:
        if stream["stream"]["app"] == app:
            for ts, line, *metadata in stream["values"]:
                yield stream["stream"], int(ts), line, metadata[0] if metadata else {}


def compare(checks, server, sent):
    """Lines by SQL and as Loki shows them; labels, their values, streams."""
    for app in APPS:
        rows, shown = [], []
        for labels, ts, line, metadata in lines(sent, app):
            level = next(labels[name] for name in ("level", "severity") if name in labels)
            ids = {name: metadata.get(name) for name in ("trace_id", "span_id")}
            others = {name: ["text", value] for name, value in metadata.items() if name not in ids}
            rows.append(
                {
                    "ts": instant(ts),
                    "service": app,
                    "severity": level,
                    "severity_number": SEVERITIES[level.lower()],
                    "body": line,
                    **ids,
                    "attributes": others,
                    "resource": labels,
                }
            )
            shown.append({"ts": str(ts), "line": line, "labels": {**labels, **metadata}})
        found = server.sql(
            "SELECT ts, service, severity, severity_number, body, trace_id, span_id, attributes, attribute_types, resource "
            f"FROM logs WHERE service = '{app}'"
        )
        for row in found:
            types = row.pop("attribute_types")
            row["attributes"] = {name: [types.get(name, "text"), value] for name, value in row["attributes"].items()}
        checks.compare(f"{app}: lines", rows, found)
        checks.compare(f"{app}: lines as Loki shows them", shown, query(server, app, shown))

    hour = {"start": time.time_ns() - 3600 * 10**9, "end": time.time_ns() + 60 * 10**9}
    streams = {json.dumps(stream["stream"], sort_keys=True) for stream in sent}
    found = server.json("/loki/api/v1/series", {"match[]": '{app=~"clients-(plain|gzip)"}', **hour})
    checks.compare("streams as Loki shows them", [json.loads(stream) for stream in streams], found)
    for name in ("shard", "level"):
        values = {stream["stream"][name] for stream in sent if name in stream["stream"]}
        found = server.json(f"/loki/api/v1/label/{name}/values", {"query": '{app=~"clients-(plain|gzip)"}', **hour})
        checks.equal(f"values of the label {name}", sorted(values), sorted(found))
    names = {name for stream in sent for name in stream["stream"]}
    found = server.json("/loki/api/v1/labels", {"query": '{app=~"clients-(plain|gzip)"}', **hour})
    checks.equal("names of labels", sorted(names), sorted(found))


def query(server, app, shown):
    """The lines of `app`, page by page."""
    found, page = [], 1000
    start, end = min(int(row["ts"]) for row in shown), max(int(row["ts"]) for row in shown) + 1
    while True:
        params = {"query": f'{{app="{app}"}} |= "line"', "start": start, "end": end, "limit": page}
        result = server.json("/loki/api/v1/query_range", {**params, "direction": "forward"})["result"]
        rows = [
            {"ts": ts, "line": line, "labels": {k: v for k, v in stream["stream"].items() if k != "detected_level"}}
            for stream in result
            for ts, line, *_ in stream["values"]
        ]
        if len(rows) < page:
            return found + rows
        # the last instant may go on: it is asked for again
        last = max(int(row["ts"]) for row in rows)
        if last == start:
            raise Failed(f"a page of lines of one instant: {last}")
        found += [row for row in rows if int(row["ts"]) < last]
        start = last
