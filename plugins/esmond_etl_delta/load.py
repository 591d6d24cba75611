"""The delivery of one task to the tables."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO, Final, NamedTuple

import pyarrow as pa

from esmond_etl import Batch, Load, Receipt, Reject, Series, SinkError, Summary, Task, text_column
from esmond_etl.tables import columns
from esmond_etl.tables.catalog import NOTHING, Seen
from esmond_etl.tables.columns import Kind
from esmond_etl.tables.rows import GROUP_BYTES, GROUP_ROWS, Gathered, Rows, Subjects
from esmond_etl_delta.tables import MOMENT, partition_of, reported, schema_of, table_of

#: Bytes of rows that wait in memory at most; beyond that they go into a file without a name.
BUFFERED: Final = 16 << 20


class Shelf(NamedTuple):
    """The rows of one event type and summary."""

    event_type: str
    summary: Summary

    @property
    def table(self) -> str:
        """The table that they are in."""
        return table_of(self.event_type, self.summary)


@dataclass
class Lane:
    """A series being written."""

    number: int  #: of its subject
    seen: Seen = NOTHING
    ended: bool = False


@dataclass
class Delivery(Load):
    """The rows of a task, gathered by event type and summary until they are committed."""

    task: Task
    kind: Callable[
        [Batch], Kind
    ]  #: returns the kind of the table that a batch belongs to; raises SinkError if the batch does not fit
    deliver: Callable[[Delivery], dict[str, int]]  #: commits a delivery; returns the versions of the tables that this changed
    shown: str
    subjects: Subjects = field(default_factory=Subjects)
    lanes: dict[Series, Lane] = field(default_factory=dict)
    shelves: dict[Shelf, Gathered] = field(default_factory=dict)
    rejected: list[Reject] = field(default_factory=list)
    _kinds: dict[tuple[str, Summary, int], Kind] = field(default_factory=dict)
    _spill: IO[bytes] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, batch: Batch) -> None:
        """Add `batch`; raises SinkError if it cannot be stored."""
        with reported(SinkError, self.shown, batch.series):
            kind = self._kinds.get((batch.series.event_type, batch.series.summary, batch.val.type.id)) or self._learn(batch)
            converted = columns.convert(batch, kind)
            with self._lock:
                self.rejected += converted.rejected
                if len(converted.ts):
                    self._add(batch.series, kind, converted.ts, converted.val)

    def _learn(self, batch: Batch) -> Kind:
        kind = self._kinds[batch.series.event_type, batch.series.summary, batch.val.type.id] = self.kind(batch)
        return kind

    def _add(self, series: Series, kind: Kind, ts: pa.Array, val: pa.Array) -> None:
        lane = self._lane(series)
        lane.seen = lane.seen.with_rows(len(ts), ts[0].value, ts[-1].value)
        shelf = Shelf(series.event_type, series.summary)
        gathered = self.shelves.setdefault(shelf, Gathered(kind, series.event_type))
        for start in range(0, len(ts), GROUP_ROWS):
            gathered.rows.add(lane.number, ts.slice(start, GROUP_ROWS), val.slice(start, GROUP_ROWS))
            if gathered.rows.count >= GROUP_ROWS or gathered.rows.bytes >= GROUP_BYTES:
                self._put_by(gathered)
        if sum(each.rows.bytes for each in self.shelves.values()) > BUFFERED:
            for each in self.shelves.values():
                self._put_by(each)

    def _put_by(self, gathered: Gathered) -> None:
        if gathered.rows.count:
            self._spill = self._spill or TemporaryFile()  # noqa: SIM115 - closed with the delivery
            gathered.put_by(self._spill)

    def _lane(self, series: Series) -> Lane:
        lane = self.lanes.get(series)
        if lane is None:
            lane = self.lanes[series] = Lane(self.subjects.number(series.metadata))
        return lane

    def end(self, series: Series) -> None:
        """Note that `series` is complete: its rows in the task's interval will be replaced."""
        with self._lock:
            self._lane(series).ended = True

    def commit(self) -> Receipt:
        """Put the rows into the tables, and return when they are durable. Raises SinkError if that fails."""
        broken = [series for series, lane in self.lanes.items() if not lane.ended]
        if broken:
            raise SinkError(f"{min(map(str, broken))} was written to, but has not ended: it may lack datapoints")
        with reported(SinkError, self.shown):
            versions = self.deliver(self)
        self.rollback()
        return Receipt(sum(lane.seen.rows for lane in self.lanes.values()), rejected=self.rejected, versions=versions)

    def rollback(self) -> None:
        """Free the rows."""
        with self._lock:
            self.shelves.clear()
            if self._spill is not None:
                self._spill.close()
                self._spill = None

    def keys(self) -> dict[Shelf, set[str]]:
        """By event type and summary, the metadata keys whose datapoints are replaced."""
        found: dict[Shelf, set[str]] = defaultdict(set)
        for series in self.lanes:
            found[Shelf(series.event_type, series.summary)].add(series.metadata.key)
        return found

    def rows(self, shelf: Shelf) -> Iterator[pa.Table]:
        """The rows of one event type and summary, as the table has them."""
        gathered = self.shelves.get(shelf)
        for rows in gathered.groups(self._spill) if gathered else ():
            yield _placed(rows, self.subjects, gathered.kind, shelf) if gathered else None


def schema(kind: Kind) -> pa.Schema:
    """The columns of a table."""
    first = pa.schema([("summary", pa.string()), ("date", pa.date32())])
    return schema_of(pa.schema([*first, *columns.SCHEMAS[kind]]))


def _placed(rows: Rows, subjects: Subjects, kind: Kind, shelf: Shelf) -> pa.Table:
    """Rows with the columns by which the table is partitioned."""
    table = rows.table(subjects, kind, shelf.event_type)
    moments = table.column("ts").cast(MOMENT)
    same = pa.Array.from_buffers(pa.int32(), len(table), [None, pa.py_buffer(bytes(4 * len(table)))])
    summary = pa.DictionaryArray.from_arrays(same, text_column([partition_of(shelf.summary)])).cast(pa.string())
    arrays = [summary, moments.cast(pa.date32()), moments, *table.columns[1:]]
    return pa.table(arrays, names=["summary", "date", *table.schema.names]).cast(schema(kind))
