"""Single traces: `trace_tree`, `critical_path`, their lines, and how Jaeger's API shows them."""
import collections
import json

from server import Failed, instant

TREE = "position, depth, ts, duration, own_duration, span_id, parent_span_id, service, name"
PATH = "position, depth, ts, duration, span_id, service, name"


def choose(data, rng, count):
    """Ids of traces: those with the most spans, those with the least, and random ones."""
    by_size = sorted(data.traces, key=lambda trace: (len(data.traces[trace]), trace))
    chosen = [*by_size[-3:], *by_size[:2]]
    others = sorted(set(by_size) - set(chosen))
    return chosen + rng.sample(others, min(len(others), max(0, count - len(chosen))))


class Tree:
    """The calls of a trace: `order` has each span after its caller, calls by start, with its depth."""

    def __init__(self, spans):
        self.children = collections.defaultdict(list)
        ids = {span.span_id for span in spans}
        if len(ids) != len(spans):
            raise Failed(f"trace {spans[0].trace_id} has a span id twice, which this brute force does not know")
        # of spans that begin at once the longer one comes first, then the lesser id
        for span in sorted(spans, key=lambda span: (span.start, -span.duration, span.span_id)):
            self.children[span.parent if span.parent in ids else None].append(span)
        self.order = []
        for root in self.children[None]:
            self.walk(root, 0)
        if len(self.order) != len(spans):
            raise Failed(f"trace {spans[0].trace_id} has a circle, which this brute force does not know")

    def walk(self, span, depth):
        """Adds `span` and what it calls."""
        self.order.append((span, depth))
        for child in self.children[span.span_id]:
            self.walk(child, depth + 1)

    def own_duration(self, span):
        """Nanoseconds in which no child ran: what is left between every two borders of theirs."""
        children = self.children[span.span_id]
        borders = {span.start, span.end, *(t for c in children for t in (c.start, c.end) if span.start < t < span.end)}
        borders = sorted(borders)
        return sum(
            to - since
            for since, to in zip(borders, borders[1:])
            if not any(child.start <= since and to <= child.end for child in children)
        )

    def critical_path(self):
        """(span, depth, start, end) that the first root waited for, by time."""
        depths = {span.span_id: depth for span, depth in self.order}
        stretches = []

        def walk(span, start, end):
            known = end
            within = [(child, max(child.start, start), min(child.end, end)) for child in self.children[span.span_id]]
            # what ended last first; of such that which began first
            within.sort(key=lambda it: (-it[2], it[1]))
            for child, since, to in within:
                if since < to <= known:
                    stretches.append((span, to, known))
                    walk(child, since, to)
                    known = since
            stretches.append((span, start, known))

        root = self.order[0][0]
        walk(root, root.start, root.end)
        return [(span, depths[span.span_id], start, end) for span, start, end in reversed(stretches) if start < end]


def compare(checks, server, data, name, ids):
    """The traces `ids` by all that shows one."""
    tables = collections.defaultdict(lambda: ([], []))

    def add(what, sent, found):
        # which trace, so that rows of two are never taken for one another
        for rows, kept in ((sent, tables[what][0]), (found, tables[what][1])):
            kept += [{"of": trace, **row} for row in rows]

    for trace in ids:
        spans = data.traces[trace]
        tree = Tree(spans)
        add("trace_tree", *of_tree(server, tree, trace))
        add("critical_path", *of_path(server, tree, trace))
        add("lines of a trace", *of_lines(server, data, trace))
        found = json.loads(server.get(f"/api/traces/{trace}"))["data"]
        add("Jaeger's /api/traces/<id>", [shown(span) for span in spans], [row for one in found for row in read(one)])
    for what, (sent, found) in tables.items():
        checks.compare(f"{name}: {what}, {len(ids)} traces", sent, found)


def of_tree(server, tree, trace):
    """Rows of `trace_tree`, as they must be and as they are, in their order."""
    sent = [
        {
            "position": position,
            "depth": depth,
            "ts": instant(span.start),
            "duration": span.duration,
            "own_duration": tree.own_duration(span),
            "span_id": span.span_id,
            "parent_span_id": span.parent,
            "service": span.service,
            "name": span.name,
        }
        for position, (span, depth) in enumerate(tree.order)
    ]
    found = server.sql(f"SELECT {TREE} FROM trace_tree('{trace}') ORDER BY position")
    return sent, found


def of_path(server, tree, trace):
    """The same of `critical_path`."""
    sent = [
        {
            "position": position,
            "depth": depth,
            "ts": instant(start),
            "duration": end - start,
            "span_id": span.span_id,
            "service": span.service,
            "name": span.name,
        }
        for position, (span, depth, start, end) in enumerate(tree.critical_path())
    ]
    return sent, server.sql(f"SELECT {PATH} FROM critical_path('{trace}') ORDER BY position")


def of_lines(server, data, trace):
    """The lines of a trace, each with the operation it was written in, as the documentation joins them."""
    names = {span.span_id: span.name for span in data.traces[trace]}
    sent = [
        {"ts": instant(line.ts), "body": line.body, "name": names[line.span_id]}
        for line in data.lines_of_trace[trace]
        if line.span_id in names
    ]
    found = server.sql(
        f"SELECT l.ts, l.body, t.name FROM trace_tree('{trace}') t JOIN logs l ON l.span_id = t.span_id WHERE l.trace_id = '{trace}'"
    )
    return sent, found


def shown(span):
    """A span as Jaeger shows it; microseconds are cut off."""
    return {
        "traceID": span.trace_id,
        "spanID": span.span_id,
        "operationName": span.name,
        "startTime": span.start // 1000,
        "duration": span.duration // 1000,
        "parents": [[span.trace_id, span.parent]] if span.parent else [],
        "tags": {},
        "service": span.service,
        "process": span.resource(),
    }


def read(trace):
    """Spans of a trace of Jaeger's API."""
    for span in trace["spans"]:
        process = trace["processes"][span["processID"]]
        yield {
            **{key: span[key] for key in ("traceID", "spanID", "operationName", "startTime", "duration")},
            "parents": [[of["traceID"], of["spanID"]] for of in span["references"] if of["refType"] == "CHILD_OF"],
            "tags": {tag["key"]: tag["value"] for tag in span["tags"]},
            "service": process["serviceName"],
            "process": {tag["key"]: tag["value"] for tag in process["tags"]},
        }
