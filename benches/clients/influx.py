"""Clients of InfluxDB: of version 2 (batches, gzip, every precision) and of version 1."""
from influxdb import InfluxDBClient as InfluxDB1
from influxdb.exceptions import InfluxDBClientError
from influxdb_client import InfluxDBClient, Point, WriteOptions, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from server import Failed, instant

START = 1_700_000_000_000_000_000
PRECISIONS = {WritePrecision.NS: 1, WritePrecision.US: 10**3, WritePrecision.MS: 10**6, WritePrecision.S: 10**9}
HOST = "a b,c=d \\ ü"


class Sent:
    """Samples, and how many fields are texts."""

    def __init__(self):
        self.samples, self.texts = [], 0

    def field(self, metric, labels, ts, value):
        """A field that becomes a sample, or a text that does not."""
        if isinstance(value, str):
            self.texts += 1
        else:
            self.samples.append({"ts": instant(ts), "metric": metric, "labels": labels, "value": float(value)})


def send(urls, events, checks):
    """Sends points by both clients; the samples they are."""
    sent = Sent()
    with InfluxDBClient(url=urls["http"], token="any", org="any", enable_gzip=True) as client:
        one_by_one(client, sent)
        in_batches(client, sent, events)
        bad_lines(client, sent, checks)
    version1(urls["http"], sent, checks)
    return sent


def fields(i):
    """Fields of every type, and the borders of numbers that 64-bit floats hold."""
    return {
        "load": i / 7,
        "count": 2**53 - i,
        "debt": -(2**53) + i,
        "up": i % 2 == 0,
        "value": 1e-300 * (i + 1),
        "note": f"a \"text\", with = and {i}",
    }


def one_by_one(client, sent):
    """A point in each precision."""
    write = client.write_api(write_options=SYNCHRONOUS).write
    for precision, unit in PRECISIONS.items():
        for i in range(5):
            ts = START + i * 10**9
            point = Point("host cpu.v2").tag("host", HOST).tag("data-center", "eu=1").tag("precision", precision)
            for name, value in fields(i).items():
                point.field(name, value)
                metric = "host_cpu_v2" if name == "value" else f"host_cpu_v2_{name}"
                sent.field(metric, {"host": HOST, "data_center": "eu=1", "precision": precision}, ts, value)
            write(bucket="any", record=point.time(ts // unit, precision), write_precision=precision)


def in_batches(client, sent, events):
    """Many points, sent by the client's own threads."""
    failures = []
    options = WriteOptions(batch_size=500, flush_interval=200, max_retries=0)
    with client.write_api(write_options=options, error_callback=lambda _, __, error: failures.append(error)) as api:
        for i in range(events):
            ts = START + i
            api.write("any", record=Point("batch").tag("shard", str(i % 9)).field("n", i).field("x", i * 0.1).time(ts))
            sent.field("batch_n", {"shard": str(i % 9)}, ts, i)
            sent.field("batch_x", {"shard": str(i % 9)}, ts, i * 0.1)
    if failures:
        raise Failed(f"influxdb-client: {failures[0]}")


def bad_lines(client, sent, checks):
    """A line in the middle that is none: the client gets its number, the others are kept."""
    write = client.write_api(write_options=SYNCHRONOUS).write
    try:
        write(bucket="any", record=f"partly v=1 {START}\nno line\npartly v=2 {START + 1}")
        checks.equal("a bad line: status", 400, 204)
    except ApiException as error:
        checks.equal("a bad line: status", 400, error.status)
        checks.equal("a bad line: its number is named", True, "line 2" in str(error.message))
    sent.field("partly_v", {}, START, 1.0)
    sent.field("partly_v", {}, START + 1, 2.0)


def version1(url, sent, checks):
    """The client of version 1, by `/write`."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    client = InfluxDB1(host=host, port=int(port), database="any")
    for precision, unit in {"n": 1, "u": 10**3, "ms": 10**6, "s": 10**9}.items():
        points = []
        for i in range(5):
            ts = START + i * 10**9
            values = {name: value for name, value in fields(i).items() if name != "value"}
            points.append({"measurement": "cpu v1", "tags": {"p": precision}, "fields": values, "time": ts // unit})
            for name, value in values.items():
                sent.field(f"cpu_v1_{name}", {"host": "one", "p": precision}, ts, value)
        client.write_points(points, time_precision=precision, tags={"host": "one"})
    try:
        client.write("no line", params={"db": "any"}, protocol="line")
        checks.equal("a bad line of version 1: status", 400, 204)
    except InfluxDBClientError as error:
        checks.equal("a bad line of version 1: status", 400, error.code)
    client.close()


def compare(checks, server, sent):
    """Samples by SQL and by PromQL."""
    names = sorted({row["metric"] for row in sent.samples})
    listed = ", ".join(f"'{name}'" for name in names)
    found = server.sql(f"SELECT ts, metric, labels, value FROM samples WHERE metric IN ({listed})")
    checks.compare("InfluxDB: samples", sent.samples, [{**row, "value": float(row["value"])} for row in found])
    for name in ("host_cpu_v2_load", "cpu_v1_count"):
        rows = [{"labels": row["labels"], "ts": row["ts"], "value": row["value"]} for row in sent.samples if row["metric"] == name]
        params = {"query": f"{name}[1h]", "time": START / 10**9 + 60}
        found = [
            {
                "labels": {key: value for key, value in series["metric"].items() if key != "__name__"},
                "ts": instant(round(at * 1000) * 10**6),
                "value": float(value),
            }
            for series in server.json("/api/v1/query", params)["result"]
            for at, value in series["values"]
        ]
        checks.compare(f"InfluxDB: {name} by PromQL", rows, found)
