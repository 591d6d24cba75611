"""The source against a sink: series by series, value by value, with a page of each in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl.engine.delivery import Delivery
from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.stream import Stream
from esmond_etl.model.batch import Batch
from esmond_etl.model.columns import TS
from esmond_etl.model.equality import same_value
from esmond_etl.model.errors import NotComparableError, described
from esmond_etl.model.interval import IntervalSet
from esmond_etl.model.series import Series, SeriesId
from esmond_etl.pipeline.definition import Definition
from esmond_etl.plugin.sink import Sink, View

#: This many differences of a series are shown; all are counted.
SHOWN = 5


class Difference(NamedTuple):
    """One datapoint that is not the same on both sides."""

    kind: Literal["missing", "extra", "different"]
    ts: int
    source: Any  #: the expected value; None if there should be none
    sink: Any  #: the value found; None if there is none


@dataclass
class Compared:
    """How one series of the source compares with one sink."""

    series: SeriesId
    sink: str
    equal: int = 0  #: datapoints
    missing: int = 0
    extra: int = 0
    different: int = 0
    multiples: int = 0  #: of the different ones, numbers that are a multiple of the expected value
    first: list[Difference] = field(default_factory=list)
    rejected: int = 0  #: of the missing ones, datapoints that the sink rejected, as the ledger knows
    error: str = ""  #: why the comparison broke off
    left_out: str = ""  #: why it was not compared: the target cannot read it back
    moments: set[int] = field(default_factory=set)  #: Unix times of all that differs
    known: frozenset[int] = frozenset()  #: moments of rejected datapoints
    one_a_second: bool = False  #: whether the sink keeps one of equal datapoints in one second
    told: Callable[[Compared, Difference], None] = lambda _, __: None  #: called with every difference

    @property
    def same(self) -> bool:
        """Whether the sink holds exactly what it should."""
        return not (self.missing or self.extra or self.different or self.error)

    def add(self, difference: Difference) -> None:
        """Count a difference, and keep it if it is one of the first."""
        setattr(self, difference.kind, getattr(self, difference.kind) + 1)
        self.multiples += _is_multiple(difference)
        self.rejected += difference.kind == "missing" and difference.ts in self.known
        self.moments.add(difference.ts)
        self.told(self, difference)
        if len(self.first) < SHOWN:
            self.first.append(difference)


def _is_multiple(difference: Difference) -> bool:
    """Whether the sink holds a multiple of a number: an archive adds up what two requests write at the same time."""
    source, sink = difference.source, difference.sink
    are_numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (source, sink))
    return are_numbers and source != 0 and sink / source >= 2 and float(sink / source).is_integer()


#: The function that is called with every difference.
Told = Callable[[Compared, Difference], None]


class Piece(NamedTuple):
    """A series, and the time in which it is compared."""

    series: Series
    intervals: IntervalSet


def verify(delivery: Delivery, ledger: Ledger, pieces: Iterable[Piece], told: Told | None = None) -> Iterator[Compared]:
    """How each of `pieces` compares with each sink, in the given order; several threads call `told` with every difference."""
    rejected = known_rejects(ledger)
    pairs = [(place, each) for each in pieces for place in _places(delivery.definition)]

    def compared(pair: tuple[_Place, Piece]) -> Compared:
        (label, sink, name, view), piece = pair
        known = rejected.get((label, piece.series.id), frozenset())
        result = Compared(piece.series.id, name, known=known, one_a_second=sink.features.one_a_second)
        if told:
            result.told = told
        return _compare(delivery.stream, sink, view, piece, result)

    with ThreadPoolExecutor(delivery.definition.settings.threads, "verify") as pool:
        yield from pool.map(compared, pairs)


class _Place(NamedTuple):
    """What is compared with the source: a sink, or another view of what it stored."""

    label: str  #: of the sink
    sink: Sink
    name: str
    view: View


def _places(definition: Definition) -> Iterator[_Place]:
    for label, sink in zip(definition.labels, definition.sinks, strict=True):
        yield _Place(label, sink, label, sink)
        for name, view in sink.views().items():
            yield _Place(label, sink, f"{label} {name}", view)


def count(definition: Definition, pieces: Sized) -> int:
    """The number of comparisons that `verify` makes."""
    return len(pieces) * len(list(_places(definition)))


def known_rejects(ledger: Ledger) -> dict[tuple[str, SeriesId], frozenset[int]]:
    """Label of a sink, and a series -> the times of the datapoints that were rejected there, as the ledger knows."""
    found: dict[tuple[str, SeriesId], set[int]] = defaultdict(set)
    for each in ledger.rejected():
        found[each.sink, each.series].add(each.ts)
    return {place: frozenset(moments) for place, moments in found.items()}


def _compare(stream: Stream, sink: Sink, view: View, piece: Piece, result: Compared) -> Compared:
    target = stream.becomes(piece.series)
    try:
        for interval in piece.intervals if target is not None else ():
            assert target is not None
            compare(map(sink.shows, stream.read(piece.series, interval)), view.read(target, interval), result)
    except NotComparableError as error:
        result.left_out = error.reason
    except Exception as error:  # source, transforms and sink may raise anything
        result.error = described(error)
    return result


def compare(source: Iterable[Batch], sink: Iterable[Batch], result: Compared) -> None:
    """Add to `result` how two streams of datapoints, each oldest first, differ."""
    for left, right in _aligned(iter(source), iter(sink)):
        if left is not None and right is not None and _equal(left, right):
            result.equal += len(left)
        else:
            _one_by_one(left, right, result)


def _aligned(left: Iterator[Batch], right: Iterator[Batch]) -> Iterator[tuple[Batch | None, Batch | None]]:
    """Pieces of both streams that cover the same time."""
    ours, theirs = _next(left), _next(right)
    while ours is not None and theirs is not None:
        until = min(ours.ts[-1].cast(pa.int64()).as_py(), theirs.ts[-1].cast(pa.int64()).as_py())
        # a second may continue in the next batch of its stream
        ours, theirs = _whole(ours, until, left), _whole(theirs, until, right)
        (first, ours), (second, theirs) = _split(ours, until), _split(theirs, until)
        yield first, second
        ours = ours if len(ours) else _next(left)
        theirs = theirs if len(theirs) else _next(right)
    while ours is not None:
        yield ours, None
        ours = _next(left)
    while theirs is not None:
        yield None, theirs
        theirs = _next(right)


def _next(batches: Iterator[Batch]) -> Batch | None:
    return next((batch for batch in batches if len(batch)), None)


def _whole(batch: Batch, until: int, more: Iterator[Batch]) -> Batch:
    while batch.ts[-1].cast(pa.int64()).as_py() <= until and (further := _next(more)) is not None:
        table = pa.Table.from_batches([batch.points, further.points]).combine_chunks()
        batch = Batch(batch.series, table.to_batches()[0])
    return batch


def _split(batch: Batch, until: int) -> tuple[Batch, Batch]:
    before = pc.sum(pc.less_equal(batch.ts, pa.scalar(until, TS))).as_py()
    return Batch(batch.series, batch.points.slice(0, before)), Batch(batch.series, batch.points.slice(before))


def _equal(left: Batch, right: Batch) -> bool:
    if left.points.equals(right.points):
        return True
    with suppress(ValueError):  # if one of them is not a histogram, they are compared one by one
        return bool(left.opened().points.equals(right.opened().points))
    return False


def _one_by_one(left: Batch | None, right: Batch | None, result: Compared) -> None:
    ours, theirs = _by_second(left), _by_second(right)
    for ts in sorted({*ours, *theirs}):
        here, there = ours.get(ts, []), theirs.get(ts, [])
        if result.one_a_second and len(here) > 1:
            here = [value for place, value in enumerate(here) if not any(same_value(value, other) for other in here[:place])]
        result.equal += _take_common(here, there)
        for source, sink in zip(here, there, strict=False):
            result.add(Difference("different", ts, source, sink))
        for source in here[len(there) :]:
            result.add(Difference("missing", ts, source, None))
        for sink in there[len(here) :]:
            result.add(Difference("extra", ts, None, sink))


def _by_second(batch: Batch | None) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    if batch is not None:
        plain = partial(map, _plain) if pa.types.is_map(batch.val.type) else list[Any]
        for ts, val in zip(batch.seconds, plain(_values(batch)), strict=True):
            found[ts].append(val)
    return found


def _values(batch: Batch) -> list[Any]:
    """The values; the text of a value that cannot be decoded."""
    try:
        return batch.values()
    except ValueError:
        return [_value(text) for text in batch.val.to_pylist()]


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, list) else value


def _take_common(here: list[Any], there: list[Any]) -> int:
    """Remove the common items from both lists; returns how many there were."""
    alone = []
    for value in here:
        place = next((place for place, other in enumerate(there) if same_value(value, other)), None)
        if place is None:
            alone.append(value)
        else:
            del there[place]
    common = len(here) - len(alone)
    here[:] = alone
    return common
