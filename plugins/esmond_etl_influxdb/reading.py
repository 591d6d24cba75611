"""The points of a series in a server, and the points that should be there."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final

import msgspec

from esmond_etl import TS, Batch, Interval, NotComparableError, Series, Summary, json_column, number_column, ts_column
from esmond_etl_influxdb import fields, flux, influxql
from esmond_etl_influxdb.server import Server
from esmond_etl_influxdb.values import FIELDS, TEXTS

#: A point as it is compared: Unix time, and its fields.
Row = tuple[int, dict[str, Any]]

#: VictoriaMetrics keeps whole numbers exactly, and about 12 digits of others; this many are compared.
_DIGITS: Final = 7

_ROWS: Final = 10_000

#: The subintervals of one datapoint end within this time, s.
_LONGEST: Final = 86400


def shown(batch: Batch, numbers_only: bool) -> Batch:
    """The points of `batch`, as `read` returns them; without texts for a server that keeps `numbers_only`."""
    points = fields.points(batch)
    columns = {name: column for name, column in points.columns.items() if not (numbers_only and name in TEXTS)}
    if batch.series.holds_numbers and columns.keys() == {"value"} and not numbers_only:
        return Batch.of(batch.series, points.seconds.cast(TS), columns["value"])
    found: dict[int, dict[str, Any]] = {}
    lists = [column.to_pylist() for column in columns.values()]
    for second, *each in zip(points.seconds.to_pylist(), *lists, strict=True):
        here = {name: value for name, value in zip(columns, each, strict=True) if value is not None}
        found.setdefault(second, {}).update(here)
    rows = sorted((second, here) for second, here in found.items() if here)
    return _batch(batch.series, _rounded(rows) if numbers_only else rows)


def read(server: Server, measurement: str, series: Series, interval: Interval) -> Iterator[Batch]:
    """The points of `series` in `interval` in `server`, oldest first."""
    rows = _held(server, measurement, series)
    if series.data_type == "subinterval":  # which come after their datapoint's ts
        found = rows(Interval(interval.start, interval.end + _LONGEST))
        points = (row for row in found if interval.start <= row[0] - math.floor(row[1].get("start", 0) + 0.5) < interval.end)
    else:
        points = (row for row in rows(interval))
    while some := list(islice(points, _ROWS)):
        yield _batch(series, some)


def _held(server: Server, measurement: str, series: Series) -> Callable[[Interval], Iterator[Row]]:
    if server.old:
        return lambda interval: influxql.rows(server, measurement, series, interval)
    if not server.is_victoria_metrics:
        return lambda interval: flux.rows(server, measurement, series, interval)
    if series.data_type == "json" and series.event_type != "packet-trace":
        raise NotComparableError(series, f"{server.url} is VictoriaMetrics, which keeps only numbers: the text cannot be read back")
    return lambda interval: _rounded(_exported(server, measurement, series, interval))


def _exported(server: Server, measurement: str, series: Series, interval: Interval) -> Iterator[Row]:
    """Points from VictoriaMetrics, where every field is a series of its own; a duplicate point comes twice."""
    server.settle()
    span = {"start": interval.start, "end": interval.end - 1}
    start = json.dumps(measurement + "_", ensure_ascii=False)[1:-1]
    # without the name it may answer from its cache, from before the measurement existed
    named = json.dumps(f"{re.escape(measurement)}_.*", ensure_ascii=False)
    with server.get("/api/v1/series", {"match[]": f"{{__name__=~{named},{_matchers(series)}}}", **span}) as lines:
        metrics = msgspec.json.decode(b"".join(lines))["data"]
    names = {metric["__name__"].removeprefix(f"{measurement}_") for metric in metrics}
    streams = [
        _exported_field(server, name, {"match[]": f'{{__name__="{start}{name}",{_matchers(series)}}}', **span})
        for name in FIELDS
        if name in names and name not in TEXTS
    ]
    for second, group in groupby(merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        point: dict[str, Any] = {}
        for _, name, value in group:
            if name in point:
                yield second, point
                point = {}
            point[name] = value
        yield second, point


def _exported_field(server: Server, name: str, params: dict[str, Any]) -> Iterator[tuple[int, str, float]]:
    with server.get("/api/v1/export", {**params, "max_rows_per_line": _ROWS}) as lines:
        for line in lines:
            found = msgspec.json.decode(line)
            for moment, value in zip(found["timestamps"], found["values"], strict=True):
                yield moment // 1000, name, value


def _matchers(series: Series) -> str:
    summary = series.summary
    kind, window = ("", "") if summary.type == "base" else (summary.type, str(summary.window))
    return f'metadata_key={json.dumps(series.metadata.key)},summary_type="{kind}",summary_window="{window}"'


def _rounded(rows: Iterable[Row]) -> Iterator[Row]:
    for second, point in rows:
        yield second, {name: _digits(value) for name, value in point.items()}


def _digits(value: Any) -> float:
    number = float(value)
    if number.is_integer():
        return number
    exact = float(f"{number:.11g}")  # otherwise values that differ in the last digit kept could be rounded up here and down there
    return float(f"{exact:.{_DIGITS}g}")


def _batch(series: Series, rows: Iterable[Row]) -> Batch:
    """Numbers, where the series holds numbers; else JSON text: a number, or an object of fields, a point."""
    points = list(rows)
    ts = ts_column(array("q", [second for second, _ in points]))
    if series.holds_numbers:
        return Batch.of(series, ts, number_column(array("d", [point.get("value", math.nan) for _, point in points])))
    if series.data_type == "histogram":  # of which statistics are left
        series = series.replace(summary=Summary("statistics", series.summary.window))
    encode = msgspec.json.Encoder().encode
    return Batch.of(
        series, ts, json_column([encode(point["value"] if point.keys() == {"value"} else point) for _, point in points])
    )
