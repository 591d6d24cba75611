"""Datapoints in columns: consecutive ones of one series, oldest first."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl.model import buckets
from esmond_etl.model.columns import (
    EXACT,
    JSON_TEXT,
    NUMBER,
    int_column,
    json_column,
    nullable_number_column,
    text_column,
    ts_column,
)
from esmond_etl.model.series import Series

#: Arrow type of an opened value, by `Series.data_type`; other types stay JSON text.
OPENED: Final[dict[str, pa.DataType]] = {"histogram": pa.map_(pa.string(), pa.int64())}


class DataPoint(NamedTuple):
    """One measured value."""

    ts: int  #: Unix time, s
    val: Any


class Fault(NamedTuple):
    """An invalid datapoint in an archive's answer, which was left out."""

    ts: int | None  #: Unix time, s; None if that is what is wrong
    text: str  #: the text of the datapoint
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive datapoints of one series, in columns.

    `points` has the columns `ts` (timestamp[s, UTC], ascending; equal only where a source has several values in one second)
    and `val` (float64 where the series holds numbers, else JSON text; a transform may make it any other Arrow type).
    """

    series: Series
    points: pa.RecordBatch
    in_order: bool = field(default=False, compare=False, repr=False)  #: `ts` is known to be strictly increasing
    faults: tuple[Fault, ...] = field(default=(), compare=False, repr=False)  #: invalid datapoints that the source left out
    _opened: list[tuple[Batch, list[bytes] | None]] = field(
        default_factory=list, compare=False, repr=False
    )  # the one result of opening it

    @classmethod
    def of(cls, series: Series, ts: pa.Array, val: pa.Array) -> Batch:
        """A batch of two columns of one length."""
        return cls(series, pa.RecordBatch.from_arrays([ts, val], ["ts", "val"]))

    @classmethod
    def from_points(cls, series: Series, points: Iterable[tuple[int, Any]]) -> Batch:
        """A batch of (ts, val) pairs; a value that is not a number is written as JSON."""
        rows = list(points)
        ts = ts_column(array("q", [row[0] for row in rows]))
        if series.holds_numbers:
            return cls.of(series, ts, nullable_number_column([row[1] for row in rows]))
        encode = msgspec.json.Encoder().encode
        return cls.of(series, ts, json_column([encode(row[1]) for row in rows]))

    def __len__(self) -> int:
        return int(self.points.num_rows)

    @property
    def ts(self) -> pa.Array:
        """When, as timestamp[s, UTC]."""
        return self.points.column(0)

    @property
    def val(self) -> pa.Array:
        """What was measured."""
        return self.points.column(1)

    @property
    def moments(self) -> memoryview[int]:
        """When, as Unix seconds, without a copy."""
        ts = self.ts
        return memoryview(ts.buffers()[1] or b"").cast("b").cast("q")[ts.offset : ts.offset + len(ts)]

    def ascends(self, strictly: bool = False) -> bool:
        """Whether every moment lies after the one before it, or, unless `strictly`, is the same."""
        if self.in_order:
            return True
        order = pc.greater if strictly else pc.greater_equal
        return not self.ts.null_count and bool(pc.all(order(self.ts[1:], self.ts[:-1]), min_count=0).as_py())

    @property
    def seconds(self) -> list[int]:
        """When, as Unix seconds."""
        result: list[int] = self.ts.cast(pa.int64()).to_pylist()
        return result

    @property
    def is_json(self) -> bool:
        """Whether `val` is unopened JSON text."""
        return bool(self.val.type == JSON_TEXT)

    def with_val(self, val: pa.Array) -> Batch:
        """The same moments with other values."""
        return Batch(self.series, pa.RecordBatch.from_arrays([self.ts, val], ["ts", "val"]), self.in_order)

    def with_series(self, series: Series) -> Batch:
        """The same datapoints as those of another series."""
        return Batch(series, self.points, self.in_order, self.faults, self._opened)

    def filter(self, mask: pa.Array) -> Batch:
        """Only the datapoints where `mask` is true."""
        return Batch(self.series, self.points.filter(mask), self.in_order, self.faults)

    def values(self) -> list[Any]:
        """The values as Python objects: JSON text decoded, whole numbers as integers where the event type counts something.

        Raises ValueError, naming the series and the moment, if a text cannot be decoded: a number in it is too large for a double.
        """
        values: list[Any] = self.val.to_pylist()
        if self.series.counts and self.val.type == NUMBER:
            return [int(value) if value is not None and abs(value) <= EXACT and value.is_integer() else value for value in values]
        if not self.is_json:
            return values
        decode = msgspec.json.Decoder().decode
        found: list[Any] = []
        try:
            found.extend(map(decode, values))
        except msgspec.DecodeError as error:
            when = self.seconds[len(found)]
            raise ValueError(f"{self.series} at {when}: the value cannot be read: {error}") from None
        return found

    def to_points(self) -> Iterator[DataPoint]:
        """The datapoints one by one: slow, for a few datapoints or for display."""
        return map(DataPoint, self.seconds, self.values())

    def opened(self) -> Batch:
        """The same with histograms as map<string, int64> instead of JSON text; other values as they are.

        Raises ValueError, naming the series and the moment, if a value does not fit its event type.
        """
        target = OPENED.get(self.series.data_type)
        if target is None or not self.is_json:
            return self
        if not self._opened:
            val, texts = _open_histograms(self)
            self._opened.append((self.with_val(val), texts))
        return self._opened[0][0].with_series(self.series)

    @property
    def sorted_texts(self) -> list[bytes] | None:
        """The JSON texts of histograms with sorted keys and without blanks; None unless the batch has been opened."""
        return self._opened[0][1] if self._opened else None


_encode_sorted = msgspec.json.Encoder(order="sorted").encode

#: The count of a bucket: an int64.
Count = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

_HISTOGRAMS = msgspec.json.Decoder(list[dict[str, Count]])


def _open_histograms(batch: Batch) -> tuple[pa.Array, list[bytes] | None]:
    """Histograms as a map, and as JSON texts with sorted keys; the texts are None if a count is not written as a whole number."""
    found = buckets.opened(batch.val)
    if found is not None:
        return found
    texts = batch.val.to_pylist()
    ordered = None
    try:
        histograms = _HISTOGRAMS.decode("[" + ",".join(texts) + "]")
        ordered = list(map(_encode_sorted, histograms))
    except msgspec.DecodeError:
        histograms = [_open_histogram(batch, row, text) for row, text in enumerate(texts)]
    offsets = array("i", [0])
    keys: list[str] = []
    counts = array("q")
    for histogram in histograms:
        keys.extend(histogram)
        counts.extend(histogram.values())
        offsets.append(len(keys))
    return pa.MapArray.from_arrays(int_column(offsets), text_column(keys), int_column(counts)), ordered


def _open_histogram(batch: Batch, row: int, text: str) -> dict[str, int]:
    try:
        return msgspec.json.decode(text, type=dict[str, Count], strict=False)
    except msgspec.DecodeError as error:
        raise ValueError(f"{batch.series} at {batch.seconds[row]}: not a histogram ({error}): {text[:80]}") from None
