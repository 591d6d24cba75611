"""What a run would do; no sink is opened for it, and no datapoint is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from esmond_etl.engine import plan
from esmond_etl.engine.estimate import estimate
from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.stream import Stream
from esmond_etl.model.batch import DataPoint
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Series


class Kind(NamedTuple):
    """Series of one event type and one summary."""

    event_type: str
    summary: str


class Refusal(NamedTuple):
    """Series that a sink can never accept."""

    event_type: str
    summary: str
    sink: str  #: its label
    reason: str


@dataclass
class Amount:
    """How much a run would read."""

    series: int = 0
    windows: int = 0
    requests: int = 0  #: at least; with an estimate, about
    datapoints: int | None = None  #: about; None without an estimate


@dataclass
class Forecast:
    """The plan of a run: what it would read, and what its sinks would refuse."""

    interval: Interval
    amounts: dict[Kind, Amount] = field(default_factory=dict)
    refused: Counter[Refusal] = field(default_factory=Counter)  #: in series
    lost: Counter[Refusal] = field(default_factory=Counter)  #: the datapoints of these, if they were counted
    listing: int = 0  #: requests for the list
    sample: int = 0  #: reads for the estimate; 0 without an estimate


def forecast(
    stream: Stream,
    ledger: Ledger,
    interval: Interval,
    now: int,
    again: bool = False,
    counts: bool = False,
    estimates: bool = False,
) -> Forecast:
    """What a run over `interval` would read: what is not done yet, or everything with `again`.

    With `counts`, the series that a sink refuses are read, and their datapoints counted; with `estimates`, a sample of the others
    tells how many datapoints and requests a run takes. Otherwise only the list is read.

    Raises SourceError or ArchiveError if the source cannot be listed.
    """
    definition = stream.definition
    found = Forecast(interval)
    window = definition.settings.window
    again = again or ledger.about("delivery") not in (None, definition.delivery)
    pace = plan.Pace(window)
    refused: list[tuple[Series, list[Refusal]]] = []
    series = _deliverable(stream, found, refused if counts else None)
    groups = list(plan.todo(definition, ledger, series, interval, now, again))
    found.listing = stream.source.traffic.requests
    for intervals, group, _ in groups:
        tasks = sum(1 for _ in plan.tasks([plan.Todo(intervals, group[:1])], pace))
        for each in group:
            amount = found.amounts.setdefault(Kind(each.event_type, str(each.summary)), Amount())
            amount.series += 1
            amount.windows += intervals.seconds // window
            amount.requests += tasks
    if estimates:
        _estimate(stream, groups, again or ledger.replaces, found)
    for number, reasons in stream.pool.map(lambda each: (_count(stream, each[0], interval), each[1]), refused):
        found.lost.update(dict.fromkeys(reasons, number))
    return found


def _estimate(stream: Stream, groups: list[plan.Todo], again: bool, found: Forecast) -> None:
    told = estimate(stream, groups, again)
    found.sample = told.reads
    for kind, amount in found.amounts.items():
        amount.datapoints, amount.requests = round(told.datapoints.get(kind, 0)), round(told.requests.get(kind, 0))


def _count(stream: Stream, series: Series, interval: Interval) -> int:
    return sum(len(batch) for batch in stream.source.read(series, interval))


def _deliverable(stream: Stream, found: Forecast, refused: list[tuple[Series, list[Refusal]]] | None) -> Iterator[Series]:
    """The series that the transforms let through and no sink refuses; refusals are counted in `found`, and kept in `refused`."""
    for each in stream.series(found.interval):
        target = stream.becomes(each)
        reasons = _refusals(stream, target) if target is not None else ()
        refusals = [Refusal(each.event_type, str(each.summary), *reason) for reason in reasons]
        found.refused.update(refusals)
        if refusals and refused is not None:
            refused.append((each, refusals))
        if target is not None and not refusals:
            yield each


def _refusals(stream: Stream, target: Series) -> Iterator[tuple[str, str]]:
    for label, sink in zip(stream.definition.labels, stream.definition.sinks, strict=True):
        with suppress(Exception):  # some sinks know only once they are open
            if reason := sink.refusal(target):
                yield label, reason


def preview(stream: Stream, interval: Interval, points: int, most: int) -> Iterator[tuple[Series, DataPoint]]:
    """The first `points` datapoints of each of the first `most` series that have any, as sinks would receive them."""
    shown = 0
    for series in stream.series(interval):
        if stream.becomes(series) is None:
            continue
        batches = stream.read(series, interval)
        found = list(islice(((batch.series, point) for batch in batches for point in batch.to_points()), points))
        yield from found
        shown += bool(found)
        if shown == most:
            return
