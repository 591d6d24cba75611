"""Digests of datapoints: they tell whether two places hold the same data, without reading both again.

docs/digest.md has the format, and a short script of its own that computes the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl.model import buckets
from esmond_etl.model.batch import Batch
from esmond_etl.model.columns import JSON_TEXT, NUMBER
from esmond_etl.model.interval import floor

#: Part of every digest, so digests of different versions never match.
VERSION: Final = 1
SIZE: Final = 16  #: bytes
_ALL: Final = 1 << (8 * SIZE)


class Window(NamedTuple):
    """The datapoints of one series in one window; a window without datapoints has none of these."""

    start: int  #: Unix time
    number: int  #: datapoints
    digest: bytes
    first: int | None = None  #: Unix time of the first datapoint; None if an older version did not note it
    last: int | None = None  #: and of the last one

    @property
    def content(self) -> tuple[int, int, bytes]:
        """What two windows with the same datapoints have in common."""
        return self.start, self.number, self.digest


class Digester:
    """Takes the batches of one series, oldest first, and makes a digest of each window."""

    def __init__(self, window: int) -> None:
        """`window` is the length of a window, s."""
        self._window = window
        self._start: int | None = None
        self._reset()

    def _reset(self) -> None:
        self._count, self._ts, self._val = 0, sha256(), sha256()
        self._first = self._last = 0

    def through(self, batches: Iterable[Batch], found: list[Window]) -> Iterator[Batch]:
        """The same batches; the digests of their windows are in `found` once all have been taken."""
        for batch in batches:
            found += self.add(batch)
            yield batch
        found += self.end()

    def add(self, batch: Batch) -> list[Window]:
        """Add a batch; returns the windows that it completed."""
        ended: list[Window] = []
        moments, first = batch.moments, 0
        stamps, values = moments.cast("B"), _Values(batch)
        while first < len(moments):
            start = floor(moments[first], self._window)
            if start != self._start:
                ended += self.end()
                self._start = start
            last = bisect_left(moments, start + self._window, first)
            self._first = self._first if self._count else moments[first]
            self._last = moments[last - 1]
            self._count += last - first
            self._ts.update(stamps[8 * first : 8 * last])
            self._val.update(values.part(first, last))
            first = last
        return ended

    def end(self) -> list[Window]:
        """The window that the last batch was in, if there was one."""
        if self._start is None or not self._count:
            return []
        total = sha256(b"esmond-etl %d %d %d " % (VERSION, self._start, self._count))
        total.update(self._ts.digest()[:SIZE])
        total.update(self._val.digest()[:SIZE])
        found = Window(self._start, self._count, total.digest()[:SIZE], self._first, self._last)
        self._start = None
        self._reset()
        return [found]


class _Values:
    """The values of a batch as the bytes that are digested."""

    def __init__(self, batch: Batch) -> None:
        self._val = batch.val
        is_number = pa.types.is_floating(self._val.type) or pa.types.is_integer(self._val.type)
        self._numbers = _numbers(self._val) if is_number else None
        self._sorted = None if is_number else batch.sorted_texts
        self._are_histograms = not is_number and batch.series.data_type == "histogram"

    def part(self, first: int, last: int) -> bytes | memoryview:
        """The values from row `first` up to, not including, row `last`."""
        if self._numbers is not None:
            return self._numbers[8 * first : 8 * last]
        if self._sorted is not None:
            return b",".join([*self._sorted[first:last], b""])
        return canonical(self._val.slice(first, last - first), self._are_histograms)


#: The first byte of -0.0, and of numbers so small that hardly any measurement has them.
_SMALL: Final = b"\x80"


def _numbers(val: pa.Array) -> memoryview:
    """Numbers as float64, little endian, with 0.0 for -0.0 and NaN for null."""
    numbers = val if val.type == NUMBER else val.cast(NUMBER)
    if numbers.null_count:
        numbers = pc.fill_null(numbers, float("nan"))
    found = _bytes(numbers)
    # looking for the byte takes half the time of an addition to every number
    return _bytes(pc.add(numbers, 0.0)) if _SMALL in bytes(found)[7::8] else found


def _bytes(column: pa.Array) -> memoryview:
    """The items of a column of 8 bytes each, little endian, without a copy."""
    buffer = column.buffers()[1]
    return memoryview(buffer or b"")[column.offset * 8 : (column.offset + len(column)) * 8]


_encode: Final = msgspec.json.Encoder(order="sorted").encode


def canonical(val: pa.Array, are_histograms: bool = False) -> bytes:
    """Values as JSON texts with sorted keys and without blanks, each followed by a comma; invalid JSON is kept as it is."""
    if are_histograms and val.type == JSON_TEXT and not val.null_count and (histograms := buckets.canonical(val)):
        return b",".join([*histograms, b""])
    items = val.to_pylist()
    if val.type != pa.string():
        return _joined([dict(each) if isinstance(each, list) else each for each in items])
    texts = ["null" if text is None else text for text in items]
    try:
        return _joined(msgspec.json.decode("[" + ",".join(texts) + "]"))
    except msgspec.MsgspecError:
        return "".join([f"{text}," for text in texts]).encode()


def _joined(values: list[Any]) -> bytes:
    return _encode(values)[1:-1] + b"," if values else b""


def total(windows: Iterable[Window]) -> Window:
    """The sum of several windows of one series: their number of datapoints, and the sum of their digests (modulo 2**128)."""
    count = value = 0
    start = 0
    for window in windows:
        start = start or window.start
        count += window.number
        value = (value + int.from_bytes(window.digest, "little")) % _ALL
    return Window(start, count, value.to_bytes(SIZE, "little"))


def root(series: Iterable[tuple[str, Window]]) -> str:
    """One digest of many series, as hexadecimal text; each comes with a line that says what it measures, whatever its key is.

    A series without datapoints is ignored.
    """
    lines = sorted(f"{name}\t{whole.number}\t{whole.digest.hex()}\n" for name, whole in series if whole.number)
    return sha256("".join(lines).encode()).digest()[:SIZE].hex()
