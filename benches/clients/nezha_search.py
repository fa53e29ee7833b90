"""Jaeger's API beyond a single trace: services, operations, dependencies, and searches beside loops over the spans."""
import collections
import json
import typing

from server import Failed

LIMIT = 20


class Search(typing.NamedTuple):
    """The parameters of a search, and what each says of a span."""

    params: dict
    conditions: list

    def find(self, spans):
        """Ids of traces with a span of which all is true, those with the newest such span first."""
        newest = {}
        for span in spans:
            if all(holds(span) for holds in self.conditions):
                newest[span.trace_id] = max(span.start, newest.get(span.trace_id, span.start))
        found = sorted(newest, key=lambda trace: (-newest[trace], trace))
        return found[: int(self.params.get("limit", LIMIT))]


def draw(rng, spans):
    """A random search: mostly one that a random span answers, sometimes one that says too much."""
    span = rng.choice(spans)
    params = {"service": span.service}
    conditions = [lambda it: it.service == span.service]
    if rng.random() < 0.6:
        params["operation"] = span.name
        conditions.append(lambda it: it.name == span.name)
    if rng.random() < 0.5:
        pod = (span if rng.random() < 0.8 else rng.choice(spans)).pod
        tags(rng, params, {"pod": pod, **({"service.name": span.service} if rng.random() < 0.5 else {})})
        conditions.append(lambda it: it.pod == pod)
    elif rng.random() < 0.3:
        # no span of this data has a status
        wrong = rng.random() < 0.3
        tags(rng, params, {"error": "true" if wrong else "false"})
        conditions.append(lambda it: not wrong)
    if rng.random() < 0.5:
        shortest = int(span.duration // 1000 * rng.uniform(0.5, 1))
        params["minDuration"] = f"{shortest}us"
        conditions.append(lambda it: it.duration >= shortest * 1000)
    if rng.random() < 0.3:
        longest = span.duration // 10**6 + rng.randint(1, 50)
        params["maxDuration"] = f"{longest}ms"
        conditions.append(lambda it: it.duration <= longest * 10**6)
    minute = 60 * 10**6
    if rng.random() < 0.6:
        start = span.start // 1000 - rng.randint(0, 30 * minute)
        params["start"] = start
        conditions.append(lambda it: it.start >= start * 1000)
    if rng.random() < 0.6:
        end = span.start // 1000 + 1 + rng.randint(0, 30 * minute)
        params["end"] = end
        conditions.append(lambda it: it.start <= end * 1000)
    if rng.random() < 0.8:
        params["limit"] = rng.choice((1, 5, 20, 100))
    return Search(params, conditions)


def tags(rng, params, wanted):
    """Tags in one of the two ways to write them."""
    if rng.random() < 0.5 or len(wanted) > 1:
        params["tags"] = json.dumps(wanted)
    else:
        [(key, value)] = wanted.items()
        params["tag"] = f"{key}:{value}"


def compare(checks, server, data, name, rng, count):
    """`count` searches, and what the API tells of services."""
    sent, found, answered = [], [], 0
    for number in range(count):
        search = draw(rng, data.spans)
        expected = search.find(data.spans)
        answered += bool(expected)
        answer = json.loads(server.get("/api/traces", search.params))["data"]
        sent.append({"search": number, **search.params, "traces": [[trace, len(data.traces[trace])] for trace in expected]})
        found.append({"search": number, **search.params, "traces": [[one["traceID"], len(one["spans"])] for one in answer]})
    if not answered:
        raise Failed(f"none of {count} searches finds anything: another seed shows more")
    checks.compare(f"{name}: {count} searches of Jaeger's API", sent, found)
    services(checks, server, data, name)
    dependencies(checks, server, data, name)


def services(checks, server, data, name):
    """Names of services and operations."""
    operations = collections.defaultdict(set)
    for span in data.spans:
        operations[span.service].add(span.name)
    found = json.loads(server.get("/api/services"))["data"]
    checks.equal(f"{name}: services", sorted(operations), sorted(found))
    sent = [{"service": service, "operation": one} for service, names in operations.items() for one in names]
    for what, path, shown in (
        ("/api/services/<service>/operations", "/api/services/{}/operations", lambda one: one),
        ("/api/operations", "/api/operations?service={}", lambda one: one["name"]),
    ):
        found = []
        for service in operations:
            answer = json.loads(server.get(path.format(service)))["data"]
            found += [{"service": service, "operation": shown(one)} for one in answer]
        checks.compare(f"{name}: {what}", sent, found)


def dependencies(checks, server, data, name):
    """Calls between services."""
    services = {(span.trace_id, span.span_id): span.service for span in data.spans}
    calls = collections.Counter()
    for span in data.spans:
        caller = services.get((span.trace_id, span.parent))
        if caller not in (None, span.service):
            calls[caller, span.service] += 1
    sent = [{"parent": parent, "child": child, "callCount": count} for (parent, child), count in calls.items()]
    first, last = (edge(span.start for span in data.spans) for edge in (min, max))
    # milliseconds; the end is included
    range_ms = {"endTs": last // 10**6 + 1, "lookback": (last - first) // 10**6 + 2}
    checks.compare(f"{name}: dependencies", sent, json.loads(server.get("/api/dependencies", range_ms))["data"])
