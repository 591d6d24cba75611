"""A source and a sink in memory that fail where they are told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import Field, PrivateAttr

from esmond_etl.model.batch import Batch, DataPoint
from esmond_etl.model.errors import SinkError, SourceError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Series, SeriesId
from esmond_etl.plugin.sink import Load, Receipt, Sink, Task
from esmond_etl.plugin.source import Source
from esmond_etl.testing.datapoints import points_of


class RecordedSource(Source):
    """Series and their datapoints, given in Python page by page; it fails where it is told to."""

    recorded: Any = Field(description="series -> its pages, each a list of (ts, val), oldest first")
    failures: Any = Field(default_factory=dict, description="series -> after how many pages reading it fails")

    _asked: list[tuple[Series, Interval]] = PrivateAttr(default_factory=list)

    @property
    def asked(self) -> list[tuple[Series, Interval]]:
        """The intervals read so far."""
        return self._asked

    def series(self, interval: Interval) -> Iterator[Series]:
        """Every series that was given."""
        yield from self.recorded

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The given datapoints of `series`, one batch per page; raises SourceError where it is told to."""
        self._asked.append((series, interval))
        pages = self.recorded[series]
        for index in range(len(pages) + 1):
            if index == self.failures.get(series):
                raise SourceError(f"{series}: told to fail after {index} pages")
            points = [point for point in (pages[index] if index < len(pages) else ()) if interval.start <= point[0] < interval.end]
            if points:
                yield Batch.from_points(series, points)


#: Sinks that share their data change them one at a time.
_ONE_AT_A_TIME: Final = threading.Lock()


class CollectedSink(Sink):
    """A sink that keeps committed datapoints in memory; sinks with the same `held` share it, as connections share a server."""

    held: Any = Field(default_factory=dict, description="series id -> ts -> val")
    failing: str = Field("", description='"begin", "write" or "commit": what raises SinkError')

    def points(self, series: Series) -> list[DataPoint]:
        """What it holds of `series`, oldest first."""
        return [DataPoint(*item) for item in sorted(self.held.get(series.id, {}).items())]

    def begin(self, task: Task) -> Load:
        """The way into memory for one task."""
        self.fail_at("begin")
        return _CollectedLoad(self, task)

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """What it holds of `series` in `interval`, in one batch."""
        points = [point for point in self.points(series) if interval.start <= point.ts < interval.end]
        if points:
            yield Batch.from_points(series, points)

    def fail_at(self, moment: str) -> None:
        """Raise SinkError if told to at this moment."""
        if self.failing == moment:
            raise SinkError(f"told to fail at {moment}")

    def take(self, interval: Interval, taken: Mapping[SeriesId, Mapping[int, Any]]) -> tuple[int, int]:
        """Replace what is held of some series in `interval`; returns how many datapoints are new, and how many were there."""
        written = unchanged = 0
        with _ONE_AT_A_TIME:
            for key, points in taken.items():
                before = self.held.get(key, {})
                same = sum(ts in before and before[ts] == val for ts, val in points.items())
                written, unchanged = written + len(points) - same, unchanged + same
                outside = {ts: val for ts, val in before.items() if not interval.start <= ts < interval.end}
                self.held[key] = {**outside, **points}
        return written, unchanged


class _CollectedLoad(Load):
    """One task on its way into memory."""

    def __init__(self, sink: CollectedSink, task: Task) -> None:
        self._sink, self._task = sink, task
        self._points: dict[SeriesId, dict[int, Any]] = {each.id: {} for each in task.series}
        self._ended: set[SeriesId] = set()

    def write(self, batch: Batch) -> None:
        """Take `batch`."""
        self._sink.fail_at("write")
        self._points[batch.series.id].update(points_of([batch]))

    def end(self, series: Series) -> None:
        """Let `series` be committed."""
        self._ended.add(series.id)

    def commit(self) -> Receipt:
        """Replace the datapoints of the ended series in the task's interval."""
        self._sink.fail_at("commit")
        return Receipt(*self._sink.take(self._task.interval, {key: self._points[key] for key in self._ended}))

    def rollback(self) -> None:
        """Forget the task."""
        self._points.clear()
