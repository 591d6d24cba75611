"""Points from InfluxDB 1.8, queried in InfluxQL, which is on by default there; Flux is off by default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from esmond_etl import BASE, Interval, Series, SinkError
from esmond_etl_influxdb.server import Server

_ROWS: Final = 10_000


def rows(server: Server, measurement: str, series: Series, interval: Interval) -> Iterator[tuple[int, dict[str, Any]]]:
    """Unix time and fields of the points of `series` in `interval`, oldest first."""
    database, _, policy = server.bucket.partition("/")
    params = {"db": database, "q": question(measurement, series, interval), "epoch": "s", "chunked": "true", "chunk_size": _ROWS}
    with server.get("/query", {**params, **({"rp": policy} if policy else {})}) as lines:
        for line in lines:
            for result in msgspec.json.decode(line)["results"]:
                if "error" in result:
                    raise SinkError(f"{server.url}/query: {result['error']}")
                for table in result.get("series", ()):
                    names = table["columns"][1:]
                    for second, *values in table["values"]:
                        yield second, {name: each for name, each in zip(names, values, strict=True) if each is not None}


def question(measurement: str, series: Series, interval: Interval) -> str:
    """The query for the points of `series` in `interval`, one row per point."""
    kind, window = ("", "") if series.summary == BASE else (series.summary.type, str(series.summary.window))
    return (
        f"SELECT *::field FROM {_name(measurement)} WHERE metadata_key = {_text(series.metadata.key)}"
        f" AND summary_type = '{kind}' AND summary_window = '{window}' AND time >= {interval.start}s AND time < {interval.end}s"
    )


def _name(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
