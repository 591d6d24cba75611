"""The summaries that a target made of its datapoints, against those of the source.

Where the two differ, the source's base data decide: if the target's summary matches them, it is right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from esmond_etl.engine.delivery import Delivery
from esmond_etl.engine.stream import Stream
from esmond_etl.engine.verify import Compared, Difference, Piece, Told, compare
from esmond_etl.model import histograms
from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import described
from esmond_etl.model.interval import Interval, ceil, floor
from esmond_etl.model.series import BASE, Series
from esmond_etl.plugin.sink import Sink

#: Reasons for which summaries may differ although nothing is wrong with the copy.
GONE: Final = "the source has no base data left for it, so the target cannot make it"
GUESSED: Final = "percentages without counts: their weight in a summary is a guess"
OWN: Final = "the target's summary matches the base data, and the source's does not"

#: The loss rates, and what they are the ratio of.
_COUNTS: Final = {
    "packet-loss-rate": ("packet-count-lost", "packet-count-sent"),
    "packet-loss-rate-bidir": ("packet-count-lost-bidir", "packet-count-sent"),
}


class _Pair(NamedTuple):
    """A summary of a series, and a sink that may have made it as well."""

    label: str
    sink: Sink
    base: Series
    series: Series
    interval: Interval


@dataclass
class Summarized:
    """How a summary of one series compares with that of one sink."""

    compared: Compared  #: differences without a known reason
    explained: Counter[str] = field(default_factory=Counter)  #: reason -> datapoints


def count(delivery: Delivery, pieces: Iterable[Piece]) -> int:
    """The number of summaries that `verify` compares."""
    return sum(1 for _ in _pairs(delivery, pieces))


def verify(delivery: Delivery, pieces: Iterable[Piece], told: Told | None = None) -> Iterator[Summarized]:
    """How the summaries of `pieces`, which are base series, compare with those of each sink that makes summaries.

    Only windows that lie whole in the time of a piece are compared.
    """
    with ThreadPoolExecutor(delivery.definition.settings.threads, "verify") as pool:
        yield from pool.map(lambda pair: _compared(delivery.stream, pair, told), _pairs(delivery, pieces))


def _pairs(delivery: Delivery, pieces: Iterable[Piece]) -> Iterator[_Pair]:
    sinks = [(label, sink) for label, sink in delivery.opened.items() if sink.features.summarizes]
    for piece in pieces:
        base = piece.series
        summaries = base.metadata.event_types.get(base.event_type, {}) if base.summary == BASE else {}
        for summary in summaries:
            for interval in piece.intervals if summary != BASE else ():
                window = max(summary.window, 1)
                whole = Interval(ceil(interval.start, window), floor(interval.end, window))
                if whole.seconds > 0:
                    for label, sink in sinks:
                        yield _Pair(label, sink, base, base.replace(summary=summary), whole)


def _compared(stream: Stream, pair: _Pair, told: Told | None) -> Summarized:
    found: list[Difference] = []
    first = Compared(pair.series.id, pair.label, told=lambda _, difference: found.append(difference))
    result = Summarized(Compared(pair.series.id, pair.label))
    if told:
        result.compared.told = told
    target = stream.becomes(pair.base)
    try:
        if target is not None:
            theirs = pair.sink.read(target.replace(summary=pair.series.summary), pair.interval)
            compare(stream.source.read(pair.series, pair.interval), theirs, first)
            result.compared.equal = first.equal
            for difference in found:
                _explain(stream, pair, difference, result)
    except Exception as error:  # source and sink may raise anything
        result.compared.error = described(error)
    return result


def _explain(stream: Stream, pair: _Pair, difference: Difference, result: Summarized) -> None:
    if reason := _reason(stream, pair, difference):
        result.explained[reason] += 1
    else:
        result.compared.add(difference)


def _reason(stream: Stream, pair: _Pair, difference: Difference) -> str | None:
    """Why the two may differ although the copy is right; None if no reason is known."""
    window = Interval(difference.ts, difference.ts + max(pair.series.summary.window, 1))
    base = list(stream.source.read(pair.base, window))
    if difference.sink is None:
        return None if sum(map(len, base)) else GONE
    if pair.series.data_type == "percentage":
        expected = _ratio(stream, pair.base, window, base)
        if expected is None:
            return GUESSED
    else:
        expected = _summary(pair.series, base)
    return OWN if expected is not None and _close(expected, difference.sink) else None


def _ratio(stream: Stream, series: Series, window: Interval, base: list[Batch]) -> float | None:
    """Lost divided by sent packets, at the times of the loss rates; None if these series are missing."""
    names = _COUNTS.get(series.event_type, ())
    if not names or any(name not in series.metadata.event_types for name in names):
        return None
    moments = {ts for batch in base for ts in batch.moments}
    lost, sent = (_sum(stream, Series(series.metadata, name), window, moments) for name in names)
    return lost / sent if sent else None


def _sum(stream: Stream, series: Series, window: Interval, moments: set[int]) -> float:
    return sum(
        value or 0.0
        for batch in stream.source.read(series, window)
        for ts, value in zip(batch.moments, batch.val.to_pylist(), strict=True)
        if ts in moments
    )


def _summary(series: Series, base: list[Batch]) -> Any:
    """The summary of one window's base data, as archives make it; None if there are no data, or the rule is not known."""
    values = [value for batch in base for value in batch.values()]
    if not values:
        return None
    if all(isinstance(value, int | float) for value in values):
        total = math.fsum(values)
        return total / len(values) if series.summary.type == "average" else total
    if not all(isinstance(value, dict) for value in values):
        return None
    added: Counter[str] = Counter()
    for histogram in values:
        added.update(histogram)
    return _statistics(series, dict(added)) if series.summary.type == "statistics" else dict(added)


def _statistics(series: Series, histogram: dict[str, int]) -> dict[str, Any]:
    opened = Batch.from_points(series.replace(summary=BASE), [(0, histogram)]).opened().val
    return {name: column[0].as_py() for name, column in histograms.statistics(opened).items()}


def _close(expected: Any, found: Any) -> bool:
    """Whether two summaries are the same but for how floats were rounded on the way."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(_close(value, found[name]) for name, value in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(_close, expected, found))
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return math.isclose(expected, found, rel_tol=1e-9, abs_tol=1e-9)
    return bool(expected == found)
