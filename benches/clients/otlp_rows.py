"""What OpenTelemetry's requests must look like in the tables, by docs/otlp.md and docs/logs.md."""
import json
import re

from otlp import flushed
from server import instant
from values import content, nested, read_attributes, sent_attributes, text, texts

KINDS = {0: None, 1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
STATUSES = {0: None, 1: "ok", 2: "error"}
# metric, as it was created: name of its series, by the rule of Prometheus 3
SERIES = {
    "shop.orders": "shop_orders_total",
    "shop.carts.open": "shop_carts_open",
    "shop.latency": "shop_latency_seconds",
    "shop.size": "shop_size_bytes",
    "shop.temperature": "shop_temperature_celsius",
    "shop.cpu.time": "shop_cpu_time_seconds_total",
}
PROMOTED = ("service.name", "service.namespace", "service.instance.id", "service.version")
IDENTITY = ("service.name", "service.namespace", "service.instance.id")
SCHEMA_MAX = 8


def of(attributes, key):
    """A text among attributes."""
    return next((text(pair.value) for pair in attributes if pair.key == key), None)


def of_scope(scope):
    """What the attributes of a row tell of its scope; the name of a line's has a column."""
    told = {"otel.scope.version": ["text", scope.version]} if scope.version else {}
    return {**told, **{f"otel.scope.{key}": value for key, value in sent_attributes(scope.attributes).items()}}


def compare_logs(checks, server, sent):
    """Lines."""
    rows = []
    for resource, scope, log in flushed(sent.logs, "resource_logs", "scope_logs", "log_records"):
        is_text = log.body.WhichOneof("value") == "string_value"
        rows.append(
            {
                "ts": instant(log.time_unix_nano or log.observed_time_unix_nano),
                "observed_ts": instant(log.observed_time_unix_nano),
                "service": of(resource, "service.name"),
                "severity": log.severity_text or None,
                "severity_number": log.severity_number or None,
                "body": log.body.string_value if is_text else json.dumps(nested(log.body), sort_keys=True),
                "trace_id": log.trace_id.hex() or None,
                "span_id": log.span_id.hex() or None,
                "attributes": {**of_scope(scope), **sent_attributes(log.attributes)},
                "resource": texts(resource),
                "scope": scope.name,
            }
        )
    found = server.sql(
        "SELECT ts, observed_ts, service, severity, severity_number, body, trace_id, span_id, attributes, attribute_types, "
        f"resource, scope FROM logs WHERE service = '{sent.service}'"
    )
    for row in found:
        row["attributes"] = read_attributes(row["attributes"], row.pop("attribute_types"))
        # a body that is no text is JSON, spaced as it may be; these lines say of themselves what they are
        body = content("json", row["body"] or "") if "body" in row["attributes"] else row["body"]
        row["body"] = body if isinstance(body, str) else json.dumps(body, sort_keys=True)
        row["severity"], row["severity_number"] = row["severity"] or None, row["severity_number"] or None
    checks.compare(f"{sent.service}: logs", rows, found)


def compare_spans(checks, server, sent):
    """Spans, their events and links; and one trace as Jaeger shows it."""
    rows, traces = [], {}
    for resource, scope, span in flushed(sent.spans, "resource_spans", "scope_spans", "spans"):
        events = [
            {"ts": instant(event.time_unix_nano), "name": event.name, "attributes": texts(event.attributes)}
            for event in span.events
        ]
        links = [
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "trace_state": link.trace_state,
                "attributes": texts(link.attributes),
            }
            for link in span.links
        ]
        traces.setdefault(span.trace_id.hex(), []).append(span)
        rows.append(
            {
                "ts": instant(span.start_time_unix_nano),
                "duration": span.end_time_unix_nano - span.start_time_unix_nano,
                "trace_id": span.trace_id.hex(),
                "span_id": span.span_id.hex(),
                "parent_span_id": span.parent_span_id.hex() or None,
                "service": of(resource, "service.name"),
                "name": span.name,
                "kind": KINDS[span.kind],
                "status": STATUSES[span.status.code],
                "status_message": span.status.message or None,
                "attributes": {
                    "otel.scope.name": ["text", scope.name],
                    **of_scope(scope),
                    **sent_attributes(span.attributes),
                },
                "resource": texts(resource),
                "events": events or None,
                "links": links or None,
            }
        )
    found = server.sql(
        "SELECT ts, duration, trace_id, span_id, parent_span_id, service, name, kind, status, status_message, attributes, "
        f"attribute_types, resource, events, links FROM spans WHERE service = '{sent.service}'"
    )
    for row in found:
        row["attributes"] = read_attributes(row["attributes"], row.pop("attribute_types"))
        row["status_message"] = row["status_message"] or None
    checks.compare(f"{sent.service}: spans", rows, found)

    trace_id, spans = next((trace_id, spans) for trace_id, spans in traces.items() if len(spans) > 1)
    [shown] = json.loads(server.get(f"/api/traces/{trace_id}"))["data"]
    sent_rows = [
        {
            "spanID": span.span_id.hex(),
            "operationName": span.name,
            "startTime": span.start_time_unix_nano // 1000,
            "parents": [span.parent_span_id.hex()] if span.parent_span_id else [],
        }
        for span in spans
    ]
    found = [
        {
            "spanID": span["spanID"],
            "operationName": span["operationName"],
            "startTime": span["startTime"],
            "parents": [of["spanID"] for of in span["references"] if of["refType"] == "CHILD_OF"],
        }
        for span in shown["spans"]
    ]
    checks.compare(f"{sent.service}: a trace by Jaeger's API", sent_rows, found)


def label(name):
    """An attribute's name as that of a label."""
    return re.sub("[^a-zA-Z0-9_]", "_", name)


def number(value):
    """A border as Prometheus writes it."""
    return f"{value:.17g}" if value != int(value) else str(int(value))


class Metrics:
    """Samples, histograms and exemplars that a request stands for."""

    def __init__(self, requests):
        self.samples, self.histograms, self.exemplars = [], [], []
        for request in requests:
            for group in request.resource_metrics:
                self.resource(group)

    def resource(self, group):
        """All of one resource."""
        attributes = group.resource.attributes
        identity = {
            "job": f"{of(attributes, 'service.namespace')}/{of(attributes, 'service.name')}",
            "instance": of(attributes, "service.instance.id"),
        }
        promoted = {label(pair.key): text(pair.value) for pair in attributes if pair.key in PROMOTED}
        last = 0
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points:
                    own = {label(pair.key): text(pair.value) for pair in point.attributes}
                    self.point(SERIES[metric.name], kind, point, {**promoted, **own, **identity})
                    last = max(last, point.time_unix_nano)
        info = {label(pair.key): text(pair.value) for pair in attributes if pair.key not in IDENTITY}
        self.sample("target_info", {**info, **identity}, last, 1.0)

    def point(self, name, kind, point, labels):
        """One data point."""
        ts = point.time_unix_nano
        exemplars = [(exemplar, name, labels) for exemplar in point.exemplars]
        if kind in ("gauge", "sum"):
            self.sample(name, labels, ts, getattr(point, point.WhichOneof("value")))
        elif kind == "histogram":
            self.sample(f"{name}_count", labels, ts, point.count)
            self.sample(f"{name}_sum", labels, ts, point.sum)
            total, bounds = 0, list(point.explicit_bounds)
            for count, bound in zip(point.bucket_counts, bounds + [float("inf")]):
                total += count
                le = "+Inf" if bound == float("inf") else number(bound)
                self.sample(f"{name}_bucket", {**labels, "le": le}, ts, total)
            exemplars = []
            for exemplar in point.exemplars:
                bound = next((bound for bound in bounds if exemplar.as_double <= bound), None)
                le = "+Inf" if bound is None else number(bound)
                exemplars.append((exemplar, f"{name}_bucket", {**labels, "le": le}))
        else:
            self.native(name, labels, ts, point)
        for exemplar, of_metric, of_labels in exemplars:
            row = {
                "ts": instant(exemplar.time_unix_nano),
                "metric": of_metric,
                "labels": of_labels,
                "value": float(getattr(exemplar, exemplar.WhichOneof("value"))),
                "exemplar_labels": {
                    **{label(pair.key): text(pair.value) for pair in exemplar.filtered_attributes},
                    "trace_id": exemplar.trace_id.hex(),
                    "span_id": exemplar.span_id.hex(),
                },
            }
            # one that a later request repeats is one
            if row not in self.exemplars:
                self.exemplars.append(row)

    def native(self, name, labels, ts, point):
        """An exponential histogram: neighbours are merged until the scale is one that native histograms have."""
        shift = max(0, point.scale - SCHEMA_MAX)
        counts = {}
        for i, count in enumerate(point.positive.bucket_counts):
            index = (point.positive.offset + i) >> shift
            counts[index] = counts.get(index, 0) + count
        base = 2.0 ** (2.0 ** -(point.scale - shift))
        self.histograms.append(
            {
                "ts": instant(ts // 10**6 * 10**6),
                "metric": name,
                "labels": labels,
                "count": float(point.count),
                "sum": point.sum,
                "schema": point.scale - shift,
                "zero_count": float(point.zero_count),
                "buckets": [bucket(base**i, base ** (i + 1), count) for i, count in sorted(counts.items()) if count],
            }
        )

    def sample(self, metric, labels, ts, value):
        """One sample."""
        self.samples.append({"ts": instant(ts), "metric": metric, "labels": labels, "value": float(value)})


def bucket(lo, hi, count):
    """A bucket; borders are computed, so their last digits do not count."""
    return [f"{lo:.9g}", f"{hi:.9g}", float(count)]


def compare_metrics(checks, server, sent):
    """Samples by SQL and by PromQL, native histograms, exemplars."""
    metrics = Metrics(sent.metrics)
    job = f"shop/{sent.service}"
    where = f"WHERE labels['job'] = '{job}'"
    found = server.sql(f"SELECT ts, metric, labels, value FROM samples {where}")
    checks.compare(f"{sent.service}: samples", metrics.samples, [{**row, "value": float(row["value"])} for row in found])
    found = server.sql(
        f"SELECT ts, metric, labels, count, sum, schema, zero_count, buckets FROM histograms {where}"
    )
    for row in found:
        for key in ("count", "sum", "zero_count"):
            row[key] = float(row[key])
        # the one around zero has its own column
        shown = [b for b in row["buckets"] if b["lo"] > 1e-100 and b["count"] > 0]
        row["buckets"] = [bucket(b["lo"], b["hi"], b["count"]) for b in shown]
        row["ts"] = row["ts"][:-7] + "000000Z"
    checks.compare(f"{sent.service}: native histograms", metrics.histograms, found)
    found = server.sql(f"SELECT ts, metric, labels, value, exemplar_labels FROM exemplars {where}")
    checks.compare(
        f"{sent.service}: exemplars", metrics.exemplars, [{**row, "value": float(row["value"])} for row in found]
    )

    rows = {}
    for row in sorted(metrics.samples, key=lambda row: row["ts"]):
        labels = {**row["labels"], "__name__": row["metric"]}
        # PromQL's instants are milliseconds
        ms = f"{row['ts'][:-7]}000000Z"
        rows[json.dumps(labels, sort_keys=True), ms] = {"labels": labels, "ts": ms, "value": row["value"]}
    matrix = server.json("/api/v1/query", {"query": f'{{__name__!="shop_size_bytes",job="{job}"}}[1d]'})["result"]
    found = [
        {"labels": row["metric"], "ts": instant(round(at * 1000) * 10**6), "value": float(value)}
        for row in matrix
        for at, value in row["values"]
    ]
    checks.compare(f"{sent.service}: samples by PromQL", list(rows.values()), found)
    last = max(metrics.histograms, key=lambda row: row["ts"])
    for function, value in (("histogram_count", last["count"]), ("histogram_sum", last["sum"])):
        vector = server.json("/api/v1/query", {"query": f'{function}(shop_size_bytes{{job="{job}"}})'})["result"]
        checks.equal(f"{sent.service}: {function}", [value], [float(row["value"][1]) for row in vector])


def compare(checks, server, sent):
    """All that a route has sent."""
    compare_logs(checks, server, sent)
    compare_spans(checks, server, sent)
    compare_metrics(checks, server, sent)
