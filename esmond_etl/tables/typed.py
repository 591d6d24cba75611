"""Columns beside `val` whose values can be queried: delays in milliseconds, the hops of traces, subintervals.

They are made of `val` when rows are written, many at a time. A value that they cannot hold is null there, and still in `val`: a
word instead of a number, a hop that is not an object. Numbers written as text, as in old measurements, become numbers.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from esmond_etl.model import histograms
from esmond_etl.model.columns import int_column, json_column, number_column
from esmond_etl.model.series import Metadata, Series

#: The typed columns; the name is also the column's name.
Typed = Literal["delays", "hops", "traces", "intervals", "streams"]


def _list(item: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", item))


_DELAY: Final = pa.struct([("bucket_ms", pa.float64()), ("count", pa.int64())])

_INTERVAL: Final = pa.struct([("start", pa.float64()), ("duration", pa.float64()), ("val", pa.float64())])

HOP: Final = pa.struct(
    [
        ("ttl", pa.int64()),
        ("query", pa.int64()),
        ("success", pa.bool_()),
        ("ip", pa.string()),
        ("hostname", pa.string()),
        ("rtt", pa.float64()),
        ("mtu", pa.int64()),
        ("as_number", pa.int64()),
        ("as_owner", pa.string()),
        ("error_message", pa.string()),
    ]
)

#: A hop in an archive's values: the same fields, some with other names.
_HOP_JSON: Final = pa.struct(
    [
        *(field for field in HOP if field.name not in ("as_number", "as_owner", "error_message")),
        ("as", pa.struct([("number", pa.int64()), ("owner", pa.string())])),
        ("error-message", pa.string()),
        ("error_message", pa.string()),
    ]
)

TYPES: Final[dict[Typed, pa.DataType]] = {
    "delays": _list(_DELAY),
    "hops": _list(HOP),
    "traces": _list(_list(HOP)),
    "intervals": _list(_INTERVAL),
    "streams": _list(_list(_INTERVAL)),
}

#: The columns made from JSON text, as the text has them.
LISTS: Final[dict[Typed, pa.DataType]] = {
    "hops": _list(_HOP_JSON),
    "traces": _list(_list(_HOP_JSON)),
    "intervals": TYPES["intervals"],
    "streams": TYPES["streams"],
}


def typed(series: Series) -> Typed | None:
    """The column that can be made of JSON text in `series`."""
    if series.summary.type != "base":
        return None
    if series.event_type in ("packet-trace", "packet-trace-multi"):
        return "hops" if series.event_type == "packet-trace" else "traces"
    if series.data_type == "subinterval":
        return "intervals"
    return "streams" if series.event_type.startswith("streams-") and series.event_type.endswith("-subintervals") else None


def of_delays(series: Series) -> bool:
    """Whether the buckets of a histogram are delays."""
    return series.event_type in ("histogram-owdelay", "histogram-rtt")


def width(metadata: Metadata, event_type: str) -> float:
    """The width of a bucket in milliseconds; NaN if the metadata have an invalid width."""
    try:
        return histograms.bucket_width(Series(metadata, event_type))
    except ValueError:
        return math.nan


_ONE: Final = pa.scalar(1.0, pa.float64())


def delays(histograms: pa.Array, widths: pa.Array) -> pa.Array:
    """The counts of each histogram (map<string, int64>), a list of {bucket_ms, count}; null if the bucket width is not known."""
    offsets, bucket, count = histograms.offsets, _milliseconds(histograms.keys), histograms.items
    if not pc.all(pc.equal(widths, _ONE)).as_py():
        start, length = offsets[0], pc.subtract(offsets[-1], offsets[0]).as_py()
        bucket = pc.multiply(bucket.slice(start.as_py(), length), widths.take(_repeated(offsets)))
        count, offsets = count.slice(start.as_py(), length), pc.subtract(offsets, start)
    values = pa.StructArray.from_arrays([bucket, count], fields=list(_DELAY))
    unknown = pc.or_(histograms.is_null(), pc.is_nan(widths))
    lists = pa.ListArray.from_arrays(offsets, values, type=TYPES["delays"])
    if not pc.any(unknown).as_py():
        return lists
    return pc.if_else(
        unknown, pa.scalar(None, lists.type), lists
    )  # not a mask: pyarrow < 25 does not write a null that hides entries


def _mask(mask: pa.Array) -> pa.Array | None:
    return mask if pc.any(mask).as_py() else None


def _repeated(offsets: pa.Array) -> pa.Array:
    """The number of the list that each item belongs to."""
    rows = array("i")
    for row, (start, end) in enumerate(pairwise(offsets.to_pylist())):
        rows.extend(array("i", (row,)) * (end - start))
    return int_column(rows)


def _milliseconds(names: pa.Array) -> pa.Array:
    """The names of buckets as numbers; null for a name that is not a number."""
    try:
        numbers = names.cast(pa.float64())
    except pa.ArrowInvalid:
        different = names.dictionary_encode()
        words = [_float(name) for name in different.dictionary.to_pylist()]
        numbers = number_column(array("d", (math.nan if word is None else word for word in words))).take(different.indices)
    finite = pc.is_finite(numbers)
    return numbers if pc.all(finite).as_py() is not False else pc.if_else(finite, numbers, pa.scalar(None, pa.float64()))


def lists(kind: Typed, texts: pa.Array) -> pa.Array:
    """The lists in JSON texts, typed; null if a text is not a list."""
    if not len(texts):
        return pa.array([], TYPES[kind])
    try:
        read = _read(kind, texts)
    except pa.ArrowInvalid:
        read = _read(kind, json_column([_normal(text, _NORMAL[kind]) for text in texts.to_pylist()]))
    return read if read.type == TYPES[kind] else _renamed(read, TYPES[kind])


_OPEN, _CLOSE, _NOTHING, _NULL, _LINE = (pa.scalar(text, pa.string()) for text in ('{"v":', "}\n", "", "null", "\n"))


def _read(kind: Typed, texts: pa.Array) -> pa.Array:
    """The lists; raises ArrowInvalid if an item has the wrong type."""
    if pc.any(pc.match_substring(texts, "\n")).as_py():
        raise pa.ArrowInvalid("a text of several lines")
    lines = pc.binary_join_element_wise(_OPEN, pc.fill_null(texts, _NULL), _CLOSE, _NOTHING)
    body = lines.buffers()[2]
    table = pa.json.read_json(
        pa.BufferReader(body),
        read_options=pa.json.ReadOptions(use_threads=False, block_size=body.size + 1),
        parse_options=pa.json.ParseOptions(pa.schema([("v", LISTS[kind])]), unexpected_field_behavior="ignore"),
    )
    if table.num_rows != len(texts):
        raise pa.ArrowInvalid("a text that is not exactly one value")
    return table.column("v").combine_chunks()


def _renamed(found: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Hops with the fields of `HOP`, from lists of any depth."""
    if pa.types.is_list(wanted):
        inner = _renamed(found.values, wanted.value_type)
        return pa.ListArray.from_arrays(found.offsets, inner, type=wanted, mask=_mask(found.is_null()))
    fields = dict(zip((field.name for field in found.type), found.flatten(), strict=True))
    number, owner = fields.pop("as").flatten()
    message = pc.coalesce(fields.pop("error-message"), fields.pop("error_message"))
    return pa.StructArray.from_arrays([*fields.values(), number, owner, message], fields=list(wanted), mask=_mask(found.is_null()))


def _normal(text: str | None, normal: Callable[[Any], Any]) -> bytes:
    """The text without the parts that have the wrong type."""
    try:
        value = json.loads(text or "null")  # this decoder also accepts numbers of any size
    except ValueError:
        value = None
    return msgspec.json.encode(normal(value))


def _float(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _int(value: Any) -> int | None:
    number = value if isinstance(value, int) else _whole(value) if isinstance(value, str) else _float(value)
    return int(number) if number is not None and number == int(number) and -(2**63) <= number < 2**63 else None


def _whole(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        return _float(text)


def _bool(value: Any) -> bool | None:
    return {"1": True, "true": True, "0": False, "false": False}.get(str(value).lower())


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) or value is None else msgspec.json.encode(value).decode()


_SCALARS: Final[dict[pa.DataType, Callable[[Any], Any]]] = {
    pa.int64(): _int,
    pa.float64(): _float,
    pa.bool_(): _bool,
    pa.string(): _str,
}


def _as(type_: pa.DataType) -> Callable[[Any], Any]:
    """A function that converts a decoded JSON value to that type, or to None if it has another type."""
    if pa.types.is_list(type_):
        item = _as(type_.value_type)
        return lambda value: [item(each) for each in value] if isinstance(value, list) else None
    if pa.types.is_struct(type_):
        fields = [(field.name, _as(field.type)) for field in type_]
        return lambda value: {name: as_(value.get(name)) for name, as_ in fields} if isinstance(value, dict) else None
    return _SCALARS[type_]


_NORMAL: Final[dict[Typed, Callable[[Any], Any]]] = {kind: _as(type_) for kind, type_ in LISTS.items()}
