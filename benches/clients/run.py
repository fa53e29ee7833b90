"""Real clients send to a real server, which is killed and started again; then everything they sent is read back and compared.

    run.py --server target/release/foretell [--events 200]

Prints a table of what was compared; ends with 1 when something differs. Each comparison has its canary: one changed and one
lost row, which it must find.
"""
import argparse
import signal
import sys
import tempfile
import time

import influx
import loki
import otlp
import otlp_rows
from checks import Checks
from server import Failed, Server


def main():
    """Runs it; the code to end with."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--server", required=True, metavar="FILE", help="the foretell binary")
    arguments.add_argument("--events", type=int, default=200, help="lines, spans and points of each route")
    options = arguments.parse_args()
    # ended by a signal, it still ends the server
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="foretell-clients-") as directory:
        server = Server(options.server, directory)
        try:
            failed = run(server, options.events)
        except Failed as error:
            print(f"clients: {error}\n{server.log()}", file=sys.stderr)
            failed = 1
        finally:
            server.kill()
    print(f"clients: {time.monotonic() - started:.1f} s")
    return 1 if failed else 0


def run(server, events):
    """Number of comparisons that failed."""
    checks = Checks()
    server.start()
    of_otlp = [otlp.send(route, server.urls, events) for route in otlp.ROUTES]
    of_loki = loki.send(server.urls, events)
    of_influx = influx.send(server.urls, events, checks)
    texts = server.metric("foretell_influx_text_fields_skipped_total")
    checks.equal("InfluxDB: texts are counted", float(of_influx.texts), texts)
    # all was acknowledged, so all must be there
    server.kill()
    server.start()
    for sent in of_otlp:
        otlp_rows.compare(checks, server, sent)
    loki.compare(checks, server, of_loki)
    influx.compare(checks, server, of_influx)
    return checks.report()


if __name__ == "__main__":
    sys.exit(main())
