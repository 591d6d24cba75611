"""The fields of the documents of one test, in columns, while they are filled."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import int_column, text_column
from esmond_etl_opensearch.codec.places import Path

_encode: Final = msgspec.json.Encoder().encode

#: The values that cannot be restored from their fields.
_ORIGINALS: Final = ("esmond", "json", "values")

#: Beyond this number, not every whole number is exact in a float64.
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

    def moments(self, wanted: Callable[[Path], bool] | None = None) -> pa.Array:
        """The times of all documents, in order; with `wanted`, only of documents with such a field."""
        found = [part.ts for path in self._paths() if wanted is None or wanted(path) for part in self._parts(path)]
        every = pc.unique(pa.concat_arrays([_times(()), *found]))
        return every.take(pc.sort_indices(every))

    def aligned(self, moments: pa.Array) -> dict[Path, pa.Array]:
        """The texts of each path, one for each of `moments`; null for a document without that field."""
        return {path: _aligned(self._parts(path), moments) for path in self._paths()}

    def _paths(self) -> Iterable[Path]:
        return {**self._columns, **self._single}

    def _parts(self, path: Path) -> list[_Column]:
        single = self._single.get(path, {})
        alone = [_Column(_times(single), text_column(list(single.values())))] if single else []
        return [*self._columns.get(path, ()), *alone]


def _times(moments: Iterable[int]) -> pa.Array:
    return int_column(array("q", moments))


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
    return items(_encode(numbers).decode()[1:-1])[: len(numbers)]


def items(text: str) -> pa.Array:
    """The parts of a text between its commas."""
    return pc.split_pattern(text_column([text]), ",").flatten()


def _all_whole(values: pa.Array) -> bool:
    if values.null_count or not len(values):
        return False
    fits = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), _EXACT))
    return bool(pc.all(fits).as_py())


def list_texts(offsets: pa.Array, texts: pa.Array) -> pa.Array:
    """The JSON texts of lists, without their brackets, from the offsets of the lists and the texts of all their members."""
    return pc.binary_join(pa.ListArray.from_arrays(offsets, texts), ",")
