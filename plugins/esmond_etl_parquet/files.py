"""The files of a tree: names, footers, the rows of one series, and copies without some rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from esmond_etl import TS, Batch, Interval, Series, SinkError, Summary, text_column
from esmond_etl.tables import columns
from esmond_etl.tables import parts as shared
from esmond_etl.tables.columns import Layout
from esmond_etl.tables.load import DAY, Shelf
from esmond_etl.tables.parts import Cut, Left, NewFile, groups_with, keys_in, rows_of
from esmond_etl_parquet.place import Place
from esmond_etl_parquet.tree import Tree

#: Groups of metadata keys in the cache at most.
REMEMBERED: Final = 1000

_NAME = re.compile(r"(-?\d+)-(-?\d+)-([0-9a-f]{16})(?:-[0-9a-f]{8})?\.parquet")


def folder_of(shelf: Shelf) -> str:
    """The folder of a shelf in the tree; the summary "average/86400" is `average-86400` there."""
    return f"event_type={quote(shelf.event_type, safe='')}/summary={str(shelf.summary).replace('/', '-')}"


def day_folder(shelf: Shelf, day: int) -> str:
    """The folder of one day, counted from 1970-01-01."""
    return f"{folder_of(shelf)}/date={datetime.fromtimestamp(day * DAY, UTC).date()}"


def days(tree: Place, shelf: Shelf, interval: Interval) -> Iterator[int]:
    """The days in `interval` for which the tree has a folder, in order."""
    for name in tree.names(folder_of(shelf)):
        number = _day(name)
        if number is not None and interval.overlaps(Interval(number * DAY, number * DAY + DAY)):
            yield number


def shelves(tree: Place) -> Iterator[Shelf]:
    """Every shelf of the tree."""
    for event_type in _hive(tree, "", "event_type"):
        for summary in _hive(tree, f"event_type={event_type}", "summary"):
            yield Shelf(unquote(event_type), Summary.parse(summary.replace("-", "/")))


def _hive(tree: Place, folder: str, key: str) -> Iterator[str]:
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


def parts(tree: Place, shelf: Shelf, day: int, interval: Interval) -> list[Part]:
    """The files that may have rows in `interval`, judged by their names."""
    folder = day_folder(shelf, day)
    found = []
    for info in sorted(tree.files(folder), key=lambda each: each.base_name):
        name = info.base_name
        if name.endswith(".parquet"):
            match = _NAME.fullmatch(name)
            covered = Interval(int(match[1]), int(match[2])) if match else Interval(day * DAY, day * DAY + DAY)
            if covered.overlaps(interval):
                found.append(Part(folder, name, covered, (info.mtime_ns, info.size)))
    return found


@dataclass
class Groups:
    """A cache of the metadata keys of files, by a part of their names, so that few footers are read."""

    tree: Place
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


def held_layout(tree: Place, shelf: Shelf) -> Layout | None:
    """The layout of the files of a shelf; None if it has no files."""
    for day in days(tree, shelf, Interval(-(1 << 62), 1 << 62)):
        for part in parts(tree, shelf, day, Interval(day * DAY, day * DAY + DAY)):
            with tree.input(part.path) as stream, pq.ParquetFile(stream) as file:
                layout = columns.layout_of(file.schema_arrow)
            if layout is None:
                raise SinkError(f"{tree.shown}/{part.path}: not a file of this sink: move it elsewhere")
            return layout
    return None


def read_rows(tree: Place, part: Part, series: Series, interval: Interval) -> Iterator[Batch]:
    """The rows of one series in `interval`, one batch per row group, in the order of the file."""
    key = series.metadata.key
    wanted = text_column([key])
    with tree.input(part.path) as stream, pq.ParquetFile(stream) as file:
        listed = keys_in(file)
        if listed is not None and key not in listed:
            return
        for batch in file.iter_batches(row_groups=groups_with(file, key), columns=["ts", "val", "metadata_key"], use_threads=False):
            mine = batch.filter(rows_of(batch, wanted, interval))
            if mine.num_rows:
                yield columns.readable(series, mine.column("ts").cast(TS), mine.column("val"))


def take_out(tree: Tree, part: Part, cut: Cut) -> Left:
    """Write a file to a new local file, without some rows; raises ValueError if it is not a file of the sink."""

    def create(layout: Layout) -> NewFile:
        path = tree.scratch()
        return NewFile(path, pa.OSFile(path, "wb"), layout)

    with tree.input(part.path) as stream, pq.ParquetFile(stream) as file:
        try:
            return shared.take_out(file, [cut], create)
        except ValueError as problem:
            raise ValueError(f"{part.path}: {problem}") from None
