"""The rows of a task, gathered by event type, summary and day until they become files."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import IO, Final, NamedTuple

import pyarrow as pa

from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import SinkError
from esmond_etl.model.interval import IntervalSet
from esmond_etl.model.series import Series, Summary
from esmond_etl.plugin.sink import Load, Receipt, Reject, Task
from esmond_etl.tables import columns
from esmond_etl.tables.catalog import Seen
from esmond_etl.tables.columns import VAL, Layout
from esmond_etl.tables.partitions import Partition
from esmond_etl.tables.parts import NewFile, Written
from esmond_etl.tables.rows import GROUP_BYTES, GROUP_ROWS, Subjects

DAY: Final = 86400

#: Bytes of rows in memory, at most, over all partitions of a load.
BUFFERED: Final = 16 << 20

#: Bytes of a batch that is converted in one piece, at most.
LARGE: Final = 2 << 20

#: Files that are open for writing at once, at most.
OPEN_FILES: Final = 32

#: A conversion needs many times the memory of its input, and a whole processor.
_CONVERSIONS: Final = threading.BoundedSemaphore(os.cpu_count() or 1)


class Shelf(NamedTuple):
    """The datapoints of one event type and summary."""

    event_type: str
    summary: Summary

    @classmethod
    def of(cls, series: Series) -> Shelf:
        """The shelf that the datapoints of `series` belong to."""
        return cls(series.event_type, series.summary)


@dataclass
class Days:
    """The partitions of one shelf."""

    shelf: Shelf
    layouts: dict[int, Layout] = field(default_factory=dict)  #: by the Arrow type that `val` has in a batch
    partitions: dict[int, Partition] = field(default_factory=dict)  #: by day


@dataclass
class Lane:
    """A series being written, with values that are the same for every batch."""

    series: Series
    number: int  #: of its subject
    days: Days
    rows: int = 0
    first: int | None = None  #: ts of its earliest datapoint, and of its latest
    last: int | None = None


class _ByShelf(dict[Shelf, Days]):
    def __missing__(self, shelf: Shelf) -> Days:
        return self.setdefault(shelf, Days(shelf))


class DayFile(NamedTuple):
    """The complete file of one shelf and day."""

    shelf: Shelf
    day: int  #: since 1970-01-01
    layout: Layout
    written: Written
    keys: frozenset[str]  #: the metadata keys whose rows it may have


class DayLoad(Load):
    """Rows gathered by shelf and day: each day becomes one file. The sink decides where the files are, and how they are committed."""

    def __init__(self, task: Task, layout: Callable[[Batch], Layout], shown: str) -> None:
        """`layout` returns the layout of the files that a batch belongs to; it raises SinkError if the batch does not fit there."""
        self.task, self._layout, self._shown = task, layout, shown
        self._days = _ByShelf()
        self._subjects = Subjects()
        self._lanes: dict[int, Lane] = {}  # by identity: much cheaper to look up, and usually found
        self._by_series: dict[Series, Lane] = {}
        self._ended: set[Series] = set()
        self._rejected: list[Reject] = []
        self._buffered = 0
        self._spill: IO[bytes] | None = None
        self._lock = threading.Lock()

    @abstractmethod
    def create(self, shelf: Shelf, day: int, layout: Layout) -> NewFile:
        """Begin a file."""

    @abstractmethod
    def spill(self) -> IO[bytes]:
        """A new local file without a name, for rows that do not fit into memory."""

    def write(self, batch: Batch) -> None:
        """Add `batch`; raises SinkError if it cannot be stored."""
        try:
            lane = self._lanes.get(id(batch.series)) or self._lane(batch.series)
            layout = lane.days.layouts.get(batch.val.type.id) or self._learn(lane, batch)
            if batch.val.type == VAL[layout.kind]:
                self._take(lane, layout, batch)
            else:
                with _CONVERSIONS:
                    self._convert(lane, layout, batch)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise SinkError(f"{self._shown}: {batch.series}: {' '.join(str(error).split())}") from error

    def _lane(self, series: Series) -> Lane:
        with self._lock:
            lane = self._by_series.get(series)
            if lane is None:
                number = self._subjects.number(series.metadata)
                lane = self._by_series[series] = self._lanes[id(series)] = Lane(series, number, self._days[Shelf.of(series)])
            return lane

    def _learn(self, lane: Lane, batch: Batch) -> Layout:
        layout = lane.days.layouts[batch.val.type.id] = self._layout(batch)
        return layout

    def _convert(self, lane: Lane, layout: Layout, batch: Batch) -> None:
        for part in _parts(batch):
            converted = columns.convert(part, layout.kind)
            with self._lock:
                self._rejected += converted.rejected
            if len(converted.ts):
                self._take(lane, layout, Batch.of(batch.series, converted.ts, converted.val))

    def _take(self, lane: Lane, layout: Layout, batch: Batch) -> None:
        """Add the rows to their days."""
        moments, ts, val = batch.moments, batch.ts, batch.val
        # other threads wait for the lock: do nothing slow while holding it
        pieces = [(day, _piece(ts, start, end), _piece(val, start, end)) for day, start, end in _days(moments)]
        with self._lock:
            lane.rows += len(moments)
            lane.first = moments[0] if lane.first is None else min(moments[0], lane.first)
            lane.last = moments[-1] if lane.last is None else max(moments[-1], lane.last)
            for day, piece_ts, piece_val in pieces:
                self._add(lane, layout, day, piece_ts, piece_val)

    def _add(self, lane: Lane, layout: Layout, day: int, ts: pa.Array, val: pa.Array) -> None:
        partition = lane.days.partitions.get(day)
        if partition is None:
            create = partial(self.create, lane.days.shelf, day, layout)
            partition = lane.days.partitions[day] = Partition(layout, lane.series.event_type, create=create)
        if partition.rows.count + len(ts) > GROUP_ROWS or partition.rows.bytes >= GROUP_BYTES:
            self._relieve(partition)
        self._buffered += partition.rows.add(lane.number, ts, val)
        if self._buffered > BUFFERED:
            for each in self._partitions():
                self._put_by(each)

    def _partitions(self) -> Iterator[Partition]:
        return (partition for days in self._days.values() for partition in days.partitions.values())

    def _relieve(self, partition: Partition) -> None:
        if partition.file is None and sum(each.file is not None for each in self._partitions()) >= OPEN_FILES:
            self._put_by(partition)
        else:
            self._buffered -= partition.rows.bytes
            partition.write_group(self._subjects)

    def _put_by(self, partition: Partition) -> None:
        if partition.rows.count:
            self._buffered -= partition.rows.bytes
            self._spill = self._spill or self.spill()
            partition.put_by(self._spill)

    def end(self, series: Series) -> None:
        """Note that `series` is complete: its rows in the task's interval will be replaced."""
        with self._lock:
            self._ended.add(series)

    @property
    def delivered(self) -> dict[Series, IntervalSet]:
        """The series that are complete, and the time of the task."""
        return dict.fromkeys(self._ended, IntervalSet([self.task.interval]))

    def seen(self) -> dict[Series, Seen]:
        """What was written of each series that has ended; raises SinkError if one has not."""
        unended = self._by_series.keys() - self._ended
        if unended:
            raise SinkError(f"{min(map(str, unended))} was written to, but has not ended: it may lack datapoints")
        return {series: Seen(lane.rows, lane.first, lane.last) for series, lane in self._by_series.items()}

    def receipt(self, versions: dict[str, int] | None = None) -> Receipt:
        """What `commit` returns."""
        return Receipt(sum(lane.rows for lane in self._by_series.values()), rejected=self._rejected, versions=versions or {})

    def finished(self) -> Iterator[DayFile]:
        """Complete the file of each shelf and day, one after the other."""
        keys = self.replaced
        for shelf, days in self._days.items():
            for day, partition in days.partitions.items():
                written = partition.finish(self._subjects, keys[shelf], self._spill)
                if written is not None:
                    yield DayFile(shelf, day, partition.layout, written, keys[shelf])

    @cached_property
    def replaced(self) -> dict[Shelf, frozenset[str]]:
        """By shelf, the metadata keys whose datapoints are replaced; for `commit`, when all series have ended."""
        keys: dict[Shelf, set[str]] = defaultdict(set)
        for series in self._ended:
            keys[Shelf.of(series)].add(series.metadata.key)
        return {shelf: frozenset(found) for shelf, found in keys.items()}

    def forget(self) -> None:
        """Free the rows, and close the files that are not complete."""
        with self._lock:
            for partition in self._partitions():
                if partition.file is not None:
                    partition.file.abandon()
            self._days.clear()
            if self._spill is not None:
                self._spill.close()
                self._spill = None


def _parts(batch: Batch) -> Iterator[Batch]:
    """A small batch as it is: the digest needs the histograms opened, too. A large one day by day, because it becomes much larger."""
    if batch.points.nbytes <= LARGE:
        yield batch
        return
    for _, start, end in _days(batch.moments):
        yield Batch(batch.series, batch.points.slice(start, end - start))


def _days(moments: memoryview[int]) -> Iterator[tuple[int, int, int]]:
    """Each day, with the range of `moments` in it: first index, and one after the last."""
    start = 0
    while start < len(moments):
        day = moments[start] // DAY
        end = bisect_left(moments, (day + 1) * DAY, start)
        yield day, start, end
        start = end


def _piece(column: pa.Array, start: int, end: int) -> pa.Array:
    """Some rows of a column; a copy if they are few, because a slice would keep the whole column in memory."""
    if end - start == len(column):
        return column
    piece = column.slice(start, end - start)
    return piece if len(piece) * 2 > len(column) else pa.concat_arrays([piece])
