"""The delivery of one task to InfluxDB: blocks of lines, sent as they fill up."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import EQUAL_IN_A_SECOND, Batch, Load, Receipt, Reject, Series
from esmond_etl_influxdb import lines
from esmond_etl_influxdb.fields import Points
from esmond_etl_influxdb.server import Refused, Server

#: A request has at most this many lines, and hardly more than this many bytes.
LINES: Final = 5000
BYTES: Final = 2 * 2**20

_DROPPED: Final = re.compile(r"dropped=([0-9]+)")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines of one batch."""

    batch: Batch
    lines: pa.Array
    row: pa.Array | None  #: int64: the datapoint of each line; None: one line per datapoint

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(lines.block(self.lines))

    def cut(self, start: int, length: int) -> Chunk:
        """Some of its lines."""
        row = self.row.slice(start, length) if self.row is not None else None
        batch = self.batch if row is not None else Batch(self.batch.series, self.batch.points.slice(start, length))
        return Chunk(batch, self.lines.slice(start, length), row)

    def datapoints(self) -> Iterable[int]:
        """The rows of the batch that its lines are of."""
        rows: Iterable[int] = range(len(self)) if self.row is None else self.row.unique().to_pylist()
        return rows


class Buffer:
    """Chunks that do not fill a request yet."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self._lines = self._size = 0

    def add(self, chunk: Chunk) -> list[list[Chunk]]:
        """Add `chunk`; returns the blocks that are full, and removes them from the buffer."""
        self.chunks.append(chunk)
        self._lines, self._size = self._lines + len(chunk), self._size + chunk.size
        if self._lines < LINES and self._size < BYTES:
            return []
        *full, rest = _blocks(self.chunks)
        self._keep(rest)
        if self._lines == LINES or self._size >= BYTES:
            full.append(rest)
            self._keep([])
        return full

    def _keep(self, chunks: list[Chunk]) -> None:
        self.chunks = chunks
        self._lines, self._size = sum(map(len, chunks)), sum(chunk.size for chunk in chunks)


@dataclass
class Counts:
    """The numbers of datapoints by result."""

    taken: int = 0
    unchanged: int = 0  #: equal to the one before, in the same second


class Begun:
    """A series that is being written, by one thread."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.buffer = Buffer()
        self.last: tuple[int, str] | None = None  #: of its datapoints


class InfluxDBLoad(Load):
    """Sends lines in requests of up to `LINES` lines, which series share, from the writing threads.

    A second delivery overwrites the first, so a request is sent as soon as it is full. A series that does not fill a request is
    sent after its end; if a longer one breaks off, the target keeps what was sent until it is delivered again.
    """

    def __init__(self, server: Server, encode: Callable[[Batch], tuple[Points, pa.Array]]) -> None:
        self._server, self._encode = server, encode
        self._lock = threading.Lock()
        self._begun: dict[Series, Begun] = {}
        self._ended: dict[Series, Counts] = {}
        self._buffer = Buffer()  # of ended series
        self._rejects: dict[tuple[Series, int, str], Reject] = {}

    def write(self, batch: Batch) -> None:
        """Encode `batch`, and send what fills a request."""
        begun = self._begun.setdefault(batch.series, Begun())
        begun.counts.taken += len(batch)
        for piece in _pieces(self._one_a_second(batch, begun)):
            points, text = self._encode(piece)
            for row, reason in points.refused.items():
                self._reject(piece, row, reason)
            for start in range(0, len(text), LINES):
                chunk = Chunk(piece, text, points.row).cut(start, min(LINES, len(text) - start))
                for block in begun.buffer.add(chunk):
                    self._deliver(block)

    def end(self, series: Series) -> None:
        """Let the rest of `series` share a request with others."""
        begun = self._begun.pop(series, Begun())
        with self._lock:
            self._ended[series] = begun.counts
            full = [block for chunk in begun.buffer.chunks for block in self._buffer.add(chunk)]
        for block in full:
            self._deliver(block)

    def commit(self) -> Receipt:
        """Send the rest; returns once the server has acknowledged all."""
        if self._buffer.chunks:
            self._deliver(self._buffer.chunks)
        rejected = tuple(reject for reject in self._rejects.values() if reject.series in self._ended)
        taken = sum(counts.taken for counts in self._ended.values())
        unchanged = sum(counts.unchanged for counts in self._ended.values())
        remarks = {EQUAL_IN_A_SECOND: unchanged} if unchanged else {}
        return Receipt(taken - unchanged - len(rejected), unchanged, rejected, remarks)

    def rollback(self) -> None:
        """Forget what has not been sent."""
        self._begun.clear()
        self._buffer = Buffer()

    def _deliver(self, block: list[Chunk]) -> None:
        """Send `block`; if the server refuses it, halve it until only the refused lines are left."""
        size = sum(map(len, block))
        try:
            self._server.write(b"".join(lines.block(chunk.lines) for chunk in block))
        except Refused as error:
            dropped = _DROPPED.search(error.reason)
            is_one_reason = len({chunk.batch.series.event_type for chunk in block}) == 1  # it may name a measurement
            if size == 1 or (error.status != 413 and is_one_reason and dropped and int(dropped[1]) == size):
                for chunk in block:
                    for row in chunk.datapoints():
                        self._reject(chunk.batch, row, error.reason)
                return
            for half in _halves(block, size // 2):
                self._deliver(half)

    def _reject(self, batch: Batch, row: int, reason: str) -> None:
        ts, val = batch.ts[row].value, lines.value_text(batch, row)
        with self._lock:
            self._rejects.setdefault((batch.series, ts, val), Reject(batch.series, ts, val, reason))

    def _one_a_second(self, batch: Batch, begun: Begun) -> Batch:
        """The batch without further datapoints in one second: InfluxDB would silently keep only the last of them."""
        if not len(batch):
            return batch
        seconds = batch.ts.view(pa.int64())
        again = begun.last is not None and begun.last[0] == seconds[0].as_py()
        if not again and (len(batch) == 1 or not pc.any(pc.equal(seconds[1:], seconds[:-1])).as_py()):
            begun.last = seconds[-1].as_py(), lines.value_text(batch, len(batch) - 1)
            return batch
        keep = [self._is_first(batch, row, ts, begun) for row, ts in enumerate(seconds.to_pylist())]
        return batch.filter(pa.array(keep, pa.bool_()))

    def _is_first(self, batch: Batch, row: int, ts: int, begun: Begun) -> bool:
        val = lines.value_text(batch, row)
        if begun.last is None or begun.last[0] != ts:
            begun.last = ts, val
            return True
        if begun.last[1] == val:
            begun.counts.unchanged += 1
        else:
            self._reject(batch, row, f"the series has another value in this second, {begun.last[1][:80]}, and InfluxDB keeps one")
        return False


def _pieces(batch: Batch) -> Iterator[Batch]:
    """`batch` in pieces of about one request each."""
    rows = max(1, min(LINES, BYTES * len(batch) // max(1, batch.points.nbytes)))
    for start in range(0, len(batch), rows):
        yield Batch(batch.series, batch.points.slice(start, rows))


def _blocks(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """`chunks` in blocks of at most `LINES` lines, and `BYTES` where chunks are not larger."""
    block: list[Chunk] = []
    room, left = LINES, BYTES
    for chunk in chunks:
        if block and chunk.size > left:
            yield block
            block, room, left = [], LINES, BYTES
        if len(chunk) > room:
            yield [*block, chunk.cut(0, room)]
            chunk, block, room, left = chunk.cut(room, len(chunk) - room), [], LINES, BYTES
        block.append(chunk)
        room, left = room - len(chunk), left - chunk.size
    yield block


def _halves(block: list[Chunk], middle: int) -> tuple[list[Chunk], list[Chunk]]:
    """The first `middle` lines, and the rest."""
    first: list[Chunk] = []
    rest: list[Chunk] = []
    for chunk in block:
        here = max(0, min(len(chunk), middle))
        middle -= here
        first += [chunk.cut(0, here)] if here else []
        rest += [chunk.cut(here, len(chunk) - here)] if here < len(chunk) else []
    return first, rest
