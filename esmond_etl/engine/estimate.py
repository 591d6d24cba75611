"""An estimate of the datapoints and requests of a run, from a small sample."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final, NamedTuple, TypeVar

from esmond_etl.engine import plan
from esmond_etl.engine.stream import Stream
from esmond_etl.model.interval import Interval, IntervalSet, floor
from esmond_etl.model.series import Series
from esmond_etl.plugin.sink import Task

T = TypeVar("T")

#: An event type and a summary.
Kind = tuple[str, str]

#: At least this many series of a kind are sampled.
SERIES: Final = 6

#: The sample may take this many requests, or a tenth of the requests of the run.
BUDGET: Final = 500

#: Each series is sampled at this many places, each about this long, s: a test that runs every six hours is then found four times.
PLACES: Final = 4
LENGTH: Final = 86400

#: Fewer datapoints do not tell the density; more are not read.
FEW, MANY = 20, 20_000


class Density(NamedTuple):
    """The density of a series, from the sample."""

    datapoints: float  #: per second
    size: float  #: bytes of columns per second
    time: Interval  #: the time that it holds for; there are no datapoints before and after it


@dataclass
class Estimate:
    """The expected datapoints and requests of a run, by (event type, summary)."""

    datapoints: dict[Kind, float] = field(default_factory=dict)
    requests: dict[Kind, float] = field(default_factory=dict)
    reads: int = 0  #: of the sample


def estimate(stream: Stream, groups: Sequence[plan.Todo], again: bool) -> Estimate:
    """The estimate for a run over `groups`. With `again`, the run reads from the beginning, whether there are datapoints or not.

    Raises what the source raises if the sample cannot be read.
    """
    found = Estimate()
    left = [group if again else _from_first(stream, group, found) for group in groups]
    kinds: dict[Kind, list[tuple[Series, IntervalSet]]] = {}
    for group in left:
        for each in group.series if group.intervals else ():
            kinds.setdefault(_kind(each), []).append((each, group.intervals))
    share = max(BUDGET, sum(map(_least, left)) // 10) / PLACES / max(1, sum(map(len, kinds.values())))
    samples = {
        kind: _sample(stream, spread(members, max(SERIES, int(share * len(members)))), found) for kind, members in kinds.items()
    }
    _simulate(stream, left, samples, found)
    return found


def _kind(series: Series) -> Kind:
    return series.event_type, str(series.summary)


def _least(group: plan.Todo) -> int:
    """The smallest number of requests for a group."""
    return len(group.series) * max(1, group.intervals.seconds // plan.LONGEST)


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most this many of the items, evenly spaced: the middle one of each part."""
    count = min(len(items), most)
    return [items[(2 * each + 1) * len(items) // (2 * count)] for each in range(count)]


def _from_first(stream: Stream, group: plan.Todo, found: Estimate) -> plan.Todo:
    """The group without the time before its first datapoint: a run asks for that once per series."""
    if not group.intervals or group.intervals[0].seconds < plan.LONG:
        return group
    long, *rest = group.intervals
    before = stream.source.traffic.requests
    some = spread(group.series, SERIES)
    firsts = [first for first in stream.firsts(some, long) if first is not None]
    asked = (stream.source.traffic.requests - before) / len(some)
    for each in group.series:
        _add(found.requests, _kind(each), asked)
    start = max(long.start, floor(min(firsts, default=long.start), stream.definition.settings.window))
    return group._replace(intervals=IntervalSet.of([(start, long.end), *rest]))


def _sample(stream: Stream, some: list[tuple[Series, IntervalSet]], found: Estimate) -> dict[Series, Density]:
    """The densities of some series of a kind."""
    length = max(LENGTH, stream.definition.settings.window)
    told = list(stream.pool.map(lambda each: _density(stream, each[0], each[1], length), some))
    found.reads += sum(reads for _, reads in told)
    return {series: density for (series, _), (density, _) in zip(some, told, strict=True)}


def _density(stream: Stream, series: Series, intervals: IntervalSet, length: int) -> tuple[Density, int]:
    """The density of a series, and the number of reads: a short one in each quarter; all of a quarter with hardly any datapoints."""
    pieces = [each for interval in intervals for each in interval.pieces(length)]
    pieces, reads = _measured(stream, series, pieces)
    quarters = [pieces[each * len(pieces) // PLACES : (each + 1) * len(pieces) // PLACES] for each in range(PLACES)]
    datapoints = size = 0.0
    for quarter in filter(None, quarters):
        whole = sum(each.seconds for each in quarter)
        told, reads = _counted(stream, series, quarter[len(quarter) // 2]), reads + 1
        if told.datapoints * told.time.seconds < FEW and len(quarter) > 1:
            told, reads = _counted(stream, series, Interval(quarter[0].start, quarter[-1].end)), reads + 1
        datapoints += told.datapoints * whole
        size += told.size * whole
    if not pieces:
        return Density(0, 0, Interval(0, 0)), reads
    seconds = sum(each.seconds for each in pieces)
    return Density(datapoints / seconds, size / seconds, Interval(pieces[0].start, pieces[-1].end)), reads


def _measured(stream: Stream, series: Series, pieces: list[Interval]) -> tuple[list[Interval], int]:
    """The pieces from the first to the last datapoint of a series, as far as the source can tell, and the number of reads."""
    end = pieces[-1].end
    asked: list[int] = []

    def first_from(start: int) -> int:
        asked.append(start)
        found = stream.first(series, Interval(start, end))
        return start if found is None else found

    begin = first_from(pieces[0].start)
    pieces = [each for each in pieces if each.end > begin]
    # the last piece with datapoints: after it, the next datapoint is the end
    known, over = 0, len(pieces)
    probe = over - 1
    while over - known > 1:
        known, over = (probe, over) if first_from(pieces[probe].start) < end else (known, probe)
        probe = (known + over) // 2
    return pieces[:over], len(asked)


def _counted(stream: Stream, series: Series, piece: Interval) -> Density:
    """The density in a piece, or in its beginning if it has many datapoints."""
    datapoints = size = 0
    end = piece.end
    for batch in stream.source.read(series, piece):
        datapoints, size = datapoints + len(batch), size + batch.points.nbytes
        if datapoints > MANY:
            end = max(batch.moments[-1], piece.start + 1)
            break
    seconds = end - piece.start
    return Density(datapoints / seconds, size / seconds, Interval(piece.start, end))


def _simulate(stream: Stream, groups: Iterable[plan.Todo], samples: dict[Kind, dict[Series, Density]], found: Estimate) -> None:
    """Go through the tasks as a run does, and count them: the length of a task follows the size of the earlier ones."""
    pace = plan.Pace(stream.definition.settings.window)
    in_flight: deque[tuple[Task, int]] = deque()
    for task in plan.tasks(groups, pace):
        in_flight.append((task, int(_count(stream, task, samples, found))))
        if plan.enough((each for each, _ in in_flight), stream.definition.settings.threads, 2):
            ended, size = in_flight.popleft()
            pace.learn(size, ended)


def _count(stream: Stream, task: Task, samples: dict[Kind, dict[Series, Density]], found: Estimate) -> float:
    """Count the datapoints and requests of the task; returns its size. A series outside the sample counts as the average of the sample."""
    size = 0.0
    average: dict[Kind, tuple[float, float, float]] = {}
    for series in task.series:
        kind = _kind(series)
        of_kind = samples[kind]
        if density := of_kind.get(series):
            taken = _taken(stream, series, density, task.interval)
        else:
            if kind not in average:
                each = [_taken(stream, series, density, task.interval) for density in of_kind.values()]
                average[kind] = (fmean(a for a, _, _ in each), fmean(b for _, b, _ in each), fmean(c for _, _, c in each))
            taken = average[kind]
        _add(found.datapoints, kind, taken[0])
        _add(found.requests, kind, taken[1])
        size += taken[2]
    return size


def _taken(stream: Stream, series: Series, density: Density, interval: Interval) -> tuple[float, float, float]:
    """Datapoints, requests and bytes of a series in `interval`."""
    seconds = interval.intersection(density.time).seconds
    datapoints = density.datapoints * seconds
    return datapoints, stream.source.requests(series, datapoints), density.size * seconds


def _add(counts: dict[Kind, float], kind: Kind, number: float) -> None:
    counts[kind] = counts.get(kind, 0) + number
