"""Merging many small files of one day into few: the rows stay the same, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esmond_etl import Interval
from esmond_etl.tables import columns, encoding
from esmond_etl.tables.columns import Layout
from esmond_etl.tables.load import DAY, Shelf
from esmond_etl.tables.parts import NewFile, keys_in
from esmond_etl.tables.rows import GROUP_BYTES, GROUP_ROWS
from esmond_etl_parquet import files
from esmond_etl_parquet.files import Part
from esmond_etl_parquet.tree import Change, Tree, sync_all

#: This many files of one event type, summary and day are left as they are.
FEW: Final = 2

#: How often a day is started again because it changed while its files were being merged.
TRIES: Final = 5


class Compacted(NamedTuple):
    """The result for one event type, summary and day."""

    folder: str
    before: int  #: files
    after: int


class _Mergeable(NamedTuple):
    part: Part
    identity: tuple[int, int]  # size and mtime: they change with the content
    keys: frozenset[str]
    layout: Layout


def compact(tree: Tree) -> Iterator[Compacted]:
    """Merge the files of every day that has more than two: afterwards it has one or two, with the same rows.

    It may be killed at any moment; readers and sinks may be at work. A day that other processes keep changing is left for the next
    time.
    """
    for shelf in files.shelves(tree):
        for day in files.days(tree, shelf, Interval(-(1 << 62), 1 << 62)):
            result = _compact_day(tree, shelf, day)
            if result is not None:
                yield result


def _compact_day(tree: Tree, shelf: Shelf, day: int) -> Compacted | None:
    for _ in range(TRIES):
        with suppress(FileNotFoundError):  # replaced just now, by a sink
            found = _mergeable(tree, shelf, day)
            chosen = _choose(found)
            if len(chosen) < 2:
                return None
            merged = _merge(tree, chosen)
            with tree.exclusive():
                now = _identities(tree, shelf, day)
                if all(now.get(each.part.name) == each.identity for each in chosen):
                    gone = [Change(each.part.path, None) for each in chosen]
                    tree.commit([*gone, Change(f"{files.day_folder(shelf, day)}/{_name(chosen)}", merged)])
                    return Compacted(files.day_folder(shelf, day), len(found), len(found) - len(chosen) + 1)
    return None


def _identities(tree: Tree, shelf: Shelf, day: int) -> dict[str, tuple[int, int]]:
    return {info.base_name: (info.size or 0, info.mtime_ns or 0) for info in tree.files(files.day_folder(shelf, day))}


def _mergeable(tree: Tree, shelf: Shelf, day: int) -> list[_Mergeable]:
    """The sink's own files of a day, of one group of series after the other."""
    identities = _identities(tree, shelf, day)
    if len(identities) <= FEW:
        return []
    found = []
    for part in files.parts(tree, shelf, day, Interval(day * DAY, day * DAY + DAY)):
        with tree.input(part.path) as stream, pq.ParquetFile(stream) as file:
            keys, layout = keys_in(file), columns.layout_of(file.schema_arrow)
        if keys is not None and layout is not None and part.name in identities:
            found.append(_Mergeable(part, identities[part.name], keys, layout))
    return sorted(found, key=lambda each: (each.part.group, each.part.interval))


def _choose(found: list[_Mergeable]) -> list[_Mergeable]:
    """All files, or all but one that is so large that it is not worth rewriting."""
    if len(found) <= FEW or len({each.layout for each in found}) > 1:
        return []
    largest = max(found, key=lambda each: each.identity[0])
    rest = [each for each in found if each is not largest]
    return rest if sum(each.identity[0] for each in rest) * 2 < largest.identity[0] else found


def _name(merged: list[_Mergeable]) -> str:
    intervals = [each.part.interval for each in merged]
    covered = Interval(min(each.start for each in intervals), max(each.end for each in intervals))
    return files.name_of(covered, files.group_of(frozenset().union(*(each.keys for each in merged))), fresh=True)


def _merge(tree: Tree, chosen: list[_Mergeable]) -> str:
    """A durable local file with the rows of all."""
    target = tree.scratch()
    layout = chosen[0].layout
    new = NewFile(target, pa.OSFile(target, "wb"), layout)
    for table in _gathered(_batches(tree, chosen)):
        new.write(table.cast(columns.SCHEMAS[layout]))
    new.finish(frozenset().union(*(each.keys for each in chosen)))
    sync_all([target])
    return target


def _batches(tree: Tree, chosen: list[_Mergeable]) -> Iterator[pa.RecordBatch]:
    for each in chosen:
        with tree.input(each.part.path) as stream, pq.ParquetFile(stream) as file:
            yield from (encoding.restored(batch, each.layout) for batch in file.iter_batches(GROUP_ROWS // 8, use_threads=False))


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows of `batches`, one row group at a time, with the rows of a series together."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= GROUP_ROWS or sum(each.nbytes for each in waiting) >= GROUP_BYTES:
            yield _sorted(waiting)
            waiting = []
    if waiting:
        yield _sorted(waiting)


def _sorted(batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
    keys = pa.table({"key": table.column("metadata_key").cast(pa.string()), "ts": table.column("ts")})
    return table.take(pc.sort_indices(keys, [("key", "ascending"), ("ts", "ascending")]))
