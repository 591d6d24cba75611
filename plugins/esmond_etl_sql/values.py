"""From the values of a batch to the values of a column."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import JSON_TEXT, NUMBER, Batch, Reject, json_column

#: The kind of value, which decides on its table.
Kind = Literal["number", "json"]


def kind_of(val: pa.DataType) -> Kind:
    """The kind of values of an Arrow type."""
    numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return "number" if any(each(val) for each in numbers) else "json"


def column(val: pa.Array) -> pa.Array:
    """Values as float64 if they are numbers, else as JSON texts; raises ValueError for an integer that float64 cannot hold exactly."""
    if kind_of(val.type) == "number":
        return val.cast(NUMBER)
    if pa.types.is_string(val.type) or pa.types.is_large_string(val.type):
        return val.cast(JSON_TEXT)
    encode = msgspec.json.Encoder().encode
    plain: Callable[[Any], Any] = _as_object if pa.types.is_map(val.type) else lambda value: value
    return json_column([encode(plain(value)) for value in val.to_pylist()])


def _as_object(entries: list[tuple[Any, Any]] | None) -> dict[Any, Any] | None:
    return None if entries is None else dict(entries)


def without_nan(batch: Batch) -> tuple[Batch, list[Reject]]:
    """The datapoints with numbers, and the others: NaN or null."""
    if kind_of(batch.val.type) != "number":
        return batch, []
    bad = pc.fill_null(pc.is_nan(batch.val.cast(NUMBER)), True)
    if not pc.any(bad).as_py():
        return batch, []
    rejects = [
        Reject(batch.series, ts, "null", "SQLite stores neither NaN nor null as a number") for ts in batch.filter(bad).seconds
    ]
    return batch.filter(pc.invert(bad)), rejects


def repeated(number: int, length: int) -> pa.Array:
    """A column of one whole number, repeated; `pa.repeat` would import pandas if it is installed."""
    return pa.Array.from_buffers(pa.int32(), length, [None, pa.py_buffer(array("i", [number]) * length)])
