"""The datapoints of one series from a tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import TS, Batch, EsmondEtlError, Interval, Series, ts_bounds
from esmond_etl.tables.columns import readable
from esmond_etl.tables.load import DAY, Shelf
from esmond_etl_parquet import files
from esmond_etl_parquet.place import Place, reported
from esmond_etl_parquet.recent import Recent

#: How often a day is listed again while a sink is replacing its files.
TRIES: Final = 20


def datapoints(
    tree: Place, series: Series, interval: Interval, error: type[EsmondEtlError], recent: Recent | None = None
) -> Iterator[Batch]:
    """The tree's datapoints of `series` in `interval`, oldest first, with at most a day of them in memory; raises `error`.

    With `recent`, a file that was decoded for another series is not decoded again.
    """
    with reported(error, tree.shown, series):
        first = interval.start // DAY
        is_one = interval.end <= (first + 1) * DAY  # then its folder alone is listed
        days = [first] if is_one else list(files.days(tree, Shelf.of(series), interval))
    for day in days:
        with reported(error, tree.shown, series):
            batches = _day(tree, series, day, interval.intersection(Interval(day * DAY, day * DAY + DAY)), recent)
        yield from batches


def _day(tree: Place, series: Series, day: int, interval: Interval, recent: Recent | None) -> list[Batch]:
    for _ in range(TRIES - 1):
        with suppress(FileNotFoundError):  # a sink is replacing files: list them again
            return _listed(tree, series, day, interval, recent)
    return _listed(tree, series, day, interval, recent)


def _listed(tree: Place, series: Series, day: int, interval: Interval, recent: Recent | None) -> list[Batch]:
    parts = files.parts(tree, Shelf.of(series), day, interval)
    if recent is None:
        found = [batch for part in parts for batch in files.read_rows(tree, part, series, interval)]
    else:
        found = [
            batch
            for part in parts
            for rows in recent.rows(part, series.metadata.key)
            for batch in _cut(rows, series, interval, part.interval.intersection(interval) == part.interval)
        ]
    spans = [(batch.ts[0].value, batch.ts[-1].value) for batch in found]
    if any(later[0] < earlier[1] for earlier, later in pairwise(spans)) or not all(batch.ascends() for batch in found):
        rows = pa.Table.from_batches([batch.points for batch in found])
        order = pc.sort_indices(rows.column("ts"))
        found = [Batch(series, each) for each in rows.take(order).combine_chunks().to_batches()]
    return found


def _cut(rows: pa.RecordBatch, series: Series, interval: Interval, is_inside: bool) -> Iterator[Batch]:
    """The rows of a series that lie in `interval`, as a batch if there are any; if `is_inside`, all of them do."""
    ts = rows.column("ts").cast(TS)
    if is_inside:
        yield readable(series, ts, rows.column("val"))
        return
    start, end = ts_bounds(interval)
    inside = pc.and_(pc.greater_equal(ts, start), pc.less(ts, end))
    if pc.any(inside).as_py():
        yield readable(series, ts.filter(inside), rows.column("val").filter(inside))
