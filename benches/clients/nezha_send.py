"""Nezha into a server: by the commands that the documentation shows, or by OTLP requests made here."""
import gzip
import os
import pathlib
import re
import subprocess
import time
import urllib.error
import urllib.request

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from nezha_rows import SEVERITIES
from server import Failed

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "import-export.md"
# rows of a request
ROWS = 4000
# how often a busy server is asked again
ATTEMPTS = 600


def section():
    """What the documentation says of Nezha."""
    _, _, rest = DOCUMENT.read_text(encoding="utf-8").partition("\n### Nezha\n")
    text = re.split(r"\n#+ ", rest)[0]
    if not text:
        raise Failed(f"{DOCUMENT} has no section Nezha")
    return text


def commands():
    """The commands of that section, one for the spans and one for the lines."""
    block = re.search(r"```text\n(.*?)```", section(), re.DOTALL)
    found = block.group(1).replace("\\\n", " ").strip().splitlines() if block else []
    by_signal = {signal: command for command in found for signal in ("spans", "logs") if f"--into {signal} " in command}
    if len(found) != 2 or len(by_signal) != 2:
        raise Failed(f"{DOCUMENT}: expected a command for spans and one for logs, found {found}")
    return by_signal


def by_import(server, signal, directory):
    """Runs the documented command in `directory`, which has trace/ and log/: (rows sent, rows left out, seconds)."""
    # the command calls it so, wherever it is
    name = server.directory / "bin" / "foretell"
    name.parent.mkdir(exist_ok=True)
    if not name.exists():
        name.symlink_to(pathlib.Path(server.binary).resolve())
    environment = {**os.environ, "PATH": f"{name.parent}:{os.environ['PATH']}", "FORETELL_URL": server.urls["http"]}
    begun = time.monotonic()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands()[signal]], cwd=directory, env=environment, capture_output=True, text=True
    )
    seconds = time.monotonic() - begun
    said = done.stdout + done.stderr
    total = re.search(r"imported (\d+) ", said)
    if done.returncode or not total:
        raise Failed(f"foretell import --into {signal} ended with {done.returncode}: {said}")
    left_out = sum(int(count) for count in re.findall(r": (\d+) rows left out", said))
    return int(total.group(1)), left_out, seconds


def by_otlp(server, signal, rows):
    """Sends `rows` in their order, every second request with gzip: (rows acknowledged, seconds of the requests alone)."""
    path, answer = ("/v1/traces", ExportTraceServiceResponse) if signal == "spans" else ("/v1/logs", ExportLogsServiceResponse)
    encode = spans_request if signal == "spans" else logs_request
    acknowledged, seconds = 0, 0.0
    for number, at in enumerate(range(0, len(rows), ROWS)):
        some = rows[at : at + ROWS]
        body, headers = encode(some).SerializeToString(), {"Content-Type": "application/x-protobuf"}
        if number % 2:
            body, headers = gzip.compress(body, 1), {**headers, "Content-Encoding": "gzip"}
        begun = time.monotonic()
        partial = answer.FromString(post(server.urls["otlp/http"] + path, body, headers)).partial_success
        seconds += time.monotonic() - begun
        if partial.error_message:
            raise Failed(f"{path}: {partial}")
        acknowledged += len(some)
    return acknowledged, seconds


def post(url, body, headers):
    """The bytes of a successful answer; a busy server is waited for as long as it says."""
    for _ in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503):
                raise Failed(f"{url}: {error.code} {error.read().decode(errors='replace')}") from error
            time.sleep(float(error.headers.get("Retry-After", 1)))
    raise Failed(f"{url}: busy {ATTEMPTS} times")


def put(attributes, values):
    """Texts as attributes; what has no value is left out."""
    for key, value in values.items():
        if value is not None:
            attributes.add(key=key).value.string_value = value


def groups(rows, request, of_resource, of_scope):
    """For each row the scope that it belongs to: one for each source."""
    scopes = {}
    for row in rows:
        source = tuple(row.resource().items())
        if source not in scopes:
            group = getattr(request, of_resource).add()
            put(group.resource.attributes, row.resource())
            scopes[source] = getattr(group, of_scope).add()
        yield row, scopes[source]


def spans_request(rows):
    """Spans as a request."""
    request = ExportTraceServiceRequest()
    for row, scope in groups(rows, request, "resource_spans", "scope_spans"):
        scope.spans.add(
            trace_id=bytes.fromhex(row.trace_id),
            span_id=bytes.fromhex(row.span_id),
            parent_span_id=bytes.fromhex(row.parent or ""),
            name=row.name,
            start_time_unix_nano=row.start,
            end_time_unix_nano=row.end,
        )
    return request


def logs_request(rows):
    """Lines as a request."""
    request = ExportLogsServiceRequest()
    for row, scope in groups(rows, request, "resource_logs", "scope_logs"):
        record = scope.log_records.add(
            time_unix_nano=row.ts,
            severity_text=row.severity or "",
            severity_number=SEVERITIES.get(row.severity, 0),
            trace_id=bytes.fromhex(row.trace_id),
            span_id=bytes.fromhex(row.span_id),
        )
        record.body.string_value = row.body
    return request
