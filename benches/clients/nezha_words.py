"""Words in lines: `match` of SQL and `|=` of LogQL beside loops over the lines."""
import collections
import functools
import re

from server import Failed, instant

# an order's id and the like: several words for `match`, one text for `|=`
IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
FEWEST, MOST = 1, 5
# shorter ones are part of many other words
SHORTEST = 6
EVERYTHING = '{pod=~".+"}'


def words(text):
    """The words of a text without case: runs of letters, digits and `_`."""
    return re.findall(r"\w+", text.lower())


class Index:
    """Which lines have which word."""

    def __init__(self, lines):
        self.lines = lines
        self.places = collections.defaultdict(set)
        for place, line in enumerate(lines):
            for word in words(line.body):
                self.places[word].add(place)

    def matching(self, text):
        """Lines with all words of `text`."""
        return [self.lines[place] for place in sorted(set.intersection(*(self.places[word] for word in words(text))))]

    @functools.cache
    def containing(self, text):
        """Lines with `text` anywhere, in this case."""
        return [line for line in self.lines if text in line.body]

    def choose(self, rng, count):
        """`count` rare words, a quarter of which have letters other than hexadecimal digits, and half as many ids."""
        rare = [word for word in self.places if len(word) >= SHORTEST and FEWEST <= len(self.places[word]) <= MOST]
        rare.sort()
        named = [word for word in rare if re.search("[^0-9a-f]", word)]
        named = rng.sample(named, min(len(named), count // 4))
        chosen = named + rng.sample(rare, count - len(named))
        ids = sorted({found for line in self.lines for found in IDS.findall(line.body)})
        ids = [one for one in ids if len(self.matching(one)) <= 1000]
        return chosen + rng.sample(ids, min(len(ids), count // 2))

    def common(self):
        """The word, no short one, that is nearest to being in half of the lines."""
        longer = (word for word in self.places if len(word) >= SHORTEST)
        return min(longer, key=lambda word: (abs(2 * len(self.places[word]) - len(self.lines)), word))

    def written(self, word):
        """`word` as it is written in the first line that has it."""
        body = self.matching(word)[0].body
        return re.search(re.escape(word), body, re.IGNORECASE).group(0)


def compare(checks, server, data, name, index, rng, count):
    """Rare words one by one, and a common one counted."""
    chosen = index.choose(rng, count)
    by_sql, by_loki, of_service = ([], []), ([], []), ([], [])
    for number, word in enumerate(chosen):
        sent = index.matching(word)
        # in any case
        asked = word.upper() if number % 2 else word
        found = server.sql(f"SELECT ts, trace_id, span_id, body FROM logs WHERE match(body, '{asked}')")
        by_sql[0].extend(
            {"word": word, "ts": instant(line.ts), "trace_id": line.trace_id, "span_id": line.span_id, "body": line.body}
            for line in sent
        )
        by_sql[1].extend({"word": word, **row} for row in found)
        text = index.written(word)
        sent = index.containing(text)
        by_loki[0].extend(shown(line, word) for line in sent)
        by_loki[1].extend(loki(server, data, EVERYTHING, text, word))
        service = sent[0].service
        of_service[0].extend(shown(line, word, service_name=service) for line in sent if line.service == service)
        of_service[1].extend(loki(server, data, f'{{service_name="{service}"}}', text, word))
    checks.compare(f"{name}: match() of {len(chosen)} rare words", *by_sql)
    checks.compare(f"{name}: LogQL |= of them", *by_loki)
    checks.compare(f"{name}: LogQL |= in one service", *of_service)

    word = index.common()
    [row] = server.sql(f"SELECT count(*) AS n FROM logs WHERE match(body, '{word}')")
    checks.equal(f"{name}: match() of a common word", len(index.places[word]), row["n"])
    text = index.written(word)
    params = {"query": f'sum(count_over_time({EVERYTHING} |= "{text}" [1d]))', "time": data.lines[-1].ts}
    [row] = server.json("/loki/api/v1/query", params)["result"]
    checks.equal(f"{name}: count_over_time of it", float(len(index.containing(text))), float(row["value"][1]))


def shown(line, word, **others):
    """A line as Loki's API shows it."""
    labels = {**line.resource(), "trace_id": line.trace_id, "span_id": line.span_id, **others}
    return {"word": word, "ts": str(line.ts), "line": line.body, "labels": labels}


def loki(server, data, selector, text, word):
    """All lines that have `text`."""
    params = {
        "query": f'{selector} |= "{text}"',
        "start": data.lines[0].ts,
        "end": data.lines[-1].ts + 1,
        "limit": 5000,
    }
    result = server.json("/loki/api/v1/query_range", params)["result"]
    rows = [
        {"word": word, "ts": ts, "line": line, "labels": stream["stream"]}
        for stream in result
        for ts, line, *_ in stream["values"]
    ]
    if len(rows) == params["limit"]:
        raise Failed(f"{text} is not rare: it is in {params['limit']} lines and more")
    return rows
