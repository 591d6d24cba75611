"""The delivery of one task to the tree."""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import pyarrow as pa

from esmond_etl import Batch, Interval, Load, Receipt, Reject, Series, SinkError, Task
from esmond_etl.tables import columns
from esmond_etl.tables.catalog import Seen
from esmond_etl.tables.columns import VAL, Kind
from esmond_etl.tables.rows import GROUP_BYTES, GROUP_ROWS, Subjects
from esmond_etl_parquet import catalog, files
from esmond_etl_parquet.files import DAY, Part, Shelf
from esmond_etl_parquet.partitions import Partition
from esmond_etl_parquet.tree import Change, Tree, sentence, spoken, sync_all

#: Bytes of rows in memory, at most, over all partitions of a load.
BUFFERED: Final = 16 << 20

#: Bytes of a batch that is converted in one piece, at most.
LARGE: Final = 2 << 20

#: Files that are open for writing at once, at most.
OPEN_FILES: Final = 32

#: A conversion needs many times the memory of its input, and a whole processor.
_CONVERSIONS: Final = threading.BoundedSemaphore(os.cpu_count() or 1)


@dataclass
class Days:
    """The partitions of one shelf."""

    shelf: Shelf
    kinds: dict[int, Kind] = field(default_factory=dict)  #: by the Arrow type that `val` has in a batch
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


class ParquetLoad(Load):
    """Rows gathered by shelf and day; at commit each day becomes one file that replaces the earlier rows."""

    def __init__(self, tree: Tree, groups: files.Groups, task: Task, kind: Callable[[Batch], Kind]) -> None:
        """`kind` returns the kind of the files that a batch belongs to; it raises SinkError if the batch does not fit there."""
        self.tree, self.task, self._groups, self._kind = tree, task, groups, kind
        self._days = _ByShelf()
        self._subjects = Subjects()
        self._lanes: dict[int, Lane] = {}  # by identity: much cheaper to look up, and usually found
        self._by_series: dict[Series, Lane] = {}
        self._ended: set[Series] = set()
        self._rejected: list[Reject] = []
        self._buffered = 0
        self._spill: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._published = False

    def write(self, batch: Batch) -> None:
        """Add `batch`; raises SinkError if it cannot be stored."""
        try:
            lane = self._lanes.get(id(batch.series)) or self._lane(batch.series)
            kind = lane.days.kinds.get(batch.val.type.id) or self._learn(lane, batch)
            if batch.val.type == VAL[kind]:
                self._take(lane, kind, batch)
            else:
                with _CONVERSIONS:
                    self._convert(lane, kind, batch)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise sentence(SinkError, error, self.tree.shown, batch.series) from error

    def _lane(self, series: Series) -> Lane:
        with self._lock:
            lane = self._by_series.get(series)
            if lane is None:
                number = self._subjects.number(series.metadata)
                lane = self._by_series[series] = self._lanes[id(series)] = Lane(series, number, self._days[Shelf.of(series)])
            return lane

    def _learn(self, lane: Lane, batch: Batch) -> Kind:
        kind = lane.days.kinds[batch.val.type.id] = self._kind(batch)
        return kind

    def _convert(self, lane: Lane, kind: Kind, batch: Batch) -> None:
        for part in _parts(batch):
            converted = columns.convert(part, kind)
            with self._lock:
                self._rejected += converted.rejected
            if len(converted.ts):
                self._take(lane, kind, Batch.of(batch.series, converted.ts, converted.val))

    def _take(self, lane: Lane, kind: Kind, batch: Batch) -> None:
        """Add the rows to their days."""
        moments, ts, val = batch.moments, batch.ts, batch.val
        # other threads wait for the lock: do nothing slow while holding it
        pieces = [(day, _piece(ts, start, end), _piece(val, start, end)) for day, start, end in _days(moments)]
        with self._lock:
            lane.rows += len(moments)
            lane.first = moments[0] if lane.first is None else min(moments[0], lane.first)
            lane.last = moments[-1] if lane.last is None else max(moments[-1], lane.last)
            for day, piece_ts, piece_val in pieces:
                self._add(lane, kind, day, piece_ts, piece_val)

    def _add(self, lane: Lane, kind: Kind, day: int, ts: pa.Array, val: pa.Array) -> None:
        partition = lane.days.partitions.get(day)
        if partition is None:
            partition = lane.days.partitions[day] = Partition(kind, lane.series.event_type, path=self.tree.scratch())
        if partition.rows.count + len(ts) > GROUP_ROWS or partition.rows.bytes >= GROUP_BYTES:
            self._relieve(partition)
        self._buffered += partition.rows.add(lane.number, ts, val)
        if self._buffered > BUFFERED:
            for each in self._partitions():
                self._put_by(each)

    def _partitions(self) -> Iterator[Partition]:
        return (partition for days in self._days.values() for partition in days.partitions.values())

    def _relieve(self, partition: Partition) -> None:
        if partition.writer is None and sum(each.writer is not None for each in self._partitions()) >= OPEN_FILES:
            self._put_by(partition)
        else:
            self._buffered -= partition.rows.bytes
            partition.write_group(self._subjects)

    def _put_by(self, partition: Partition) -> None:
        if partition.rows.count:
            self._buffered -= partition.rows.bytes
            self._spill = self._spill or self.tree.spill()
            partition.put_by(self._spill)

    def end(self, series: Series) -> None:
        """Note that `series` is complete: its rows in the task's interval will be replaced."""
        with self._lock:
            self._ended.add(series)

    def commit(self) -> Receipt:
        """Put the files into place, and return when they are durable. Raises SinkError if that fails."""
        seen = {series: Seen(lane.rows, lane.first, lane.last) for series, lane in self._by_series.items()}
        unended = seen.keys() - self._ended
        if unended:
            raise SinkError(f"{min(map(str, unended))} was written to, but has not ended: it may lack datapoints")
        with spoken(SinkError, self.tree.shown):
            new = self._finish_files()
            with self.tree.exclusive():
                changes = self._replacements(new)
                changes += catalog.update(self.tree, self._ended, seen)
                self._published = True
                self.tree.commit(changes)
        self._forget()
        return Receipt(written=sum(each.rows for each in seen.values()), rejected=self._rejected)

    def _finish_files(self) -> dict[tuple[Shelf, int], str]:
        """Every partition as a durable local file."""
        keys = self._keys()
        finished = {}
        for shelf, days in self._days.items():
            for day, partition in days.partitions.items():
                if partition.finish(self._subjects, keys[shelf], self._spill):
                    finished[shelf, day] = partition.path
        sync_all(finished.values())
        return finished

    def _keys(self) -> dict[Shelf, set[str]]:
        """By shelf, the metadata keys whose datapoints are replaced."""
        keys: dict[Shelf, set[str]] = defaultdict(set)
        for series in self._ended:
            keys[Shelf.of(series)].add(series.metadata.key)
        return keys

    def _replacements(self, new: dict[tuple[Shelf, int], str]) -> list[Change]:
        """The changes of a commit: for each day, first remove the earlier rows, then add the new ones."""
        changes: list[Change] = []
        for shelf, keys in self._keys().items():
            days = {day for new_shelf, day in new if new_shelf == shelf}
            for day in sorted(days.union(shelf.days(self.tree, self.task.interval))):
                changes += self._replacement(shelf, day, keys, new.get((shelf, day)))
        return changes

    def _replacement(self, shelf: Shelf, day: int, keys: set[str], staged: str | None) -> list[Change]:
        interval = self.task.interval.intersection(Interval(day * DAY, day * DAY + DAY))
        group = files.group_of(keys)
        parts = [part for part in files.parts(self.tree, shelf, day, interval) if self._groups.may_concern(part, keys)]
        same = next((part for part in parts if staged and (part.interval, part.group) == (interval, group)), None)
        away = [change for part in parts if part is not same for change in self._away(part, interval, keys)]
        if not staged:
            return away
        if same and not away:
            return [Change(same.path, staged)]
        # rows from another file go to a new name, which no reader can have listed together with that file
        gone = [Change(same.path, None)] if same else []
        return [*away, *gone, Change(f"{shelf.day(day)}/{files.name_of(interval, group, bool(away))}", staged)]

    def _away(self, part: Part, interval: Interval, keys: set[str]) -> Iterator[Change]:
        target = self.tree.scratch()
        left = files.take_out(self.tree, part, keys, interval, target)
        if left.dropped and left.rows:
            sync_all([target])
        if not left.rows:
            yield Change(part.path, None)
        elif left.dropped and self.tree.swaps:  # a reader that listed the old file must not find other rows under its name
            yield Change(part.path, None)
            yield Change(f"{part.folder}/{files.name_of(part.interval, part.group, fresh=True)}", target)
        elif left.dropped:
            yield Change(part.path, target)

    def rollback(self) -> None:
        """Remove what has been staged."""
        self._forget()

    def _forget(self) -> None:
        with self._lock:
            for partition in self._partitions():
                if partition.writer is not None:
                    partition.writer.close()
                if not self._published:
                    Path(partition.path).unlink(missing_ok=True)
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
