"""What a server holds already of the tests that are about to be delivered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from esmond_etl import Interval
from esmond_etl_opensearch import search
from esmond_etl_opensearch.search import Hit, PointInTime
from esmond_etl_opensearch.server import Server

#: So many tests are asked for in one request at most.
_TESTS = 500


@dataclass
class Present:
    """The documents of one test: those that esmond-etl has made, by id, and the others, by moment."""

    own: dict[str, Hit] = field(default_factory=dict)
    again: list[Hit] = field(default_factory=list)  #: documents with an id that another, in an older index, has as well
    others: dict[int, list[Hit]] = field(default_factory=dict)

    def add(self, hit: Hit, key: str) -> None:
        """Sort in one document; they come oldest index first."""
        if not hit.id.startswith(f"{key}-"):
            self.others.setdefault(hit.ts, []).append(hit)
        elif hit.id in self.own:
            self.again.append(hit)
        else:
            self.own[hit.id] = hit


def count(server: Server, pattern: str, keys: Iterable[str], interval: Interval) -> int:
    """How many documents of some tests there are in `interval`."""
    return sum(search.count(server, pattern, search.of_test(some, interval)) for some in _portions(list(keys)))


def of_test(view: PointInTime, key: str, interval: Interval, names_alone: bool = False) -> Present:
    """All documents of a test in `interval`; with `names_alone`, of each no more than what names its run."""
    found, fields = Present(), ["pscheduler.run_href"] if names_alone else ["*"]
    hits = [hit for page in view.pages(search.of_test(key, interval), fields, most=1000, versions=True) for hit in page]
    for hit in sorted(hits, key=lambda each: each.index):
        found.add(hit, key)
    return found


def _portions(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), _TESTS):
        yield keys[start : start + _TESTS]


def run_of(document: Mapping[str, Any]) -> str | None:
    """What names the run that a document is the result of; None if it does not say."""
    pscheduler = document.get("pscheduler")
    href = pscheduler.get("run_href") if isinstance(pscheduler, Mapping) else None
    return href if isinstance(href, str) else None
