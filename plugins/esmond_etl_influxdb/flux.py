"""Points from InfluxDB 2, queried in Flux."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from esmond_etl import BASE, Interval, Series, SinkError
from esmond_etl_influxdb.server import Server
from esmond_etl_influxdb.values import FIELDS, TEXTS, TRUTHS

#: A JSON text is one cell of the answer, characters.
_LONGEST_TEXT: Final = 2**30


def rows(server: Server, measurement: str, series: Series, interval: Interval) -> Iterator[tuple[int, dict[str, Any]]]:
    """Unix time and fields of the points of `series` in `interval`, oldest first."""
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_TEXT))
    with server.query(question(server.bucket, measurement, series, interval)) as table:
        heading: list[str] = []
        for row in table:
            if "_time" in row or "error" in row[:2]:
                heading = row
            elif "error" in heading[:2]:
                raise SinkError(f"{server.url}/api/v2/query: {row[heading.index('error')]}")
            else:
                found = dict(zip(heading, row, strict=True))
                second = int(datetime.fromisoformat(found["_time"]).timestamp())
                yield second, {name: _value(name, found[name]) for name in FIELDS if found.get(name)}


def question(bucket: str, measurement: str, series: Series, interval: Interval) -> str:
    """The query for the points of `series` in `interval`, one row per point."""
    summary = "not exists r.summary_type"
    if series.summary != BASE:
        kind, window = series.summary
        summary = f'r.summary_type == {quoted(kind)} and r.summary_window == "{window}"'
    names = ", ".join(map(quoted, ("_time", *FIELDS)))
    return f"""from(bucket: {quoted(bucket)})
  |> range(start: {_moment(interval.start)}, stop: {_moment(interval.end)})
  |> filter(fn: (r) => r._measurement == {quoted(measurement)} and r.metadata_key == {quoted(series.metadata.key)} and {summary})
  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
  |> keep(fn: (column) => contains(value: column, set: [{names}]))
  |> group()
  |> sort(columns: ["_time"])"""


def quoted(text: str) -> str:
    """A text in Flux."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${").replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _moment(ts: int) -> str:
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _value(name: str, text: str) -> Any:
    if name in TEXTS:
        return text
    return text == "true" if name in TRUTHS else float(text)
