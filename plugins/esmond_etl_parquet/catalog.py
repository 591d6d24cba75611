"""The table of metadata in a tree: `metadata/_table.pq`.

Its name hides it from readers of datapoints: `**/*.parquet` does not match it, and Arrow's datasets skip names that begin with `_`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from esmond_etl import IntervalSet, Series, SeriesId
from esmond_etl.tables import catalog
from esmond_etl.tables.catalog import Entry, Seen
from esmond_etl_parquet.place import Place
from esmond_etl_parquet.tree import Change, Tree, sync_all

PATH: Final = "metadata/_table.pq"


def update(tree: Tree, delivered: Mapping[Series, IntervalSet], seen: Mapping[Series, Seen]) -> list[Change]:
    """The change of the table in a delivery; empty if the table stays the same."""
    rows = catalog.replaced(_table(tree), delivered, seen)
    if rows is None:
        return []
    path = tree.scratch()
    pq.write_table(rows, path, compression="zstd")
    sync_all([path])
    return [Change(PATH, path)]


def delivered(tree: Place) -> dict[SeriesId, IntervalSet]:
    """The time that has been delivered, of every series."""
    return catalog.delivered(_table(tree))


def entries(tree: Place) -> Iterator[Entry]:
    """Every row of the table."""
    return catalog.entries(_table(tree))


def _table(tree: Place) -> pa.Table:
    try:
        with tree.input(PATH) as stream, pq.ParquetFile(stream) as file:
            return catalog.completed(file.read(use_threads=False))
    except FileNotFoundError:
        return catalog.SCHEMA.empty_table()
