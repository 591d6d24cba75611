"""The facts of a pipeline's ledger for people: coverage by series and time, totals, rejects, runs, one digest of all."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal

from esmond_etl.engine.ledger import Ledger
from esmond_etl.model import digest
from esmond_etl.model.digest import Window
from esmond_etl.model.interval import Interval, IntervalSet, moment
from esmond_etl.model.series import SeriesId
from esmond_etl.pipeline.definition import Definition

#: The time is shown in at most this many columns.
MOST: Final = 60

#: The states of a series in a column of time, one letter each.
State = Literal["d", "e", "r", "f", "t"]

STATES: Final[dict[State, tuple[str, str]]] = {
    "d": ("delivered", "datapoints were delivered"),
    "e": ("nothing there", "the source has no datapoints"),
    "r": ("rejected", "a sink refused some of the datapoints"),
    "f": ("failed", "the series could not be read or written"),
    "t": ("not done yet", "no run has got here yet"),
}


@dataclass
class SeriesFacts:
    """One series."""

    id: SeriesId
    source: str
    destination: str
    number: int  #: datapoints
    states: str  #: one letter per column
    first: int | None  #: window of the first datapoint, Unix time
    last: int | None
    error: str
    rejected: int


@dataclass
class Facts:
    """The facts that are shown of a pipeline."""

    name: str
    made: str
    columns: list[Interval]  #: whole windows each
    series: list[SeriesFacts] = field(default_factory=list)
    rejects: Counter[tuple[str, str]] = field(default_factory=Counter)  #: sink and reason -> datapoints
    runs: list[dict[str, Any]] = field(default_factory=list)
    root: str = ""
    failures: Counter[str] = field(default_factory=Counter)  #: reason -> series

    @property
    def total(self) -> int:
        """Datapoints delivered."""
        return sum(each.number for each in self.series)

    @property
    def overview(self) -> dict[str, dict[str, Any]]:
        """By event type: series, datapoints, and for each column the number of series in each state."""
        found: dict[str, dict[str, Any]] = {}
        for each in self.series:
            row = found.setdefault(each.id.event_type, {"series": 0, "number": 0, "columns": [Counter() for _ in self.columns]})
            row["series"] += 1
            row["number"] += each.number
            for column, state in zip(row["columns"], each.states, strict=True):
                column[state] += 1
        return dict(sorted(found.items()))

    @property
    def interval(self) -> Interval:
        """All the time that is shown."""
        return Interval(self.columns[0].start, self.columns[-1].end)


def facts(definition: Definition, ledger: Ledger) -> Facts:
    """The facts to show; only the ledger is read."""
    now = int(time.time())
    found = Facts(definition.name, moment(now), _columns(definition.wanted(now), definition.settings.window), runs=ledger.runs())
    subjects, failures = ledger.subjects(), ledger.failures()
    rejects: dict[SeriesId, list[int]] = defaultdict(list)
    for reject in ledger.rejected():
        rejects[reject.series].append(reject.ts)
        found.rejects[reject.sink, reject.reason] += 1
    lines = []
    done = dict(ledger.all_done())
    for series in sorted({*done, *failures, *rejects}):
        windows = ledger.digests(series, found.interval)
        failure = failures.get(series)
        source, destination, tool = subjects.get(series.metadata_key, (None, None, None))
        lines.append(("\t".join(each or "" for each in (source, destination, tool, *series[1:])), digest.total(windows)))
        failed = IntervalSet.of([failure.interval]) if failure else IntervalSet()
        states = "".join(_states(found, windows, done.get(series, IntervalSet()), failed, rejects[series]))
        first, last = (windows[0].start, windows[-1].start) if windows else (None, None)
        number = sum(window.number for window in windows)
        error = failure.message if failure else ""
        found.failures.update([error] if error else [])
        found.series.append(
            SeriesFacts(series, source or "", destination or "", number, states, first, last, error, len(rejects[series]))
        )
    found.root = digest.root(lines)
    return found


def _columns(interval: Interval, window: int) -> list[Interval]:
    """The time in up to `MOST` parts of whole windows."""
    windows = max(1, -(-interval.seconds // window))
    parts = min(MOST, windows)
    edges = [interval.start + windows * part // parts * window for part in range(parts + 1)]
    return [Interval(start, end) for start, end in pairwise(edges)]


def _states(found: Facts, windows: list[Window], done: IntervalSet, failed: IntervalSet, rejected: list[int]) -> Iterator[State]:
    starts = [column.start for column in found.columns]
    filled = {bisect_right(starts, window.start) - 1 for window in windows}
    refused = {bisect_right(starts, ts) - 1 for ts in rejected if found.interval.start <= ts < found.interval.end}
    for number, column in enumerate(found.columns):
        left = IntervalSet.of([column]).minus(done)
        if number in refused:
            yield "r"
        elif number in filled:
            yield "d"
        elif left and left.minus(failed) != left:
            yield "f"
        else:
            yield "t" if left else "e"
