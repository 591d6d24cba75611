"""From the values of a batch to the values of a column."""

from __future__ import annotations

from array import array
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import NUMBER, Batch, Reject, int_column
from esmond_etl.tables.columns import json_texts

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
    return json_texts(val)


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
    return int_column(array("i", [number]) * length)
