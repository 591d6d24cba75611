"""The datapoints of one series out of a tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import Batch, EsmondEtlError, Interval, Series
from esmond_etl_parquet import files
from esmond_etl_parquet.files import DAY, Shelf
from esmond_etl_parquet.tree import Tree, spoken

#: How often a day is listed while a sink goes on replacing its files.
TRIES: Final = 20


def datapoints(tree: Tree, series: Series, interval: Interval, error: type[EsmondEtlError]) -> Iterator[Batch]:
    """What the tree holds of `series` in `interval`, oldest first, at most a day of it in memory; raises `error`."""
    with spoken(error, tree.shown, series):
        days = list(Shelf.of(series).days(tree, interval))
    for day in days:
        with spoken(error, tree.shown, series):
            batches = _day(tree, series, day, interval.intersection(Interval(day * DAY, day * DAY + DAY)))
        yield from batches


def _day(tree: Tree, series: Series, day: int, interval: Interval) -> list[Batch]:
    for _ in range(TRIES - 1):
        with suppress(FileNotFoundError):  # a sink is replacing files: list them again
            return _listed(tree, series, day, interval)
    return _listed(tree, series, day, interval)


def _listed(tree: Tree, series: Series, day: int, interval: Interval) -> list[Batch]:
    parts = files.parts(tree, Shelf.of(series), day, interval)
    found = [batch for part in parts for batch in files.read_rows(tree, part, series, interval)]
    spans = [(batch.ts[0].value, batch.ts[-1].value) for batch in found]
    if any(later[0] < earlier[1] for earlier, later in pairwise(spans)) or not all(batch.ascends() for batch in found):
        rows = pa.Table.from_batches([batch.points for batch in found])
        order = pc.sort_indices(rows.column("ts"))
        found = [Batch(series, each) for each in rows.take(order).combine_chunks().to_batches()]
    return found
