"""From datapoints to the fields of points, in columns: the layout of the data in InfluxDB."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import JSON_TEXT, NUMBER, Batch, bool_column, histograms, int_column, number_column, text_column, ts_column
from esmond_etl_influxdb import values

#: A field -> the archive's name of the statistic that it holds.
STATISTICS: Final = {
    "min": "minimum",
    "mean": "mean",
    "median": "median",
    "p25": "percentile-25",
    "p75": "percentile-75",
    "p95": "percentile-95",
    "max": "maximum",
    "stddev": "standard-deviation",
    "variance": "variance",
}


@dataclass(frozen=True, slots=True)
class Points:
    """A batch in InfluxDB: points, and the datapoints that cannot be points."""

    seconds: pa.Array  #: int64, Unix time
    columns: Mapping[str, pa.Array]  #: float64, bool or string; null if a point does not have the field; never all null
    row: pa.Array | None = None  #: int64, ascending: the batch's datapoint of each point; None: one point per datapoint
    refused: Mapping[int, str] = field(default_factory=dict)  #: a datapoint's row -> why it cannot be kept

    def __len__(self) -> int:
        return len(self.seconds)


def points(batch: Batch) -> Points:
    """The points for the datapoints of `batch`."""
    kind = batch.val.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return _numbers(batch, batch.val if kind == NUMBER else batch.val.cast(NUMBER))
    if pa.types.is_null(kind):
        return _numbers(batch, pa.nulls(len(batch), NUMBER))
    if batch.val.null_count:
        return _without_nulls(batch)
    if batch.series.data_type == "histogram":
        return _histograms(batch)
    return _objects(_as_text(batch))


def _numbers(batch: Batch, val: pa.Array) -> Points:
    seconds = batch.ts.view(pa.int64())
    if not val.null_count and math.isfinite(pc.sum(val, min_count=0).as_py()):  # then each of them is finite
        return Points(seconds, {"value": val})
    good = pc.fill_null(pc.is_finite(val), False)
    refused = {
        row: "there is no value" if value is None else f"{value} is not a number that InfluxDB can store"
        for row, (value, fine) in enumerate(zip(val.to_pylist(), good.to_pylist(), strict=True))
        if not fine
    }
    return Points(seconds.filter(good), {"value": val.filter(good)}, pc.indices_nonzero(good).cast(pa.int64()), refused)


def _without_nulls(batch: Batch) -> Points:
    """The points of the remaining datapoints, numbered again."""
    good = pc.is_valid(batch.val)
    rest = points(batch.filter(good))
    rows = pc.indices_nonzero(good).cast(pa.int64())
    refused = dict.fromkeys(pc.indices_nonzero(pc.invert(good)).to_pylist(), "there is no value")
    refused |= {rows[row].as_py(): reason for row, reason in rest.refused.items()}
    return Points(rest.seconds, rest.columns, rows if rest.row is None else rows.take(rest.row), refused)


def _as_text(batch: Batch) -> Batch:
    """The points for values in JSON text."""
    if pa.types.is_string(batch.val.type) or pa.types.is_large_string(batch.val.type):
        return batch.with_val(batch.val.cast(JSON_TEXT))
    encode = msgspec.json.Encoder().encode
    mapped = pa.types.is_map(batch.val.type)
    return batch.with_val(text_column([encode(dict(value) if mapped else value).decode() for value in batch.val.to_pylist()]))


def _histograms(batch: Batch) -> Points:
    if not pa.types.is_map(batch.val.type):
        batch = _as_text(batch)
    try:
        opened = batch.opened().val
    except ValueError:  # some are not histograms
        return _objects(batch)
    count = _counts(opened)
    columns = histograms.statistics(opened, STATISTICS.values(), histograms.bucket_width(batch.series))
    odd = pc.and_(pc.is_null(columns["mean"]), pc.not_equal(count, 0.0))
    if pc.any(odd, min_count=0).as_py():  # buckets with names that are not numbers, or negative counts
        return _objects(_as_text(batch))
    return Points(batch.ts.view(pa.int64()), {"count": count, **{name: columns[each] for name, each in STATISTICS.items()}})


def _counts(histograms: pa.Array) -> pa.Array:
    """The number of samples in each histogram, float64."""
    items = histograms.items.cast(NUMBER)
    sums = pa.concat_arrays([number_column(array("d", [0.0])), pc.cumulative_sum(items)])
    offsets = pa.Array.from_buffers(pa.int32(), len(histograms) + 1, [None, histograms.buffers()[1]], offset=histograms.offset)
    at = sums.take(offsets)
    return pc.subtract(at[1:], at[:-1])


def _objects(batch: Batch) -> Points:
    """The points for values that are converted one by one; values that do not fit their event type are stored as text, in `json`."""
    opener, several = _opener(batch), batch.series.data_type == "subinterval"
    seconds, rows, found = array("q"), array("q"), list[dict[str, Any]]()
    last = None
    for row, (ts, text) in enumerate(zip(batch.seconds, batch.val.to_pylist(), strict=True)):
        moments = opener(ts, text) if opener else None
        if not moments or (several and last is not None and moments[0][0] <= last):  # earlier points have taken the seconds
            moments = [(ts, {"json": text})]
        last = moments[-1][0] if last is None else max(last, moments[-1][0])
        for second, fields in moments:
            seconds.append(second)
            rows.append(row)
            found.append(fields)
    return Points(int_column(seconds), _columns(found), int_column(rows))


#: From a datapoint's ts and JSON text to its points: times and fields; None if the value does not fit.
_Opener = Callable[[int, str], list[tuple[int, dict[str, Any]]] | None]


def _opener(batch: Batch) -> _Opener | None:
    series = batch.series
    if series.data_type == "subinterval":
        return values.subintervals
    if series.data_type == "histogram":
        return _one_histogram(batch)
    if series.data_type == "statistics":
        width = histograms.bucket_width(series)
        return lambda ts, text: values.one(ts, values.statistics(text, STATISTICS, width))
    if series.event_type == "packet-trace":
        destination = series.metadata.destination
        return lambda ts, text: values.one(ts, values.packet_trace(text, destination))
    if series.event_type == "failures":
        return lambda ts, text: values.one(ts, values.failure(text))
    return None


def _one_histogram(batch: Batch) -> _Opener:
    def open_one(ts: int, text: str) -> list[tuple[int, dict[str, Any]]] | None:
        one = Batch.of(batch.series, ts_column(array("q", [ts])), text_column([text]))
        try:
            opened = one.opened().val
        except ValueError:
            return None
        columns = histograms.statistics(opened, STATISTICS.values(), histograms.bucket_width(batch.series))
        found = {name: columns[each][0].as_py() for name, each in STATISTICS.items()}
        count = _counts(opened)[0].as_py()
        if found["mean"] is None and count:
            return None
        return [(ts, {"count": count, **{name: value for name, value in found.items() if value is not None}})]

    return open_one


def _columns(found: list[dict[str, Any]]) -> dict[str, pa.Array]:
    """The fields of points, a column each, null where a point lacks it."""
    return {
        name: _column(name, [each.get(name) for each in found]) for name in dict.fromkeys(key for each in found for key in each)
    }


def _column(name: str, column: list[Any]) -> pa.Array:
    if name in values.TEXTS:
        filled = text_column(["" if each is None else each for each in column])
    else:
        filled = number_column(array("d", [0.0 if each is None else float(each) for each in column]))
        if name in values.TRUTHS:
            filled = filled.cast(pa.bool_())
    if None not in column:
        return filled
    return pc.if_else(bool_column(each is not None for each in column), filled, pa.scalar(None, filled.type))
