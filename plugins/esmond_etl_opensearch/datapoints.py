"""The datapoints of a series, from the documents of a server."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec

from esmond_etl import Batch, Fault, Interval, Series, json_column, number_column, ts_column
from esmond_etl_opensearch import search
from esmond_etl_opensearch.codec import reading, typed
from esmond_etl_opensearch.codec.reading import MISSING
from esmond_etl_opensearch.codec.typed import Typed, Unfit
from esmond_etl_opensearch.search import Hit, PointInTime
from esmond_etl_opensearch.together import Piece, Together

#: The fields that distinguish two results of one second; requested only if there are several.
_IDENTITY: Final = ["result", "pscheduler.run_href"]
_TWICE: Final = "documents are duplicated, with the same run and the same result: one of each was read"

_encode: Final = msgspec.json.Encoder().encode


def read(
    view: PointInTime,
    series: Series,
    interval: Interval,
    conditions: list[dict[str, Any]] | None = None,
    remarks: Counter[str] | None = None,
) -> Iterator[Batch]:
    """The datapoints of `series` in `interval`, oldest first; documents that are there twice are counted in `remarks`."""
    query = search.of_test(series.metadata.key, interval, *reading.condition(series), *(conditions or ()))
    value = reading.reader(series)
    fields = reading.fields(series)
    for page in view.pages(query, fields):
        hits, twice = _without_doubles(view, query, fields, page.hits)
        if twice and remarks is not None:
            remarks[_TWICE] += twice
        batch = _batch(series, hits, value)
        if len(batch) or batch.faults:
            yield batch


def read_together(
    pages: Together,
    together: Sequence[Series],
    series: Series,
    interval: Interval,
    one_by_one: Callable[[Series, Interval], Iterator[Batch]],
) -> Iterator[Batch]:
    """The datapoints of `series` from pages that it shares with the series `together`.

    Documents that do not fit into columns are read by `one_by_one`.
    """
    way = typed.typed(series)
    assert way is not None
    for piece in pages.pieces(together, interval):
        batch = _typed_batch(series, piece, way)
        if batch is None:
            yield from one_by_one(series, piece.interval)
        elif len(batch):
            yield batch


def _typed_batch(series: Series, piece: Piece, way: Typed) -> Batch | None:
    """The datapoints of a piece; None if its documents must be read one by one."""
    if piece.hits is None:
        return None
    try:
        values = way.column(piece.hits, piece.succeeded)
    except Unfit:
        return None
    batch = Batch.of(series, ts_column(array("q", piece.seconds)), values)
    return batch.filter(values.is_valid()) if values.null_count else batch


def _without_doubles(view: PointInTime, query: Mapping[str, Any], fields: list[str], page: list[Hit]) -> tuple[list[Hit], int]:
    """The documents of a page without duplicates of a second post, and the number of duplicates."""
    several = {ts for ts, count in Counter(hit.ts for hit in page).items() if count > 1}
    if not several:
        return page, 0
    kept: list[Hit] = []
    for ts, hits in groupby(page, key=lambda hit: hit.ts):
        kept += _once(view, query, fields, ts) if ts in several else hits
    return kept, len(page) - len(kept)


def _once(view: PointInTime, query: Mapping[str, Any], fields: list[str], ts: int) -> list[Hit]:
    """The documents of one second, one for each run and result."""
    found: dict[bytes, Hit] = {}
    second = {"bool": {"filter": [query, search.within(Interval(ts, ts + 1))]}}
    for page in view.pages(second, [*fields, *_IDENTITY]):
        for hit in page.hits:
            run = (hit.source.get("pscheduler") or {}).get("run_href")
            found.setdefault(msgspec.json.encode([hit.sort, run, hit.source.get("result")], order="deterministic"), hit)
    return list(found.values())


def _batch(series: Series, hits: list[Hit], value: search.Read) -> Batch:
    moments, found, faults = array("q"), list[Any](), list[Fault]()
    numbers = series.holds_numbers
    for hit in hits:
        try:
            each = value(hit.source)
            if each is MISSING:
                continue
            found.append(_number(each) if numbers else _encode(each))
            moments.append(hit.ts)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            faults.append(Fault(hit.ts, _encode(hit.source).decode()[:200], f"the document has no such value: {error}"))
    column = number_column(array("d", found)) if numbers else json_column(found)
    batch = Batch.of(series, ts_column(moments), column)
    return Batch(series, batch.points, faults=tuple(faults))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)
