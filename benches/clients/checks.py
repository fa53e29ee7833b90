"""What was sent beside what is there, value by value; and a table of it."""
import copy
import json
from collections import Counter


def canonical(row):
    """A row as text: equal texts are equal values of equal types."""
    return json.dumps(row, sort_keys=True, ensure_ascii=False)


def difference(sent, found):
    """Rows that are missing and rows that nobody sent; a row that was sent twice must be there twice."""
    sent, found = Counter(map(canonical, sent)), Counter(map(canonical, found))
    return list((sent - found).elements()), list((found - sent).elements())


def falsified(rows):
    """The same rows with one value changed: what a comparison must find."""
    rows = copy.deepcopy(rows)
    row = rows[len(rows) // 2]
    key = sorted(row)[-1]
    row[key] = [row[key], "falsified"]
    return rows


class Checks:
    """Collects comparisons."""

    SHOWN = 3

    def __init__(self):
        self.table = []

    def compare(self, what, sent, found):
        """Compares two lists of rows (dicts) in any order."""
        missing, surplus = difference(sent, found)
        wrong = len(missing) + len(surplus)
        for kind, rows in (("missing", missing), ("not sent", surplus)):
            for row in rows[: self.SHOWN]:
                print(f"{what}: {kind}: {row[:1500]}")
        if not sent:
            print(f"{what}: nothing was sent, so nothing is shown")
            wrong += 1
        elif not any(difference(falsified(sent), found)) or not any(difference(sent[1:], found)):
            print(f"{what}: the canary was not found: a changed or a lost row counts as equal")
            wrong += 1
        values = sum(map(values_of, sent))
        self.table.append((what, len(sent), values, wrong))

    def equal(self, what, sent, found):
        """Compares two values."""
        self.compare(what, [{"value": sent}], [{"value": found}])

    def report(self):
        """Prints the table; how many comparisons failed."""
        width = max(len(row[0]) for row in self.table)
        print(f"{'what':<{width}}  {'rows':>7}  {'values':>8}  differences")
        for what, rows, values, wrong in self.table:
            print(f"{what:<{width}}  {rows:>7}  {values:>8}  {wrong if wrong else '-'}")
        failed = sum(1 for row in self.table if row[3])
        print(f"clients: {len(self.table) - failed} passed, {failed} failed")
        return failed


def values_of(value):
    """Number of single values in a row."""
    if isinstance(value, dict):
        return sum(map(values_of, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(values_of, value))
    return 1
