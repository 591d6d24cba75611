"""Sends the documents of some tests of a task."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from esmond_etl import Batch, Interval, Reject, Series, SinkError
from esmond_etl_opensearch import changes, present
from esmond_etl_opensearch.bulk import Bulk, Operation, Taken
from esmond_etl_opensearch.changes import Test, Wanted
from esmond_etl_opensearch.codec.places import DOCUMENT
from esmond_etl_opensearch.present import Present
from esmond_etl_opensearch.search import PointInTime
from esmond_etl_opensearch.server import Server

#: Documents of one test are made in portions of about this size.
_DOCUMENTS: Final = 4000
#: How often a task is read again after another program has changed its documents.
_LOOKS: Final = 6


@dataclass
class Target:
    """The target of documents, shared by the tasks of a run."""

    server: Server
    bulk: Bulk
    pattern: str  #: the streams that may hold documents of the tests
    own: str  #: the streams that documents are written to, as a pattern
    stream: str  #: the name of such a stream, with {type} for the type of the test

    def refresh(self) -> None:
        """Make written documents visible."""
        self.server.ask("POST", f"/{self.own}/_refresh", allow_no_indices="true", ignore_unavailable="true")


class _Slice(NamedTuple):
    """A part of the time of one test."""

    test: Test
    interval: Interval
    batches: Mapping[Series, list[Batch]]


@dataclass
class _Pass:
    """One reading of the present documents, and the operations sent after it."""

    count: int  #: documents that must be there afterwards
    taken: Taken = field(default_factory=Taken)
    outcome: changes.Outcome = field(default_factory=changes.Outcome)

    @property
    def has_changed(self) -> bool:
        return any(self.taken.done.values())


class Sent(NamedTuple):
    """The results of sending."""

    written: int  #: datapoints
    unchanged: int
    rejects: list[Reject]
    missing: Counter[tuple[str, int]]  #: copies: (measuring host, hour) -> results that were missing


class Portion:
    """The datapoints of some tests in the interval of a task.

    A missing document is created; one without some of the event types is changed, with a check of its version. The present
    documents are read first, and again if another program changes them meanwhile.
    """

    def __init__(self, target: Target, interval: Interval, batches: Mapping[Series, list[Batch]]) -> None:
        """`batches` has an entry for each series that is complete."""
        self._target, self._interval, self._batches = target, interval, batches
        self._missing: Counter[tuple[str, int]] = Counter()

    def send(self) -> Sent:
        """Return when the server has acknowledged the documents and they can be read back; raises SinkError or ServerError."""
        tests = self._tests()
        for _ in range(_LOOKS):
            last = self._pass(tests)
            if not last.taken.conflicts and (not last.has_changed or self._is_whole(tests, last)):
                return self._sent(last)
        raise SinkError(f"{self._target.server.url}: other programs keep changing the same documents: run it again later")

    def _tests(self) -> list[Test]:
        by_key: dict[str, list[Series]] = {}
        for series in sorted(self._batches, key=str):
            by_key.setdefault(series.metadata.key, []).append(series)
        return [Test(series[0].metadata, tuple(series), self._target.stream) for series in by_key.values()]

    def _pass(self, tests: list[Test]) -> _Pass:
        target, keys = self._target, [test.key for test in tests]
        target.refresh()
        there = present.count(target.server, target.pattern, keys, self._interval)
        current = _Pass(there)
        with PointInTime(target.server, target.pattern) as view:
            current.taken = target.bulk.send(self._operations(tests, view if there else None, current.outcome))
        self._missing |= current.outcome.missing  # a later pass would count the same missing results again
        current.count += current.taken.done["create"] - current.taken.done["delete"]
        return current

    def _operations(self, tests: Iterable[Test], view: PointInTime | None, outcome: changes.Outcome) -> Iterator[Operation]:
        for test in tests:
            copies = any(series.event_type == DOCUMENT for series in test.series)
            for each in self._slices(test):
                found = present.of_test(view, test.key, each.interval, names_alone=copies) if view else Present()
                yield from changes.operations(Wanted(test, each.batches), found, outcome)

    def _slices(self, test: Test) -> Iterator[_Slice]:
        """The time of the task in parts that hold few documents of the test."""
        batches = {series: self._batches.get(series, []) for series in test.series}
        longest = max(batches.values(), key=lambda each: sum(map(len, each)), default=[])
        moments = [ts for batch in longest for ts in batch.moments]
        inner = sorted({*moments[_DOCUMENTS::_DOCUMENTS]} - {self._interval.start})
        for start, end in pairwise((self._interval.start, *inner, self._interval.end)):
            yield _Slice(test, Interval(start, end), {series: list(_within(each, start, end)) for series, each in batches.items()})

    def _is_whole(self, tests: list[Test], last: _Pass) -> bool:
        """Whether the server answers with the expected number of documents; False if there are more."""
        self._target.refresh()
        keys = [test.key for test in tests]
        there = present.count(self._target.server, self._target.pattern, keys, self._interval)
        if there < last.count:
            raise SinkError(
                f"{self._target.server.url}: {last.count - there:,} of {last.count:,} documents that the server has acknowledged"
                f" are not there in {self._interval}"
            )
        return there == last.count

    def _sent(self, last: _Pass) -> Sent:
        rejects = list(last.outcome.rejects)
        for series, batches in self._batches.items():
            rejects += _refused(series, batches, last.taken.refused)
        given = sum(len(batch) for batches in self._batches.values() for batch in batches)
        unchanged = min(last.outcome.unchanged, given - len(rejects))
        return Sent(given - unchanged - len(rejects), unchanged, rejects, self._missing)


def _within(batches: Iterable[Batch], start: int, end: int) -> Iterator[Batch]:
    for batch in batches:
        moments = batch.moments
        first, last = bisect_left(moments, start), bisect_left(moments, end)
        if first == 0 and last == len(moments):
            yield batch
        elif first < last:
            yield Batch(batch.series, batch.points.slice(first, last - first), batch.in_order)


def _refused(series: Series, batches: Iterable[Batch], refused: Mapping[tuple[str, int], str]) -> Iterator[Reject]:
    """The datapoints of documents that the server has refused."""
    moments = {ts for key, ts in refused if key == series.metadata.key}
    for batch in batches if moments else ():
        for point in batch.to_points():
            if point.ts in moments:
                yield Reject(series, point.ts, changes.text_of(point.val), refused[series.metadata.key, point.ts])
