"""The data in the sinks of a pipeline against the ledger's digests: the source is listed, but not read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from esmond_etl.engine.delivery import Delivery
from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.verify import Piece, known_rejects
from esmond_etl.model import digest
from esmond_etl.model.digest import Digester, Window
from esmond_etl.model.errors import described
from esmond_etl.model.interval import Interval, IntervalSet, ceil, floor
from esmond_etl.model.series import Series, SeriesId
from esmond_etl.pipeline.definition import Shard
from esmond_etl.plugin.sink import Sink

NOTHING = Window(0, 0, bytes(digest.SIZE))


@dataclass
class Checked:
    """How one series of a sink compares with the digests of what the sink was given."""

    series: Series
    sink: str
    held: Window = NOTHING  #: all that the sink holds
    windows: int = 0  #: that were compared
    open: list[Interval] = field(default_factory=list)  #: time that must be compared with the source: it differs, or has no digest
    differing: int = 0  #: windows that differ
    error: str = ""


class _Check(NamedTuple):
    """A piece that is checked in one sink."""

    label: str
    sink: Sink
    piece: Piece


def count(delivery: Delivery, pieces: Sequence[Piece]) -> int:
    """How many parts `quick` yields."""
    return sum(len(checks) for checks in _checks(delivery, pieces))


def quick(delivery: Delivery, ledger: Ledger, pieces: Sequence[Piece]) -> Iterator[Checked]:
    """How `pieces` compare, in each sink, with the ledger's digests; a piece may come in several parts of its time."""
    definition = delivery.definition
    rejected = known_rejects(ledger)

    def checked(check: _Check) -> Checked:
        label, sink, piece = check
        result = Checked(piece.series, label)
        try:
            _check(delivery, ledger, sink, piece, rejected.get((label, piece.series.id), frozenset()), result)
        except Exception as error:  # a sink may raise anything
            result.error = described(error)
        return result

    with ThreadPoolExecutor(definition.settings.threads, "verify") as pool:
        for checks in _checks(delivery, pieces):
            # data that are already in memory gain nothing from threads, which wait for each other
            yield from map(checked, checks) if checks and checks[0].sink.features.together else pool.map(checked, checks)


def _checks(delivery: Delivery, pieces: Sequence[Piece]) -> Iterator[list[_Check]]:
    """The checks, in the order that is fastest for the sinks: series by series, or one stretch of time after the other for all series."""
    window = delivery.definition.settings.window
    for label, sink in delivery.opened.items():
        span = ceil(max(sink.features.together, 1), window)  # digests are of whole windows
        if not sink.features.together:
            yield [_Check(label, sink, piece) for piece in pieces]
            continue
        by_shelf = sorted(pieces, key=lambda piece: (piece.series.event_type, piece.series.summary))
        intervals = [interval for piece in pieces for interval in piece.intervals]
        hull = Interval(min((each.start for each in intervals), default=0), max((each.end for each in intervals), default=0))
        for part in hull.pieces(span):
            inside = [(piece.series, piece.intervals.within(part)) for piece in by_shelf]
            yield [_Check(label, sink, Piece(series, intervals)) for series, intervals in inside if intervals]


def _check(delivery: Delivery, ledger: Ledger, sink: Sink, piece: Piece, rejected: frozenset[int], result: Checked) -> None:
    """Compare the windows that have digests and no rejected datapoints; the others must be compared with the source."""
    series, window = piece.series, delivery.definition.settings.window
    target = delivery.stream.becomes(series)
    if target is None:
        return
    is_exact = type(sink).shows is Sink.shows
    proven = piece.intervals.minus(piece.intervals.minus(ledger.proven(series.id))) if is_exact else IntervalSet()
    proven = proven.minus(IntervalSet.of({(floor(ts, window), floor(ts, window) + window) for ts in rejected}))
    result.open += piece.intervals.minus(proven)
    held: list[Window] = []
    for interval in proven:
        there = windows_of(sink, target, interval, window)
        held += there
        known = ledger.digests(series.id, interval)
        result.windows += math.ceil(interval.seconds / window)
        differing = {start for start, *_ in {each.content for each in there} ^ {each.content for each in known}}
        result.differing += len(differing)
        result.open += IntervalSet.of([(start, start + window) for start in differing])
    result.held = digest.total(held)


def windows_of(sink: Sink, target: Series, interval: Interval, window: int) -> list[Window]:
    """The digests of what a sink holds of a series in `interval`."""
    found: list[Window] = []
    for _ in Digester(window).through(sink.read(target, interval), found):
        pass
    return found


def measured(series: Series) -> str:
    """A line of the root digest for a series, the same in every archive."""
    metadata = series.metadata
    names = (metadata.source, metadata.destination, metadata.tool_name, series.event_type, str(series.summary))
    return "\t".join(name or "" for name in names)


def sampled(series: Iterable[Series], interval: Interval, window: int, share: float, seed: str) -> Iterator[Piece]:
    """A random sample of the windows of each series, about `share` of all, at least one; `seed` decides which."""
    starts = range(interval.start, interval.end, window)
    for each in series:
        drawn = sorted(starts, key=lambda start: _drawn(f"{seed} {each} {start}"))[: max(1, round(share * len(starts)))]
        yield Piece(each, IntervalSet.of([(start, min(start + window, interval.end)) for start in drawn]))


def parted(series: Iterable[Series], part: int, parts: int) -> Iterator[Series]:
    """The series of part `part` (from 1) of `parts`: the same in every run, and those of one metadata together."""
    return (each for each in series if Shard(part, parts).has(each.metadata.key))


def _drawn(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def holdings(delivery: Delivery, pieces: Iterable[Piece]) -> Iterator[tuple[str, SeriesId, str, Window]]:
    """Sink, series, what it measures, and the digest of all that the sink holds of it in these times."""
    definition = delivery.definition
    window = definition.settings.window

    def held(pair: tuple[str, Sink, Piece]) -> tuple[str, SeriesId, str, Window]:
        label, sink, piece = pair
        target = delivery.stream.becomes(piece.series)
        found = [each for span in piece.intervals for each in windows_of(sink, target, span, window)] if target else []
        return label, piece.series.id, measured(piece.series), digest.total(found)

    pairs = [(label, sink, each) for each in pieces for label, sink in zip(definition.labels, definition.sinks, strict=True)]
    with ThreadPoolExecutor(definition.settings.threads, "verify") as pool:
        yield from pool.map(held, pairs)
