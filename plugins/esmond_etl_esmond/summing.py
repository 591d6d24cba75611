"""Whether an archive adds up the values of one request correctly, and how to send them if it does not.

esmond keeps what a bulk request writes back until its end. To add a histogram to the aggregation of its window it reads that
aggregation, without the histograms that stand before it in the same request: of several in one window only the last one is added. So it
is with the aggregations of floats. (All other summaries are counters, which add up.) The first time that two histograms of one
window are due, they are sent alone, and the aggregation is looked at. If the first is missing, it is sent once more, by itself: that
replaces it by itself, and adds it to the aggregations, all of which lack it. From then on, no two share a request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import Summary
from esmond_etl_esmond.bulk import Column

#: The data types whose aggregations an archive reads before it adds to them.
READ_FIRST: Final = frozenset({"histogram", "float"})

_decode = msgspec.json.Decoder(dict[str, int], strict=False).decode


class Trial(msgspec.Struct, frozen=True):
    """Two histograms of one window that are sent in one request, to see whether both are added."""

    event_type: str
    window: int  #: s
    first: int  #: `ts`
    second: int
    before: dict[str, int]  #: the aggregation without them
    text: str = ""  #: of the first, JSON, in the source's order of buckets

    def is_lossy(self, first: Counter[str], second: Counter[str], after: Counter[str]) -> bool | None:
        """Whether only the second was added; None if the aggregation is neither that nor the correct sum."""
        kept = Counter(self.before) + second
        return False if after == kept + first else True if after == kept else None


class Verdict:
    """Whether a target adds up the values of one request correctly, if known; noted for later runs."""

    def __init__(self, memory: MutableMapping[str, str], url: str) -> None:
        self._memory, self._name = memory, f"adds-up-in-bulk:{url}"
        self._known = memory.get(self._name)

    @property
    def adds_up(self) -> bool | None:
        """None if it is not known."""
        return None if self._known is None else self._known == "yes"

    def note(self, adds_up: bool) -> None:
        """Note it; "does not" is final."""
        if self._known != "no":
            self._known = self._memory[self._name] = "yes" if adds_up else "no"

    def trial(self, key: str) -> Trial | None:
        """The trial that is under way in one metadata of the target, also if an earlier process began it."""
        text = self._memory.get(f"trial:{key}")
        return msgspec.json.decode(text, type=Trial) if text else None

    def begin(self, key: str, trial: Trial) -> None:
        """Note the trial before it begins."""
        self._memory[f"trial:{key}"] = msgspec.json.encode(trial).decode()

    def end(self, key: str) -> None:
        """Note that the trial has a result, and that lost datapoints were sent again."""
        self._memory.pop(f"trial:{key}", None)


def windows(column: Column) -> list[int]:
    """The windows of the target's aggregations that are read before they are added to, s, the narrowest first."""
    if column.source.data_type not in READ_FIRST:
        return []
    declared = column.target.metadata.event_types[column.event_type]
    return sorted(summary.window for summary in declared if summary.type == "aggregation" and summary.window)


def aggregation(window: int) -> Summary:
    """The aggregation of one window."""
    return Summary("aggregation", window)


def counts(text: str) -> Counter[str]:
    """A histogram's counts; raises ValueError if it is not a histogram."""
    return Counter(_decode(text))


def pair(columns: Sequence[Column]) -> Column | None:
    """Two datapoints of a column of histograms that share the narrowest window, and of which the first counts something.

    They are the first two of their widest window: the target meets the buckets of a window in the order in which the source does.
    Best are two whose buckets come in the same order whichever of them is added first: a lossy target adds the second one first.
    """
    found = [two for column in columns for two in _pairs(column) if _is_fit(two)]
    return next(filter(_commutes, found), found[0] if found else None)


def _pairs(column: Column) -> Iterator[Column]:
    if column.source.data_type != "histogram" or len(column) < 2:
        return
    spans = windows(column)
    ranks, at = _ranks(column, spans[-1]), _at(column, spans[0])
    together = pc.equal(at[1:], at[:-1])
    places = pc.indices_nonzero(pc.and_(together, pc.and_(pc.equal(ranks[:-1], 0), pc.equal(ranks[1:], 1))))
    for place in places[:10].to_pylist():
        yield column.only(pc.is_in(column.ts, column.ts[place : place + 2]))


def _commutes(two: Column) -> bool:
    first, second = map(counts, two.text.to_pylist())
    return [*{**first, **second}] == [*{**second, **first}]


def _is_fit(two: Column) -> bool:
    try:
        first, second = map(counts, two.text.to_pylist())
    except ValueError:
        return False
    return first.total() > 0 and min([*first.values(), *second.values()]) > 0


def without(columns: Sequence[Column], out: Column) -> list[Column]:
    """`columns` without the datapoints of `out`."""
    left = (
        column.only(pc.invert(pc.is_in(column.ts, out.ts))) if column.event_type == out.event_type else column for column in columns
    )
    return [column for column in left if len(column)]


def apart(columns: Sequence[Column]) -> Iterator[list[Column]]:
    """`columns` in parts in which no two datapoints of a column share a window; in each window the oldest first."""
    ranks = [_ranks(column, windows(column)[-1]) for column in columns]
    last = max((pc.max(rank).as_py() for rank in ranks), default=-1)
    for number in range(last + 1):
        chosen = (column.only(pc.equal(rank, number)) for column, rank in zip(columns, ranks, strict=True))
        yield [column for column in chosen if len(column)]


def _at(column: Column, window: int) -> pa.Array:
    """The window, as a number, that each datapoint is in."""
    return pc.floor(pc.divide(column.ts.cast(pa.float64()), float(window)))


def _ranks(column: Column, window: int) -> pa.Array:
    """The rank of each datapoint within its window, from 0."""
    at = _at(column, window)
    place = pc.indices_nonzero(pc.is_valid(at)).cast(pa.int32())
    return pc.subtract(place, pc.index_in(at, value_set=at))
