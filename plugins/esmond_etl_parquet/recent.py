"""A cache of the row groups read last: a file holds many series, and is decoded once for all that are read one after the other."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esmond_etl_parquet.files import Part
from esmond_etl_parquet.place import Place

#: Bytes of decoded columns in the cache at most.
MOST: Final = 64 << 20

#: Files whose index of series is kept.
FILES: Final = 256

#: The rows of each metadata key in a row group: (first, number), in order.
Runs = dict[str, list[tuple[int, int]]]

T = TypeVar("T")


class Recent:
    """The row groups of a tree that were decoded last; thread-safe."""

    def __init__(self, tree: Place) -> None:
        self._tree = tree
        self._lock = threading.Lock()
        self._runs: OrderedDict[Part, list[Runs]] = OrderedDict()
        self._groups: OrderedDict[tuple[Part, int], pa.RecordBatch] = OrderedDict()
        self._size = 0

    def rows(self, part: Part, key: str) -> Iterator[pa.RecordBatch]:
        """`ts` and `val` of the rows of one metadata key, in the order of the file; raises OSError."""
        for group, runs in enumerate(self._runs_of(part)):
            for first, count in runs.get(key, ()):
                yield self._group(part, group).slice(first, count)

    def _runs_of(self, part: Part) -> list[Runs]:
        with self._lock:
            if part not in self._runs:
                self._runs[part] = self._opened(part, _all_runs)
                if len(self._runs) > FILES:
                    self._runs.popitem(last=False)
            self._runs.move_to_end(part)
            return self._runs[part]

    def _group(self, part: Part, group: int) -> pa.RecordBatch:
        with self._lock:  # a thread that waits here most likely wants the same row group
            kept = self._groups.get((part, group))
            if kept is None:
                kept = self._opened(part, lambda file: _columns(file, group))
                self._groups[part, group] = kept
                self._size += kept.nbytes
                while self._size > MOST and len(self._groups) > 1:
                    self._size -= self._groups.popitem(last=False)[1].nbytes
            self._groups.move_to_end((part, group))
            return kept

    def _opened(self, part: Part, read: Callable[[pq.ParquetFile], T]) -> T:
        with self._tree.input(part.path) as stream, pq.ParquetFile(stream) as file:
            return read(file)


def _columns(file: pq.ParquetFile, group: int) -> pa.RecordBatch:
    rows = file.read_row_group(group, columns=["ts", "val"], use_threads=False).combine_chunks()
    return rows.to_batches()[0] if rows.num_rows else pa.RecordBatch.from_pylist([], schema=rows.schema)


def _all_runs(file: pq.ParquetFile) -> list[Runs]:
    return [_group_runs(file, group) for group in range(file.num_row_groups)]


def _group_runs(file: pq.ParquetFile, group: int) -> Runs:
    column = file.read_row_group(group, columns=["metadata_key"], use_threads=False)["metadata_key"].combine_chunks()
    encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
    runs = pc.run_end_encode(encoded.indices)
    names = encoded.dictionary.to_pylist()
    found: Runs = {}
    first = 0
    for end, place in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
        if place is not None:
            found.setdefault(names[place], []).append((first, end - first))
        first = end
    return found
