"""The files of a tree: names, footers, the rows of one series, and copies without some rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Final, NamedTuple
from urllib.parse import quote, unquote
from uuid import uuid4

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esmond_etl import TS, Batch, Interval, Series, SinkError, Summary, text_column, ts_bounds
from esmond_etl.tables import columns
from esmond_etl.tables.columns import Kind
from esmond_etl.tables.groups import groups_with
from esmond_etl_parquet import encoding
from esmond_etl_parquet.tree import Tree

DAY: Final = 86400

#: The entry of a file's footer with its metadata keys.
KEYS: Final = b"esmond_etl.metadata_keys"

#: Groups of metadata keys in the cache at most.
REMEMBERED: Final = 1000

_NAME = re.compile(r"(-?\d+)-(-?\d+)-([0-9a-f]{16})(?:-[0-9a-f]{8})?\.parquet")


class Shelf(NamedTuple):
    """The folder of all datapoints of one event type and summary."""

    event_type: str
    summary: Summary

    @classmethod
    def of(cls, series: Series) -> Shelf:
        """The shelf that the datapoints of `series` belong to."""
        return cls(series.event_type, series.summary)

    @property
    def folder(self) -> str:
        """Its folder in the tree; the summary "average/86400" is `average-86400` there."""
        return f"event_type={quote(self.event_type, safe='')}/summary={str(self.summary).replace('/', '-')}"

    def day(self, number: int) -> str:
        """The folder of one day, counted from 1970-01-01."""
        return f"{self.folder}/date={datetime.fromtimestamp(number * DAY, UTC).date()}"

    def days(self, tree: Tree, interval: Interval) -> Iterator[int]:
        """The days in `interval` for which the tree has a folder, in order."""
        for name in tree.names(self.folder):
            number = _day(name)
            if number is not None and interval.overlaps(Interval(number * DAY, number * DAY + DAY)):
                yield number


def shelves(tree: Tree) -> Iterator[Shelf]:
    """Every shelf of the tree."""
    for event_type in _hive(tree, "", "event_type"):
        for summary in _hive(tree, f"event_type={event_type}", "summary"):
            yield Shelf(unquote(event_type), Summary.parse(summary.replace("-", "/")))


def _hive(tree: Tree, folder: str, key: str) -> Iterator[str]:
    for name in tree.names(folder):
        if name.startswith(f"{key}="):
            yield name.removeprefix(f"{key}=")


def _day(name: str) -> int | None:
    try:
        return (date.fromisoformat(name.removeprefix("date=")) - date(1970, 1, 1)).days
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of one shelf and day."""

    folder: str
    name: str
    interval: Interval  #: no row is outside
    stamp: tuple[int, int] = (0, 0)  #: modification time (ns) and size: another file of that name has another version

    @property
    def path(self) -> str:
        """Where it is in the tree."""
        return f"{self.folder}/{self.name}"

    @property
    def group(self) -> str:
        """The part of its name that only files with the same metadata keys have; "" for a file of another program."""
        match = _NAME.fullmatch(self.name)
        return match[3] if match else ""


def group_of(keys: Collection[str]) -> str:
    """The part of a name that only files with the same metadata keys have."""
    return sha256("\n".join(sorted(keys)).encode()).hexdigest()[:16]


def name_of(interval: Interval, group: str, fresh: bool) -> str:
    """The name of the file with the rows of a group of series in `interval`; `fresh`: a name that no file ever had."""
    return f"{interval.start}-{interval.end}-{group}{f'-{uuid4().hex[:8]}' if fresh else ''}.parquet"


def parts(tree: Tree, shelf: Shelf, day: int, interval: Interval) -> list[Part]:
    """The files that may have rows in `interval`, judged by their names."""
    folder = shelf.day(day)
    found = []
    for info in sorted(tree.files(folder), key=lambda each: each.base_name):
        name = info.base_name
        if name.endswith(".parquet"):
            match = _NAME.fullmatch(name)
            covered = Interval(int(match[1]), int(match[2])) if match else Interval(day * DAY, day * DAY + DAY)
            if covered.overlaps(interval):
                found.append(Part(folder, name, covered, (info.mtime_ns, info.size)))
    return found


def keys_in(file: pq.ParquetFile) -> frozenset[str] | None:
    """The metadata keys in a file's footer; None if it has none."""
    text = (file.metadata.metadata or {}).get(KEYS)
    return frozenset(msgspec.json.decode(text, type=list[str])) if text else None


@dataclass
class Groups:
    """A cache of the metadata keys of files, by a part of their names, so that few footers are read."""

    tree: Tree
    _keys: dict[str, frozenset[str]] = field(default_factory=dict)

    def may_concern(self, part: Part, keys: Collection[str]) -> bool:
        """Whether the file may hold rows of `keys`."""
        known = self._keys.get(part.group)
        if known is None:
            with self.tree.input(part.path) as stream, pq.ParquetFile(stream) as file:
                known = keys_in(file)
            if known is None or not part.group:
                return known is None or not known.isdisjoint(keys)
            if len(self._keys) >= REMEMBERED:
                self._keys.clear()
            self._keys[part.group] = known
        return not known.isdisjoint(keys)


def held_kind(tree: Tree, shelf: Shelf) -> Kind | None:
    """The kind of the files of a shelf; None if it has no files."""
    for day in shelf.days(tree, Interval(-(1 << 62), 1 << 62)):
        for part in parts(tree, shelf, day, Interval(day * DAY, day * DAY + DAY)):
            with tree.input(part.path) as stream, pq.ParquetFile(stream) as file:
                kind = columns.kind_of(file.schema_arrow)
            if kind is None:
                raise SinkError(f"{tree.shown}/{part.path}: not a file of this sink: move it elsewhere")
            return kind
    return None


def footer(keys: Collection[str]) -> dict[str, str]:
    """The footer entry with the metadata keys of a file."""
    return {KEYS.decode(): msgspec.json.encode(sorted(keys)).decode()}


def _has_keys(column: pa.DictionaryArray, keys: pa.Array) -> pa.Array:
    """A mask: the row's metadata key is one of `keys`."""
    if isinstance(column, pa.DictionaryArray):
        return pc.is_in(column.dictionary, value_set=keys).take(column.indices)
    return pc.is_in(column, value_set=keys)


def _rows(batch: pa.RecordBatch, keys: pa.Array, interval: Interval) -> pa.Array:
    """A mask: the row belongs to one of `keys`, and lies in `interval`."""
    start, end = ts_bounds(interval)
    ts = batch.column("ts")
    inside = pc.and_(pc.greater_equal(ts, start), pc.less(ts, end))
    return pc.and_(inside, _has_keys(batch.column("metadata_key"), keys))


def read_rows(tree: Tree, part: Part, series: Series, interval: Interval) -> Iterator[Batch]:
    """The rows of one series in `interval`, one batch per row group, in the order of the file."""
    key = series.metadata.key
    wanted = text_column([key])
    with tree.input(part.path) as stream, pq.ParquetFile(stream) as file:
        listed = keys_in(file)
        if listed is not None and key not in listed:
            return
        for batch in file.iter_batches(row_groups=groups_with(file, key), columns=["ts", "val", "metadata_key"], use_threads=False):
            mine = batch.filter(_rows(batch, wanted, interval))
            if mine.num_rows:
                yield columns.readable(series, mine.column("ts").cast(TS), mine.column("val"))


class Left(NamedTuple):
    """The result of removing rows from a file."""

    dropped: int  #: rows removed
    rows: int  #: rows left; if there are any, and some were removed, the new file has been written


def take_out(tree: Tree, part: Part, keys: Collection[str], interval: Interval, target: str) -> Left:
    """Write a file to the local file `target`, without the rows of `keys` in `interval`."""
    unwanted = text_column(sorted(keys))
    with tree.input(part.path) as stream, pq.ParquetFile(stream) as file:
        kind = columns.kind_of(file.schema_arrow)
        listed = keys_in(file)
        if kind is None or "metadata_key" not in file.schema_arrow.names:
            raise SinkError(f"{tree.shown}/{part.path}: not a file of this sink: move it elsewhere")
        rows: int = file.metadata.num_rows
        if listed is not None and listed.isdisjoint(keys):
            return Left(0, rows)
        probe = file.iter_batches(columns=["ts", "metadata_key"], use_threads=False)
        dropped = sum(pc.sum(_rows(batch, unwanted, interval)).as_py() or 0 for batch in probe)
        if 0 < dropped < rows:
            with encoding.writer(target, kind) as writer:
                for batch in file.iter_batches(use_threads=False):
                    left = batch.filter(pc.invert(_rows(batch, unwanted, interval)))
                    writer.write_batch(encoding.restored(left, kind))
                writer.add_key_value_metadata(footer(listed) if listed is not None else {})
        return Left(dropped, rows - dropped)
