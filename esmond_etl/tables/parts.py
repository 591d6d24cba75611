"""Parquet files with the rows of several series: their metadata keys, and copies without some of the rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esmond_etl.model.columns import text_column, ts_bounds
from esmond_etl.model.interval import Interval
from esmond_etl.tables import columns, encoding
from esmond_etl.tables.columns import Layout
from esmond_etl.tables.rows import GROUP_ROWS

#: The entry of a file's footer with its metadata keys.
KEYS: Final = b"esmond_etl.metadata_keys"


def footer(keys: Collection[str]) -> dict[str, str]:
    """The footer entry with the metadata keys of a file."""
    return {KEYS.decode(): msgspec.json.encode(sorted(keys)).decode()}


def keys_in(file: pq.ParquetFile) -> frozenset[str] | None:
    """The metadata keys in a file's footer; None if it has none."""
    text = (file.metadata.metadata or {}).get(KEYS)
    return frozenset(msgspec.json.decode(text, type=list[str])) if text else None


def groups_with(file: pq.ParquetFile, key: str) -> list[int]:
    """The numbers of the row groups that may hold rows of a metadata key, by their statistics."""
    return [number for number in range(file.num_row_groups) if _may_hold(file.metadata.row_group(number), key)]


def _may_hold(group: pq.RowGroupMetaData, key: str) -> bool:
    for column in map(group.column, range(group.num_columns)):
        if column.path_in_schema == "metadata_key" and column.statistics is not None and column.statistics.has_min_max:
            return bool(column.statistics.min <= key <= column.statistics.max)
    return True


class Written(NamedTuple):
    """A complete file."""

    path: str
    size: int  #: bytes
    metadata: pq.FileMetaData


class NewFile:
    """A Parquet file that is being written."""

    def __init__(self, path: str, stream: pa.NativeFile, layout: Layout, is_delta: bool = False) -> None:
        """`path` is how the caller knows the file; `is_delta`: with the types that Delta tables have."""
        self.path, self._stream = path, stream
        self._metadata: list[pq.FileMetaData] = []
        self._writer = encoding.writer(stream, layout, self._metadata, is_delta)

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Write some rows, as one or more row groups."""
        self._writer.write(rows, GROUP_ROWS)

    def finish(self, keys: Collection[str] | None) -> Written:
        """Complete the file; `keys` go into its footer."""
        if keys is not None:
            self._writer.add_key_value_metadata(footer(keys))
        self._writer.close()
        size = self._stream.tell()
        self._stream.close()
        return Written(self.path, size, self._metadata[0])

    def abandon(self) -> None:
        """Close the file; nobody will read it, so it does not matter if a full disk makes that fail."""
        for each in (self._writer, self._stream):
            with suppress(OSError, pa.ArrowException):
                each.close()


class Cut(NamedTuple):
    """Rows to remove: those of `keys` in `interval`."""

    keys: Collection[str]
    interval: Interval


class Left(NamedTuple):
    """The result of removing rows from a file."""

    dropped: int  #: rows removed
    rows: int  #: rows left
    written: Written | None  #: the new file, if some rows were removed and some are left


def rows_of(batch: pa.RecordBatch, keys: pa.Array, interval: Interval) -> pa.Array:
    """A mask: the row belongs to one of `keys`, and lies in `interval`."""
    start, end = ts_bounds(interval)
    ts = batch.column("ts")
    inside = pc.and_(pc.greater_equal(ts, start), pc.less(ts, end))
    return pc.and_(inside, _has_keys(batch.column("metadata_key"), keys))


def _has_keys(column: pa.Array, keys: pa.Array) -> pa.Array:
    if isinstance(column, pa.DictionaryArray):
        return pc.is_in(column.dictionary, value_set=keys).take(column.indices)
    return pc.is_in(column, value_set=keys)


def take_out(file: pq.ParquetFile, cuts: Sequence[Cut], create: Callable[[Layout], NewFile]) -> Left:
    """Copy a file without some of its rows; raises ValueError if it is not one of ours."""
    layout = columns.layout_of(file.schema_arrow)
    if layout is None or "metadata_key" not in file.schema_arrow.names:
        raise ValueError("not a file of this sink: move it elsewhere")
    listed = keys_in(file)
    rows: int = file.metadata.num_rows
    unwanted = [(text_column(sorted(cut.keys)), cut.interval) for cut in cuts if listed is None or not listed.isdisjoint(cut.keys)]
    if not unwanted:
        return Left(0, rows, None)
    probe = file.iter_batches(columns=["ts", "metadata_key"], use_threads=False)
    dropped = sum(pc.sum(_any_of(batch, unwanted)).as_py() or 0 for batch in probe)
    if not 0 < dropped < rows:
        return Left(dropped, rows - dropped, None)
    new = create(layout)
    for batch in file.iter_batches(use_threads=False):
        new.write(encoding.restored(batch.filter(pc.invert(_any_of(batch, unwanted))), layout))
    return Left(dropped, rows - dropped, new.finish(listed))


def _any_of(batch: pa.RecordBatch, unwanted: Sequence[tuple[pa.Array, Interval]]) -> pa.Array:
    found = rows_of(batch, *unwanted[0])
    for keys, interval in unwanted[1:]:
        found = pc.or_(found, rows_of(batch, keys, interval))
    return found
