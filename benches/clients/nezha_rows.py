"""The spans and lines of Nezha as its files have them, read by Python's own csv: what the server's answers are compared with.

The rules are those of docs/import-export.md, said once more in Python. Times and durations are nanoseconds.
"""
import collections
import csv
import datetime
import functools
import json
import pathlib
import re
import shutil
import subprocess
import typing

from server import Failed, instant

DAY = "2023-01-29"
SERVICE = re.compile(r"(.*)-[0-9a-z]+-[0-9a-z]{5}")
SEVERITY = re.compile(r"\S+ +(TRACE|DEBUG|INFO|WARN|ERROR) ")
SEVERITIES = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17}


class Span(typing.NamedTuple):
    """A row of a trace file."""

    trace_id: str
    span_id: str
    # None of a root
    parent: str | None
    name: str
    service: str | None
    pod: str
    start: int
    end: int

    @property
    def duration(self):
        return self.end - self.start

    def resource(self):
        """Attributes of its source."""
        return {"service.name": self.service, "pod": self.pod}

    def row(self):
        """As the table has it."""
        return {
            "ts": instant(self.start),
            "duration": self.duration,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": self.parent,
            "service": self.service,
            "name": self.name,
            "kind": None,
            "status": None,
            "attributes": {},
            "resource": self.resource(),
        }


class Line(typing.NamedTuple):
    """A row of a log file."""

    ts: int
    body: str
    severity: str | None
    service: str | None
    pod: str
    node: str
    container: str
    trace_id: str
    span_id: str

    def resource(self):
        """Attributes of its source."""
        return {"service.name": self.service, "pod": self.pod, "node": self.node, "container": self.container}

    def row(self):
        """As the table has it."""
        return {
            "ts": instant(self.ts),
            "service": self.service,
            "severity": self.severity,
            "severity_number": SEVERITIES.get(self.severity),
            "body": self.body,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "attributes": {},
            "resource": self.resource(),
        }


class Data:
    """All that the files have: `all_spans` and `all_lines` in their order, `spans` and `lines` without repetitions."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.left_out = collections.Counter()
        self.all_spans = [span(row) for row in self.rows("trace")]
        self.all_lines = [line(row) for row in self.rows("log")]
        self.spans, self.lines = sorted(set(self.all_spans)), sorted(set(self.all_lines))
        self.traces, self.lines_of_trace = collections.defaultdict(list), collections.defaultdict(list)
        for one in self.spans:
            self.traces[one.trace_id].append(one)
        for one in self.lines:
            self.lines_of_trace[one.trace_id].append(one)

    def files(self, kind):
        """Files of `trace` or `log`."""
        return sorted((self.directory / kind).glob("*.csv"))

    def rows(self, kind):
        """Rows of all files as dicts. What is quoted wrongly is left out and counted; it costs its own line only."""
        for path in self.files(kind):
            with open(path, newline="", encoding="utf-8") as file:
                reader = csv.reader(file, strict=True)
                names = next(reader)
                while True:
                    try:
                        row = next(reader)
                    except StopIteration:
                        break
                    except csv.Error:
                        self.left_out[kind] += 1
                        continue
                    if len(row) != len(names):
                        raise Failed(f"{path}:{reader.line_num}: {len(row)} fields")
                    # an empty field has no value
                    yield {name: text or None for name, text in zip(names, row)}


def unpack(data, directory):
    """Unpacks the traces and lines of a day of the data set into `directory`."""
    for name in ("trace", "log"):
        archive = pathlib.Path(data) / DAY / f"{name}.tar.zst"
        if not archive.is_file():
            raise Failed(f"{archive} is not there: --data (NEZHA= of make) is the folder of Nezha with {DAY}/trace.tar.zst and log.tar.zst")
        if shutil.which("zstd") is None:
            raise Failed("zstd is missing, which tar needs for .tar.zst: install it (apt-get install zstd)")
        done = subprocess.run(["tar", "--zstd", "-xf", archive, "-C", directory], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{archive}: {done.stderr}")


def span(row):
    """By the rules for spans."""
    parent = row["ParentID"]
    return Span(
        row["TraceID"],
        row["SpanID"],
        None if parent == "root" else parent,
        row["OperationName"],
        service(row["PodName"]),
        row["PodName"],
        int(row["StartTimeUnixNano"]),
        int(row["EndTimeUnixNano"]),
    )


def line(row):
    """By the rules for lines."""
    body = json.loads(row["Log"])["log"]
    severity = SEVERITY.match(body)
    return Line(
        nanoseconds(row["Timestamp"]),
        body,
        severity and severity.group(1),
        service(row["PodName"]),
        row["PodName"],
        row["Node"],
        row["Container"],
        row["TraceID"],
        row["SpanID"],
    )


@functools.cache
def service(pod):
    """A pod's service: its name without the two suffixes."""
    found = SERVICE.fullmatch(pod)
    return found and found.group(1)


def nanoseconds(text):
    """An instant of RFC 3339 in UTC, with up to nine digits of a second, as nanoseconds."""
    whole, _, rest = text.removesuffix("Z").partition(".")
    seconds = datetime.datetime.fromisoformat(f"{whole}+00:00")
    return int(seconds.timestamp()) * 10**9 + int(f"{rest:0<9}")
