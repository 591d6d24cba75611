"""The layout of the tables: columns, their types and encodings, and the Arrow arrays that fill them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl.model.batch import Batch
from esmond_etl.model.columns import JSON_TEXT, NUMBER, TS, int_column, json_column, number_column, text_column
from esmond_etl.model.series import SUBJECT_COLUMNS, Metadata, Series
from esmond_etl.plugin.archives import ARCHIVE
from esmond_etl.plugin.sink import Reject
from esmond_etl.tables import typed
from esmond_etl.tables.typed import Typed

#: The kind of a file: numbers, histograms that can be queried, JSON text; or one of these with a typed column beside it.
Kind = Literal["number", "map", "json"] | Typed

TYPED: Final[tuple[Typed, ...]] = get_args(Typed)

VAL: Final[dict[Kind, pa.DataType]] = {
    "number": NUMBER,
    "map": pa.map_(pa.string(), pa.int64()),
    "json": JSON_TEXT,
    "delays": pa.map_(pa.string(), pa.int64()),
    "hops": JSON_TEXT,
    "traces": JSON_TEXT,
    "intervals": JSON_TEXT,
    "streams": JSON_TEXT,
}

#: The name of the kind, for people.
NOUNS: Final[dict[Kind, str]] = {
    "number": "numbers",
    **dict.fromkeys(("map", "delays"), "histograms as maps"),
    **dict.fromkeys(("json", "hops", "traces", "intervals", "streams"), "JSON text"),
}

#: The columns that describe the series of a datapoint: dictionaries, as they hardly ever change from row to row.
SUBJECT: Final = SUBJECT_COLUMNS

#: Columns without nulls; declaring that makes files smaller and quicker to write.
_ALWAYS: Final = frozenset({"ts", "metadata_key", "parameters"})

_TEXT: Final = pa.dictionary(pa.int32(), pa.string())


class Layout(NamedTuple):
    """The columns of a file."""

    kind: Kind
    is_named: bool = False  #: whether a column names the archive that each row is from

    @property
    def subject(self) -> tuple[str, ...]:
        """Its columns that describe the series of a datapoint."""
        return (*SUBJECT, ARCHIVE) if self.is_named else SUBJECT


def _schema(layout: Layout) -> pa.Schema:
    kind = layout.kind
    beside = [(kind, typed.TYPES[kind])] if kind in TYPED else []
    fields = [("ts", TS), ("val", VAL[kind]), *beside, *((name, _TEXT) for name in layout.subject)]
    return pa.schema([pa.field(name, type_, name not in _ALWAYS) for name, type_ in fields])


LAYOUTS: Final = tuple(Layout(kind, is_named) for kind in VAL for is_named in (False, True))

SCHEMAS: Final[dict[Layout, pa.Schema]] = {layout: _schema(layout) for layout in LAYOUTS}


def layout_of(schema: pa.Schema) -> Layout | None:
    """The layout of a file with that schema; None if it is not one of ours."""
    found = schema.field("val").type if "val" in schema.names else None
    beside: Kind | None = next((kind for kind in TYPED if kind in schema.names), None)
    kind = beside or next((kind for kind, val in VAL.items() if val == found), None)
    return Layout(kind, ARCHIVE in schema.names) if kind and VAL[kind] == found else None


def subject_values(metadata: Metadata) -> tuple[str | None, ...]:
    """The values of the `SUBJECT` columns for every datapoint under `metadata`, and the name of its archive."""
    return (
        metadata.key,
        metadata.source,
        metadata.destination,
        metadata.measurement_agent,
        metadata.tool_name,
        metadata.input_source,
        metadata.input_destination,
        msgspec.json.encode(dict(metadata.parameters)).decode(),
        _archive(metadata),
    )


def _archive(metadata: Metadata) -> str | None:
    named = metadata.parameters.get(ARCHIVE)
    return named if isinstance(named, str) else None


def subject_columns(subjects: Sequence[tuple[str | None, ...]], runs: pa.Array) -> Iterator[pa.DictionaryArray]:
    """The `SUBJECT` columns of rows that belong to `subjects[runs[row]]`."""
    rows: dict[tuple[int, ...], pa.Array] = {
        tuple(range(len(subjects))): runs
    }  # many columns change in the same rows as other columns
    for values in zip(*subjects, strict=True):
        places: dict[str, int] = {}
        codes = tuple(-1 if value is None else places.setdefault(value, len(places)) for value in values)
        if codes not in rows:
            rows[codes] = _nullable(codes).take(runs)
        yield pa.DictionaryArray.from_arrays(rows[codes], text_column(list(places)), safe=False)


_ZERO: Final = pa.scalar(0, pa.int32())  # with a plain 0, Arrow imports pandas if it is installed


def _nullable(codes: Sequence[int]) -> pa.Array:
    column = int_column(array("i", codes))
    return pc.if_else(pc.less(column, _ZERO), pa.scalar(None, pa.int32()), column) if -1 in codes else column


def beside(kind: Kind, val: pa.Array, widths: Sequence[float], runs: pa.Array) -> list[pa.Array]:
    """The column beside `val`, if there is one; `widths[runs[row]]` is how wide a bucket of that row is, ms."""
    if kind == "delays":
        return [typed.delays(val, number_column(array("d", widths)).take(runs))]
    return [typed.lists(kind, val)] if kind in typed.LISTS else []


@dataclass(frozen=True)
class Converted:
    """A converted batch: the `ts` and `val` columns of a file, and the values that could not be converted."""

    ts: pa.Array
    val: pa.Array
    rejected: list[Reject]


def natural_layout(batch: Batch, histograms: Kind, lists: bool) -> Layout:
    """The layout of the first file of a partition."""
    return Layout(_natural_kind(batch, histograms, lists), _archive(batch.series.metadata) is not None)


def _natural_kind(batch: Batch, histograms: Kind, lists: bool) -> Kind:
    val = batch.val.type
    if batch.series.data_type == "histogram" and (pa.types.is_map(val) or val == JSON_TEXT):
        return "map" if histograms == "delays" and not typed.of_delays(batch.series) else histograms
    if pa.types.is_integer(val) or pa.types.is_floating(val) or pa.types.is_decimal(val):
        return "number"
    return (typed.typed(batch.series) if lists else None) or "json"


def convert(batch: Batch, kind: Kind) -> Converted:
    """The batch's columns for `kind`; an invalid histogram is rejected. Raises ValueError if nothing can be converted."""
    val = batch.val
    if val.type == VAL[kind]:
        return Converted(batch.ts, val, [])
    if kind == "number":
        return Converted(batch.ts, val.cast(NUMBER), [])
    if pa.types.is_map(VAL[kind]):
        return _histograms(batch)
    return Converted(batch.ts, json_texts(val), [])


def _histograms(batch: Batch) -> Converted:
    if not batch.is_json:
        return Converted(batch.ts, batch.val.cast(VAL["map"]), [])
    try:
        return Converted(batch.ts, batch.opened().val, [])
    except (ValueError, OverflowError):
        good, rejected = _sorted_out(batch)
        return Converted(good.ts, good.opened().val, rejected)


def _sorted_out(batch: Batch) -> tuple[Batch, list[Reject]]:
    """The histograms that can be opened, and the others."""
    good, rejected = bytearray(), []
    for row in range(len(batch)):
        one = Batch(batch.series, batch.points.slice(row, 1))
        try:
            one.opened()
            good.append(1)
        except (ValueError, OverflowError) as error:
            good.append(0)
            rejected.append(Reject(batch.series, one.seconds[0], one.val[0].as_py(), str(error)))
    mask = pa.Array.from_buffers(pa.uint8(), len(good), [None, pa.py_buffer(bytes(good))]).cast(pa.bool_())
    return batch.filter(mask), rejected


def json_texts(val: pa.Array) -> pa.Array:
    """Opened values as their JSON texts: a map as an object."""
    if val.type == JSON_TEXT:
        return val
    if pa.types.is_string(val.type) or pa.types.is_large_string(val.type) or isinstance(val, pa.ExtensionArray):
        return (val.storage if isinstance(val, pa.ExtensionArray) else val).cast(JSON_TEXT)
    values: list[Any] = val.to_pylist()
    if pa.types.is_map(val.type):
        values = [None if value is None else dict(value) for value in values]
    encode = msgspec.json.Encoder().encode
    return json_column([encode(value) for value in values])


def readable(series: Series, ts: pa.Array, val: pa.Array) -> Batch:
    """Columns of a file as a batch of a source: numbers, or JSON text."""
    return Batch.of(series, ts, val if val.type == NUMBER else json_texts(val))
