"""A real `foretell serve` on free ports of loopback: started, killed, started again, asked."""
import datetime
import json
import pathlib
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

READY_SECONDS = 60
LISTENERS = 3


class Failed(Exception):
    """The run cannot go on."""


class Server:
    """The process, and the addresses it listens on."""

    def __init__(self, binary, directory):
        self.binary = str(binary)
        self.directory = pathlib.Path(directory)
        self.process = None
        self.urls = {}

    def start(self):
        """Starts it and waits until it is ready."""
        command = [self.binary, "serve", "--data-dir", str(self.directory / "data")]
        for name in ("http", "grpc", "otlp-http"):
            command += [f"--listen-{name}", "127.0.0.1:0"]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self.urls = {}
        while len(self.urls) < LISTENERS:
            line = self.process.stdout.readline()
            if not line:
                raise Failed(f"the server has ended with {self.process.wait()}:\n{self.log()}")
            if " listening on " in line:
                _, name, *_, url = line.split()
                self.urls[name] = url
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                self.get("/-/ready")
                return
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > until:
                    raise Failed(f"not ready after {READY_SECONDS} s:\n{self.log()}") from None
                time.sleep(0.05)

    def kill(self):
        """Kills it with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def log(self):
        """The end of what it logged."""
        return (self.directory / "log").read_text(errors="replace")[-4000:]

    def get(self, path, params=(), body=None):
        """The answer's text."""
        query = f"?{urllib.parse.urlencode(params)}" if params else ""
        request = urllib.request.Request(f"{self.urls['http']}{path}{query}", data=body, headers={"Content-Type": "text/plain"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            if path == "/-/ready":
                raise
            raise Failed(f"{path}{query} {body!r:.500}: {error.code} {error.read().decode(errors='replace')}") from error

    def json(self, path, params=()):
        """The answer's `data`."""
        answer = json.loads(self.get(path, params))
        if answer["status"] != "success":
            raise Failed(f"{path} {params}: {answer}")
        return answer["data"]

    def sql(self, statement):
        """Rows as dicts."""
        answer = json.loads(self.get("/api/v1/sql", body=statement.encode()))
        names = [column["name"] for column in answer["columns"]]
        return [dict(zip(names, row)) for row in answer["rows"]]

    def metric(self, name):
        """A value of /metrics, summed over its labels."""
        lines = (line for line in self.get("/metrics").splitlines() if not line.startswith("#"))
        found = (line.rsplit(" ", 1) for line in lines)
        return sum(float(value) for series, value in found if series.split("{")[0] == name)


def instant(ns):
    """Nanoseconds as the server writes an instant."""
    seconds, rest = divmod(ns, 1_000_000_000)
    at = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
