"""From datapoints of several event types of one metadata, in columns, to the bodies of bulk requests; no I/O."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import Interval, Series, int_column

#: Timestamps per request at most.
MOST: Final = 1000

#: Bytes per request at most: Django, which esmond uses, accepts 2.5 MB by default.
LARGEST: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Column:
    """Datapoints of one base series that must be in the target."""

    source: Series  #: the series in the source
    target: Series  #: the series in the target
    ts: pa.Array  #: Unix seconds, int64, strictly increasing
    val: pa.Array  #: the values that the target should answer: float64, or JSON text
    text: pa.Array  #: the posted values, JSON text
    guessed: pa.Array | None = None  #: a mask: the weight of a percentage is a guess

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def event_type(self) -> str:
        """The name of its event type."""
        return self.source.event_type

    @property
    def span(self) -> Interval:
        """From the first to the last of its datapoints; it has one at least."""
        return Interval(self.ts[0].as_py(), self.ts[-1].as_py() + 1)

    def only(self, mask: pa.Array) -> Column:
        """Only the datapoints where `mask` is true."""
        guessed = None if self.guessed is None else self.guessed.filter(mask)
        return Column(self.source, self.target, self.ts.filter(mask), self.val.filter(mask), self.text.filter(mask), guessed)


#: The place of one value of a metadata: its event type and `ts`.
Slot = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Bulk:
    """The datapoints of one request, and their order."""

    body: bytes
    names: Sequence[str]  #: event types
    owner: pa.Array  #: of each value in order: index of its event type in `names`
    ts: pa.Array  #: of each value in order: Unix seconds, int64

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def moments(self) -> int:
        """The number of its timestamps."""
        return len(pc.unique(self.ts))

    def times(self, event_type: str) -> pa.Array:
        """The timestamps of the values of one event type, Unix seconds."""
        if event_type not in self.names:
            return self.ts[:0]
        return self.ts.filter(pc.equal(self.owner, self.names.index(event_type)))

    @property
    def places(self) -> list[Slot]:
        """Every value in order."""
        return [(self.names[owner], ts) for owner, ts in zip(self.owner.to_pylist(), self.ts.to_pylist(), strict=True)]


def bulks(columns: Sequence[Column], most: int | Callable[[], int] = MOST) -> Iterator[Bulk]:
    """All datapoints of `columns` in requests of up to `most` timestamps: by time, and at one time in the order of the columns.

    If `most` is 0, each value is a request of its own. `most` may be a function; it is called before each request.
    """
    limit = most if callable(most) else lambda: most
    names = [column.event_type for column in columns]
    ts, owner, values = _by_time(columns)
    starts = _starts(ts, limit() > 0)
    items = _items(ts, values, starts)
    ends = pc.cumulative_sum(pc.binary_length(items).cast(pa.int64())).to_pylist()
    first = 0
    while first < len(items):
        end = _end(ends, first, max(limit(), 1))
        begin, stop = starts[first].as_py(), starts[end].as_py()
        yield Bulk(_body(items[first:end]), names, owner[begin:stop], ts[begin:stop])
        first = end


def _by_time(columns: Sequence[Column]) -> tuple[pa.Array, pa.Array, pa.Array]:
    """All values in order: `ts`, the index of their column, and their JSON text with the event type's name."""
    ts = pa.concat_arrays([column.ts for column in columns])
    owner = pa.concat_arrays([_repeat(place, len(column)) for place, column in enumerate(columns)])
    values = pa.concat_arrays([_named(column) for column in columns])
    if len(columns) > 1:
        order = pc.sort_indices(ts)  # stable: at one `ts` the columns' order stays
        ts, owner, values = ts.take(order), owner.take(order), values.take(order)
    return ts, owner, values


def _repeat(place: int, length: int) -> pa.Array:
    return int_column(array("i", [place]) * length)


def _named(column: Column) -> pa.Array:
    name = msgspec.json.encode(column.event_type).decode()
    return pc.binary_join_element_wise(f'{{"event-type":{name},"val":', column.text, "}", "")


def _starts(ts: pa.Array, together: bool) -> pa.Array:
    """The start of each item of a request among the values, and the end of the last one."""
    if not together:
        return int_column(array("i", range(len(ts) + 1)))
    changes = pc.add(pc.indices_nonzero(pc.not_equal(ts[1:], ts[:-1])), 1).cast(pa.int32())
    return pa.concat_arrays([int_column(array("i", [0])), changes, int_column(array("i", [len(ts)]))])


def _items(ts: pa.Array, values: pa.Array, starts: pa.Array) -> pa.Array:
    """`{"ts": ..., "val": [...]}` for each group of values."""
    seconds = ts.take(starts[:-1]).cast(pa.string())
    grouped = values if len(starts) > len(values) else pc.binary_join(pa.ListArray.from_arrays(starts, values), ",")
    return pc.binary_join_element_wise('{"ts":', seconds, ',"val":[', grouped, "]}", "")


def _end(ends: Sequence[int], first: int, most: int) -> int:
    """The end of the request that begins with item `first`: after `most` items, or before it gets too large."""
    begin = ends[first - 1] if first else 0
    fitting = bisect.bisect_right(ends, begin + LARGEST)
    return min(max(fitting, first + 1), first + most, len(ends))


def _body(items: pa.Array) -> bytes:
    whole = pa.ListArray.from_arrays(int_column(array("i", [0, len(items)])), items)
    return b'{"data":[%b]}' % pc.binary_join(whole, ",")[0].as_buffer().to_pybytes()
