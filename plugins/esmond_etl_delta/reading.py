"""The datapoints of one series from a table."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from esmond_etl import TS, Batch, EsmondEtlError, Interval, Series, Summary, ts_bounds
from esmond_etl.tables.columns import readable
from esmond_etl_delta.files import LARGE, read
from esmond_etl_delta.names import partition_of, reported, table_of
from esmond_etl_delta.tables import Tables

if TYPE_CHECKING:
    from deltalake import DeltaTable

DAY: Final = 86400

_EPOCH: Final = date(1970, 1, 1).toordinal()

#: Bytes of decoded days in the cache at most.
MOST: Final = 64 << 20

_COLUMNS: Final = ["ts", "val", "metadata_key"]


class Rows(NamedTuple):
    """One day of one event type and summary."""

    table: pa.Table  #: `ts` and `val`, in the order of metadata keys and times
    places: dict[str, tuple[int, int]]  #: of each metadata key: its first row, and the number of its rows


class Snapshot:
    """One table at one version, with a cache of the days read last; thread-safe."""

    def __init__(self, table: DeltaTable) -> None:
        self.table, self.version = table, table.version()
        self._lock = threading.Lock()
        self._recent: OrderedDict[tuple[str, int], Rows] = OrderedDict()
        self._files: dict[tuple[str, int], list[Any]] = defaultdict(list)
        for fragment in table.to_pyarrow_dataset().get_fragments():
            keys = pads.get_partition_keys(fragment.partition_expression)
            self._files[keys["summary"], keys["date"].toordinal() - _EPOCH].append(fragment)
        sizes = pa.table(table.get_add_actions(flatten=True)).select(["path", "size_bytes"]).to_pylist()
        self._sizes = {each["path"]: each["size_bytes"] for each in sizes}

    def days(self, summary: Summary, interval: Interval) -> list[int]:
        """The days in `interval` for which the table has rows, in order."""
        name = partition_of(summary)
        found = (day for partition, day in self._files if partition == name)
        return sorted(day for day in found if interval.overlaps(Interval(day * DAY, day * DAY + DAY)))

    def read(self, series: Series, day: int) -> pa.Table:
        """`ts` and `val` of a series on one day, oldest first."""
        place = (partition_of(series.summary), day)
        key = series.metadata.key
        if sum(self._sizes.get(fragment.path, 0) for fragment in self._files[place]) > LARGE:
            return self._load(place, key).drop_columns("metadata_key")
        with self._lock:  # a thread that waits here most likely wants the same day
            rows = self._recent.get(place)
            if rows is None:
                rows = self._recent[place] = _indexed(self._load(place))
                while len(self._recent) > 1 and sum(each.table.nbytes for each in self._recent.values()) > MOST:
                    self._recent.popitem(last=False)
            self._recent.move_to_end(place)
        first, count = rows.places.get(key, (0, 0))
        return rows.table.slice(first, count)

    def _load(self, place: tuple[str, int], key: str | None = None) -> pa.Table:
        table = pa.concat_tables([read(fragment, _COLUMNS, key) for fragment in self._files[place]]).combine_chunks()
        return table.take(pc.sort_indices(table, [("metadata_key", "ascending"), ("ts", "ascending")]))


def _indexed(table: pa.Table) -> Rows:
    runs = pc.run_end_encode(table.column("metadata_key").combine_chunks())
    places, first = {}, 0
    for end, key in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
        places[key] = (first, end - first)
        first = end
    return Rows(table.drop_columns("metadata_key"), places)


class Reader:
    """Reads the tables, each at its newest or at an earlier version."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._snapshots: dict[str, Snapshot] = {}

    def snapshot(self, name: str, newest: bool = True) -> Snapshot | None:
        """A table; None if it does not exist. With `newest`, its log is read again first."""
        with self._lock:
            held = self._snapshots.get(name)
            if held is not None and (not newest or self._tables.as_of is not None):
                return held
            table = self._tables.open(name)
            if table is None:
                return None
            if held is None or held.version != table.version():
                held = self._snapshots[name] = Snapshot(table)
            return held

    def datapoints(self, series: Series, interval: Interval, error: type[EsmondEtlError], newest: bool = True) -> Iterator[Batch]:
        """The tables' datapoints of `series` in `interval`, oldest first, with at most a day of them in memory; raises `error`."""
        with reported(error, self._tables.shown, series):
            snapshot = self.snapshot(table_of(series.event_type, series.summary), newest)
        if snapshot is None:
            return
        start, end = ts_bounds(interval)
        for day in snapshot.days(series.summary, interval):
            with reported(error, self._tables.shown, series):
                rows = snapshot.read(series, day)
                ts = rows.column("ts").combine_chunks().cast(TS)
                inside = pc.and_(pc.greater_equal(ts, start), pc.less(ts, end))
                batch = readable(series, ts.filter(inside), rows.column("val").combine_chunks().filter(inside))
            if len(batch):
                yield batch
