"""OpenTelemetry's Python SDK: logs, spans and metrics over gRPC and HTTP.

What counts as sent is what the exporters encode: each is wrapped, and keeps the protobuf of every request.
"""
import logging
import time
import warnings

import grpc
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from server import Failed

ROUTES = ("grpc", "grpc-gzip", "http", "http-gzip")
# each type that an attribute may have, and its borders
ATTRIBUTES = {
    "text": "a \"quoted\" text, größer, 日本語, \\ and \n",
    "empty": "",
    "number.like": "42",
    "integer": 42,
    "integer.least": -(2**63),
    "integer.most": 2**63 - 1,
    "double": 0.1,
    "double.whole": 2.0,
    "double.small": 5e-324,
    "double.large": 1.7976931348623157e308,
    "true": True,
    "false": False,
    "texts": ["a", "b,c", ""],
    "integers": [1, -2, 3],
    "doubles": [0.5, 1e300],
    "booleans": [True, False],
}
# logs may have more
NESTED = {"map": {"a": {"b": [1, "x", True, 0.25]}, "c": None}, "bytes": b"\x00\xff\x10"}


class Sent:
    """Requests of one route."""

    def __init__(self, route):
        self.service = f"clients-{route}"
        self.logs, self.spans, self.metrics = [], [], []


def recording(base, encode, sent):
    """`base`, an exporter, that keeps what it sends and takes no failure."""

    class Recording(base):
        def export(self, batch, *args, **kwargs):
            sent.append(encode(batch))
            result = super().export(batch, *args, **kwargs)
            if result.name != "SUCCESS":
                raise Failed(f"{base.__module__}: {result}")
            return result

    return Recording


def exporters(route, urls, sent):
    """Exporters of logs, spans and metrics by `route`."""
    options = {}
    if route.startswith("grpc"):
        classes, paths = (GrpcLogs, GrpcSpans, GrpcMetrics), ("", "", "")
        options["insecure"] = True
        base = urls["grpc"]
        if route.endswith("gzip"):
            options["compression"] = grpc.Compression.Gzip
    else:
        classes, paths = (HttpLogs, HttpSpans, HttpMetrics), ("/v1/logs", "/v1/traces", "/v1/metrics")
        # both ports take it
        base = urls["http"] if route.endswith("gzip") else urls["otlp/http"]
        if route.endswith("gzip"):
            options["compression"] = Compression.Gzip
    encoders = (encode_logs, encode_spans, encode_metrics)
    kept = (sent.logs, sent.spans, sent.metrics)
    return [
        recording(exporter, encode, keep)(endpoint=base + path, **options)
        for exporter, encode, keep, path in zip(classes, encoders, kept, paths)
    ]


def resource(service):
    """What the process says of itself."""
    return Resource.create(
        {
            "service.name": service,
            "service.namespace": "shop",
            "service.instance.id": "instance-1",
            "host.name": "host-a",
            "process.pid": 4242,
            "container.ready": True,
        }
    )


def send(route, urls, events):
    """Sends `events` lines and spans, and metrics; what was sent."""
    sent = Sent(route)
    to_logs, to_spans, to_metrics = exporters(route, urls, sent)
    source = resource(sent.service)
    queue = {"max_queue_size": max(2048, 4 * events), "schedule_delay_millis": 10**6, "max_export_batch_size": 512}
    loggers = LoggerProvider(resource=source)
    loggers.add_log_record_processor(BatchLogRecordProcessor(to_logs, **queue))
    tracers = TracerProvider(resource=source)
    tracers.add_span_processor(BatchSpanProcessor(to_spans, **queue))
    meters = MeterProvider(
        metric_readers=[PeriodicExportingMetricReader(to_metrics, export_interval_millis=10**8)],
        resource=source,
        views=[View(instrument_name="shop.size", aggregation=ExponentialBucketHistogramAggregation())],
    )
    logger, tracer = loggers.get_logger("clients.logs", "1.0"), tracers.get_tracer("clients.spans")
    spans(tracer, logger, events)
    lines(loggers, logger, events)
    measure(meters.get_meter("clients.metrics"), tracer)
    for provider in (loggers, tracers, meters):
        if not provider.force_flush():
            raise Failed(f"{route}: {type(provider).__name__} did not flush")
    # the readings at the end have instants of their own
    time.sleep(0.01)
    for provider in (loggers, tracers, meters):
        provider.shutdown()
    return sent


def spans(tracer, logger, events):
    """Traces of two spans, every tenth with an error, events and a link; a line in each."""
    before = None
    kinds = list(SpanKind)
    for i in range(max(1, events // 2)):
        with tracer.start_as_current_span(
            f"GET /item/{i % 7}",
            kind=kinds[i % len(kinds)],
            attributes={**ATTRIBUTES, "http.response.status_code": 200 + i % 3, "rare": i} if i % 10 else ATTRIBUTES,
            links=[Link(before, {"why": "retry", "n": 3})] if before and i % 10 == 1 else [],
        ) as parent:
            with tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT) as child:
                child.set_attribute("db.rows", i)
                if i % 10 == 2:
                    child.add_event("retried", {"attempt": 2, "slow": True})
                    child.record_exception(ValueError("no such row"))
                if i % 10 == 3:
                    child.set_status(Status(StatusCode.ERROR, "lost the connection"))
            if i % 10 == 4:
                parent.set_status(Status(StatusCode.OK))
            logger.emit(
                body=f"served item {i}",
                severity_number=SeverityNumber.INFO,
                severity_text="INFO",
                timestamp=1_700_000_000_000_000_000 + i,
                attributes={"item": i},
            )
            before = parent.get_span_context()


def lines(loggers, logger, events):
    """Lines of every severity and kind of body, and some by Python's own logging."""
    now = 1_700_000_100_000_000_000
    severities = [severity for severity in SeverityNumber if severity.value]
    for i in range(events):
        severity = severities[i % len(severities)]
        logger.emit(
            body=f"line {i}: payment of {i * 7 % 1000} refused",
            severity_number=severity,
            severity_text=severity.name,
            timestamp=now + i * 1_000_003,
            observed_timestamp=now + i * 1_000_003 + 17,
            attributes={**ATTRIBUTES, **NESTED, "n": i} if i % 5 == 0 else {"n": i, "share": i / 8},
        )
    for i, body in enumerate(({"a": [1, {"b": "c"}], "d": None}, ["x", 1], 42, 0.5, True, "", "two\nlines")):
        logger.emit(body=body, timestamp=now - i - 1, attributes={"body": i})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        handler = LoggingHandler(logger_provider=loggers)
    python = logging.getLogger("clients.python")
    python.setLevel(logging.DEBUG)
    python.propagate = False
    python.addHandler(handler)
    try:
        python.warning("stock of %s is %d", "tea", 3, extra={"stock": 3, "warehouse": "north"})
        try:
            raise KeyError("tea")
        except KeyError:
            python.exception("no tea")
    finally:
        python.removeHandler(handler)


def measure(meter, tracer):
    """One instrument of each kind; some measurements within a span, so that there are exemplars."""
    orders = meter.create_counter("shop.orders", unit="{order}", description="orders placed")
    carts = meter.create_up_down_counter("shop.carts.open")
    latency = meter.create_histogram("shop.latency", unit="s")
    size = meter.create_histogram("shop.size", unit="By")
    meter.create_observable_gauge(
        "shop.temperature", [lambda _: [Observation(21.5, {"room": "cold store"})]], unit="Cel"
    )
    meter.create_observable_counter("shop.cpu.time", [lambda _: [Observation(12.25, {"cpu": 0})]], unit="s")
    for i in range(50):
        orders.add(i, {"item.kind": "tea", "express": i % 2 == 0, "warehouse": 7})
        carts.add(1 if i % 3 else -1)
        latency.record(0.001 * 1.2**i, {"route": "/cart"})
        size.record(float(1 + i * i))
    size.record(0.0)
    with tracer.start_as_current_span("measured"):
        orders.add(1, {"item.kind": "coffee"})
        latency.record(0.3, {"route": "/pay"})
        size.record(99.0)


def flushed(requests, groups, scopes, items):
    """(resource attributes, scope, item) of all requests."""
    for request in requests:
        for group in getattr(request, groups):
            for scope in getattr(group, scopes):
                for item in getattr(scope, items):
                    yield group.resource.attributes, scope.scope, item
