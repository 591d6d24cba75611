"""Datapoints as rows of plain columns; each kind of value has its own columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow.compute as pc

from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import ContentError
from esmond_etl.model.series import Series

Row = tuple[Any, ...]

#: The first columns of every row.
COLUMNS: Final = ("source", "destination", "event_type", "tool", "summary_type", "summary_window", "timestamp")

#: The columns of a statistics summary -> the archive's names.
STATISTICS: Final = {
    "min": "minimum",
    "median": "median",
    "max": "maximum",
    "mean": "mean",
    "mode": "mode",
    "standard_deviation": "standard-deviation",
    "variance": "variance",
    "percentile_25": "percentile-25",
    "percentile_75": "percentile-75",
    "percentile_95": "percentile-95",
}


class Shape(NamedTuple):
    """The conversion of a series' values to rows."""

    name: str
    columns: tuple[str, ...]  #: after `COLUMNS`
    rows: Callable[[Any], Iterable[Row]]  #: raises AttributeError or TypeError for a value of another kind


def _value(val: Any) -> Iterator[Row]:
    yield (val,)


def _failure(val: Any) -> Iterator[Row]:
    yield (val.get("error") if isinstance(val, dict) and "error" in val else val,)


def _hop(hop: dict[str, Any]) -> Row:
    error = hop.get("error-message", hop.get("error_message"))  # old data have texts
    return (*(hop.get(name) for name in ("ttl", "query", "success", "ip", "rtt", "mtu")), error)


def _trace(val: Any) -> Iterator[Row]:
    return map(_hop, val)


def _traces(val: Any) -> Iterator[Row]:
    for number, trace in enumerate(val):
        yield from ((number, *row) for row in _trace(trace or [{}]))


def _histogram(val: Any) -> Iterable[Row]:
    return sorted(val.items(), key=_bucket)


def _bucket(item: tuple[str, int]) -> tuple[float, str]:
    try:
        return float(item[0]), item[0]
    except ValueError:
        return float("inf"), item[0]


def _statistics(val: Any) -> Iterator[Row]:
    yield tuple(val.get(name) for name in STATISTICS.values())


def _subinterval(part: dict[str, Any]) -> Row:
    return part.get("start"), part.get("duration"), part.get("val")


def _subintervals(val: Any) -> Iterator[Row]:
    return map(_subinterval, val)


def _streams(val: Any) -> Iterator[Row]:
    return enumerate(val if isinstance(val, list) else [val])


def _stream_subintervals(val: Any) -> Iterator[Row]:
    for number, parts in enumerate(val):
        yield from ((number, *_subinterval(part)) for part in parts or [{}])


_HOP: Final = ("ttl", "query", "success", "ip", "rtt", "mtu", "error_message")
_SUBINTERVAL: Final = ("start", "duration", "value")

VALUE: Final = Shape("a value", ("value",), _value)
FAILURE: Final = Shape("a failure", ("msg",), _failure)
TRACE: Final = Shape("a packet trace", _HOP, _trace)
TRACES: Final = Shape("packet traces", ("trace_num", *_HOP), _traces)
HISTOGRAM: Final = Shape("a histogram", ("bucket", "value"), _histogram)
STATISTIC: Final = Shape("statistics", tuple(STATISTICS), _statistics)
SUBINTERVALS: Final = Shape("subintervals", _SUBINTERVAL, _subintervals)
STREAMS: Final = Shape("one value per stream", ("stream_num", "value"), _streams)
STREAM_SUBINTERVALS: Final = Shape("subintervals of each stream", ("stream_num", *_SUBINTERVAL), _stream_subintervals)

_BY_EVENT_TYPE: Final = {"failures": FAILURE, "packet-trace": TRACE, "packet-trace-multi": TRACES}
_BY_DATA_TYPE: Final = {"histogram": HISTOGRAM, "statistics": STATISTIC, "subinterval": SUBINTERVALS}


def shape(series: Series) -> Shape:
    """The conversion of the values of `series`; values of unknown event types are one column."""
    name = series.event_type
    if name.startswith("streams-"):
        return STREAM_SUBINTERVALS if name.endswith("-subintervals") else STREAMS
    return _BY_EVENT_TYPE.get(name) or _BY_DATA_TYPE.get(series.data_type, VALUE)


def columns(series: Iterable[Series]) -> tuple[str, ...]:
    """All columns of the rows of these series."""
    found = dict.fromkeys(name for each in series for name in shape(each).columns)
    return (*COLUMNS, *found)


def rows(batch: Batch, name: Callable[[str | None], str | None]) -> Iterator[Row]:
    """One row for each part of each datapoint, and one for a datapoint without parts; `name` converts hosts.

    Raises ContentError, with the place, if a value does not fit its event type.
    """
    series = batch.series
    metadata, kind = series.metadata, shape(series)
    head = (name(metadata.source), name(metadata.destination), series.event_type, metadata.tool_name, *series.summary)
    nothing = [(None,) * len(kind.columns)]
    try:
        values = batch.values()
    except ValueError as error:
        raise ContentError(str(error), series.served.uri) from None
    for when, val in zip(pc.strftime(batch.ts, "%Y-%m-%d %H:%M:%S").to_pylist(), values, strict=True):
        try:
            parts = list(kind.rows(val))
        except (AttributeError, TypeError):
            place = f"{series.served.uri} at {when}"
            raise ContentError(f"{place}: not {kind.name}: {msgspec.json.encode(val).decode()[:80]}", series.served.uri) from None
        for part in parts or nothing:
            yield (*head, when, *part)
