"""The documents that a server already has of the tests to be delivered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from esmond_etl import Interval
from esmond_etl_opensearch import search
from esmond_etl_opensearch.search import Hit, PointInTime
from esmond_etl_opensearch.server import Server

#: At most this many tests per request.
_TESTS = 500


@dataclass
class Present:
    """The documents of one test: those of esmond-etl, by id, and the others, by time."""

    own: dict[str, Hit] = field(default_factory=dict)
    again: list[Hit] = field(default_factory=list)  #: documents whose id also exists in an older index
    others: dict[int, list[Hit]] = field(default_factory=dict)

    def add(self, hit: Hit, key: str) -> None:
        """Add one document; they come oldest index first."""
        if not hit.id.startswith(f"{key}-"):
            self.others.setdefault(hit.ts, []).append(hit)
        elif hit.id in self.own:
            self.again.append(hit)
        else:
            self.own[hit.id] = hit


def count(server: Server, pattern: str, keys: Iterable[str], interval: Interval) -> int:
    """The number of documents of some tests in `interval`."""
    return sum(search.count(server, pattern, search.of_test(some, interval)) for some in _portions(list(keys)))


def of_test(view: PointInTime, key: str, interval: Interval, names_alone: bool = False) -> Present:
    """All documents of a test in `interval`; with `names_alone`, only the fields that name their runs."""
    found, fields = Present(), ["pscheduler.run_href"] if names_alone else ["*"]
    hits = [hit for page in view.pages(search.of_test(key, interval), fields, most=1000, versions=True) for hit in page.hits]
    for hit in sorted(hits, key=lambda each: each.index):
        found.add(hit, key)
    return found


def _portions(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), _TESTS):
        yield keys[start : start + _TESTS]


def run_of(document: Mapping[str, Any]) -> str | None:
    """The name of the run that a document is the result of; None if it has none."""
    pscheduler = document.get("pscheduler")
    href = pscheduler.get("run_href") if isinstance(pscheduler, Mapping) else None
    return href if isinstance(href, str) else None
