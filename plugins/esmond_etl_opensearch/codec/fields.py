"""The fields of the documents of one test, in columns, while they are filled."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import text_column, ts_column
from esmond_etl_opensearch.codec.places import Path

_encode: Final = msgspec.json.Encoder().encode

#: The values that cannot be restored from their fields.
_ORIGINALS: Final = ("esmond", "json", "values")

#: Numbers beyond are not whole numbers for certain.
_EXACT: Final = 2.0**53


class Refused(NamedTuple):
    """A datapoint that no document can hold."""

    event_type: str
    ts: int
    val: str  #: JSON text
    reason: str


class _Column(NamedTuple):
    ts: pa.Array  #: int64, Unix time
    text: pa.Array  #: JSON texts


@dataclass
class Fields:
    """JSON texts by path and time."""

    refused: list[Refused] = field(default_factory=list)
    _columns: dict[Path, list[_Column]] = field(default_factory=dict)
    _single: dict[Path, dict[int, str]] = field(default_factory=dict)

    def add(self, path: Path, ts: pa.Array, text: pa.Array) -> None:
        """Set one field of many documents; null for a document without it."""
        if text.null_count:
            ts, text = ts.filter(text.is_valid()), text.drop_null()
        if len(text):
            self._columns.setdefault(path, []).append(_Column(ts.cast(pa.int64()), text))

    def put(self, path: Path, ts: int, text: str) -> None:
        """Set one field of the document of `ts`."""
        self._single.setdefault(path, {})[ts] = text

    def keep(self, name: str, ts: int, text: str) -> None:
        """Keep the original value, besides the content of its field."""
        self.put((*_ORIGINALS, name), ts, text)

    def refuse(self, name: str, ts: int, text: str, reason: str) -> None:
        """Note that no document can hold a datapoint."""
        self.refused.append(Refused(name, ts, text, reason))

    def moments(self, wanted: Callable[[Path], object] = bool) -> pa.Array:
        """The times for which any field, or one that is `wanted`, is set, in order."""
        found = [part.ts for path in self._paths() if wanted(path) for part in self._parts(path)]
        every = pc.unique(pa.concat_arrays([_times(()), *found]))
        return every.take(pc.sort_indices(every))

    def aligned(self, moments: pa.Array) -> dict[Path, pa.Array]:
        """By path, the text for each of `moments`; null where there is none."""
        return {path: _aligned(self._parts(path), moments) for path in self._paths()}

    def _paths(self) -> Iterable[Path]:
        return {**self._columns, **self._single}

    def _parts(self, path: Path) -> list[_Column]:
        single = self._single.get(path, {})
        alone = [_Column(_times(single), text_column(list(single.values())))] if single else []
        return [*self._columns.get(path, ()), *alone]


def _times(moments: Iterable[int]) -> pa.Array:
    return ts_column(array("q", moments)).cast(pa.int64())


def _aligned(parts: list[_Column], moments: pa.Array) -> pa.Array:
    ts, text = (pa.concat_arrays(each) for each in zip(*parts, strict=True))
    return text if ts.equals(moments) else text.take(pc.index_in(moments, value_set=ts))


def number_texts(values: pa.Array, whole: bool = False) -> pa.Array:
    """The JSON texts of float64 numbers, "null" for one that is null or not finite; with `whole`, 7 instead of 7.0."""
    if whole and _all_whole(values):
        return values.cast(pa.int64()).cast(pa.string())
    numbers: list[Any] = values.to_pylist()
    if whole:
        numbers = [int(each) if each is not None and each.is_integer() else each for each in numbers]
    return pc.split_pattern(text_column([_encode(numbers).decode()[1:-1]]), ",").flatten()[: len(numbers)]


def _all_whole(values: pa.Array) -> bool:
    if values.null_count or not len(values):
        return False
    fits = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), _EXACT))
    return bool(pc.all(fits).as_py())


def list_texts(offsets: pa.Array, texts: pa.Array) -> pa.Array:
    """The JSON texts of lists, without their brackets, from the offsets of the lists and the texts of all their members."""
    return pc.binary_join(pa.ListArray.from_arrays(offsets, texts), ",")


def texts_of(texts: Sequence[str | None]) -> pa.Array:
    """Texts and None as a column."""
    column = text_column([each or "" for each in texts])
    if None not in texts:
        return column
    known = pa.Array.from_buffers(pa.uint8(), len(texts), [None, pa.py_buffer(bytes(each is not None for each in texts))])
    return pc.if_else(known.cast(pa.bool_()), column, pa.scalar(None, pa.string()))


def no_texts(length: int) -> pa.Array:
    """So many missing texts."""
    return pa.nulls(length, pa.string())
