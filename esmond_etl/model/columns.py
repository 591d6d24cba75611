"""Columns of Arrow: their types, and how they are made of Python's values without a library that is slow to import."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl.model.interval import Interval

#: Arrow type of `ts`: Unix time in whole seconds.
TS: Final = pa.timestamp("s", "UTC")
#: Arrow type of `val` where values are numbers.
NUMBER: Final = pa.float64()
#: Whole numbers up to this one are exact in a float64.
EXACT: Final = 2**53
#: Arrow type of `val` for all other values: the JSON text, byte for byte as the archive sent it.
JSON_TEXT: Final = pa.string()


def ts_column(ts: array[int]) -> pa.Array:
    """Unix seconds (array of "q") as timestamp[s, UTC], without a copy."""
    return pa.Array.from_buffers(TS, len(ts), [None, pa.py_buffer(ts)])


def int_column(numbers: array[int]) -> pa.Array:
    """Whole numbers (array of "i" or "q") as int32 or int64, without a copy."""
    return pa.Array.from_buffers(_INTEGERS[numbers.typecode], len(numbers), [None, pa.py_buffer(numbers)])


_INTEGERS: Final = {"i": pa.int32(), "q": pa.int64()}


def bool_column(flags: Iterable[object]) -> pa.Array:
    """Flags as booleans; `pa.array` would import pandas where that is installed."""
    flat = bytes(map(bool, flags))
    return pa.Array.from_buffers(pa.uint8(), len(flat), [None, pa.py_buffer(flat)]).cast(pa.bool_())


def number_column(val: array[float]) -> pa.Array:
    """Numbers (array of "d") as float64, without a copy."""
    return pa.Array.from_buffers(NUMBER, len(val), [None, pa.py_buffer(val)])


def nullable_number_column(values: Sequence[float | None]) -> pa.Array:
    """Numbers and None as float64 with nulls; `pa.array` would import pandas where that is installed."""
    is_known = bool_column(value is not None for value in values)
    return pc.if_else(is_known, number_column(array("d", [value or 0.0 for value in values])), pa.scalar(None, NUMBER))


def json_column(texts: Sequence[bytes | memoryview | msgspec.Raw]) -> pa.Array:
    """Values' JSON texts, in UTF-8, as one string column."""
    offsets = array("i", accumulate(map(len, texts), initial=0))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))]
    return pa.Array.from_buffers(JSON_TEXT, len(texts), buffers)


def text_column(texts: Sequence[str]) -> pa.Array:
    """Strings as one string column; `pa.array` would import pandas where that is installed."""
    joined = "".join(texts)
    encoded: Sequence[str | bytes] = texts if joined.isascii() else [text.encode() for text in texts]
    offsets = array("i", accumulate(map(len, encoded), initial=0))
    return pa.Array.from_buffers(JSON_TEXT, len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(joined.encode())])


def nullable_text_column(texts: Sequence[str | None]) -> pa.Array:
    """Strings and None as one string column with nulls."""
    column = text_column([text or "" for text in texts])
    if None not in texts:
        return column
    return pc.if_else(bool_column(text is not None for text in texts), column, pa.scalar(None, JSON_TEXT))


def ts_bounds(interval: Interval) -> tuple[pa.Scalar, pa.Scalar]:
    """The interval's two ends as Arrow scalars, to compare a `ts` column with."""
    return pa.scalar(interval.start, TS), pa.scalar(interval.end, TS)
