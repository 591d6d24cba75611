"""Planning: what is left to do (wanted minus done), cut into tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from esmond_etl.engine.ledger import Ledger
from esmond_etl.model.interval import Interval, IntervalSet, floor
from esmond_etl.model.series import Series
from esmond_etl.pipeline.definition import Definition
from esmond_etl.plugin.sink import Task

#: About the largest number of series in a task; series of one metadata stay together.
SERIES: Final = 1000

#: The length of a task is chosen, from the tasks before it, so that it holds about this many bytes of columns.
BYTES: Final = 32_000_000

#: The length of the first task, if windows are not longer, and the greatest length of any task, s.
FIRST, LONGEST = 7 * 86400, 512 * 86400


#: Before this much time is read, the source is asked for the first datapoint, s.
LONG: Final = 60 * 86400

#: The clock of an archive may be this much behind ours, s.
BEHIND: Final = 600


class Todo(NamedTuple):
    """Series that have the same intervals left to do, for the same sinks."""

    intervals: IntervalSet
    series: list[Series]
    sinks: tuple[str, ...] = ()  #: the labels of the sinks that lack it; empty: all


@dataclass
class Pace:
    """How long tasks are: the window times a power of two, so that tasks of all lengths are cut at the same moments."""

    window: int
    span: int = field(init=False)

    def __post_init__(self) -> None:
        self.span = self.window
        while self.span < FIRST:
            self.span *= 2

    def shrink(self, task: Task) -> None:
        """Be at most a quarter as long as `task`, which was too large."""
        while self.span > self.window and self.span * 4 > task.interval.seconds:
            self.span //= 2

    def learn(self, size: int, task: Task) -> None:
        """Adapt to a task that held `size` bytes; one that was cut short at an edge tells nothing."""
        if size > 2 * BYTES and self.span > self.window and task.interval.seconds * 2 > self.span:
            self.span //= 2
        elif task.interval.seconds >= self.span:
            growth = next((times for times in (8, 4, 2) if size * times < BYTES // 2), 1)
            self.span = min(self.span * growth, self._longest)

    @property
    def _longest(self) -> int:
        longest = self.window
        while longest * 2 <= LONGEST:
            longest *= 2
        return longest


def todo(
    definition: Definition, ledger: Ledger, series: Iterable[Series], interval: Interval, now: int, again: bool = False
) -> Iterator[Todo]:
    """What is left to do of `series` in `interval`, in groups that fit a task.

    Time that was read less than `lookback` after it had passed counts as not done, because datapoints arrive late. With `again`,
    nothing counts as done. Windows after the last datapoint of a series are left out if the source can tell where it is.
    """
    progress = _Progress(definition, ledger, late(definition, ledger, interval, now), again)
    groups: dict[tuple[IntervalSet, tuple[str, ...]], list[Series]] = {}
    key = None
    everything = IntervalSet.of([interval])
    whole = again or ledger.replaces  # a sink may hold what the source no longer has
    for each in series:
        if each.metadata.key != key:
            yield from _full(groups)
            key = each.metadata.key
            progress.turn_to(key)
        left = everything
        if not whole and (last := definition.source.last(each)) < interval.end:
            left = left.within(Interval(interval.start, _after(last, definition.settings.window, interval.start)))
        for part in progress.left(each, left):
            groups.setdefault(part, []).append(each)
    yield from (Todo(intervals, group, sinks) for (intervals, sinks), group in groups.items())


def late(definition: Definition, ledger: Ledger, interval: Interval, now: int) -> IntervalSet:
    """The time that must be read again, because the last complete run could not yet see its late data."""
    read = ledger.last_read()
    start = floor(min(now, now if read is None else read) - definition.settings.lookback, definition.settings.window)
    return IntervalSet([Interval(start, max(now, interval.end) + 1)])


@dataclass
class _Progress:
    """The intervals that the sinks have, of the series of one metadata."""

    definition: Definition
    ledger: Ledger
    late: IntervalSet
    again: bool
    read: int | None = field(init=False)  #: when the last complete run began
    done: dict[tuple[str, str], IntervalSet] = field(default_factory=dict)
    partly: dict[tuple[str, str], dict[str, IntervalSet]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.read = self.ledger.last_read()

    def turn_to(self, key: str) -> None:
        if not self.again:
            self.done = self.ledger.done(key)
            self.partly = self.ledger.partly(key)

    def left(self, series: Series, wanted: IntervalSet) -> Iterator[tuple[IntervalSet, tuple[str, ...]]]:
        """The parts of `wanted` that sinks lack, each with the labels of these sinks; no labels: all of them."""
        name = series.event_type, str(series.summary)
        if self._may_have_late_data(series):
            yield wanted, ()
            return
        if done := self.done.get(name):
            wanted = wanted.minus(done.minus(self.late))
        labels = self.definition.labels
        parts = [(wanted, tuple(labels))]
        has = {label: intervals.minus(self.late) for label, intervals in self.partly.get(name, {}).items()}
        for label, intervals in has.items():
            parts = [part for each in parts for part in _split(*each, label, intervals)]
        for intervals, some in parts:
            if intervals:
                yield intervals, some if 0 < len(some) < len(labels) else ()

    def _may_have_late_data(self, series: Series) -> bool:
        """Whether the series was written to after it was last read, and had been silent before: nothing tells what was written."""
        if self.again or self.read is None or self.definition.source.written(series) <= self.read - BEHIND:
            return False
        newest, settings = self.ledger.newest(series.id), self.definition.settings
        return newest is None or newest + settings.window < self.read - 2 * settings.lookback


def _split(
    wanted: IntervalSet, labels: tuple[str, ...], label: str, has: IntervalSet
) -> Iterator[tuple[IntervalSet, tuple[str, ...]]]:
    """`wanted` in two: what the sink with `label` lacks, and what it has."""
    lacks = wanted.minus(has)
    yield lacks, labels
    yield wanted.minus(lacks), tuple(each for each in labels if each != label)


def _after(last: float, window: int, start: int) -> int:
    """The end of the window that `last` is in, `start` at least."""
    return max(start, floor(int(last), window) + window) if last > start else start


def _full(groups: dict[tuple[IntervalSet, tuple[str, ...]], list[Series]]) -> Iterator[Todo]:
    full = [group for group, series in groups.items() if len(series) >= SERIES]
    for intervals, sinks in full:
        yield Todo(intervals, groups.pop((intervals, sinks)), sinks)


def shared(group: Todo, parts: int) -> Iterator[Todo]:
    """The group, split into up to `parts` groups of about the same size for as many processes; series of one metadata stay together."""
    intervals, series, sinks = group
    most = -(-len(series) // parts)
    first = 0
    while first < len(series):
        end = min(first + most, len(series))
        while end < len(series) and series[end].metadata.key == series[end - 1].metadata.key:
            end += 1
        yield Todo(intervals, series[first:end], sinks)
        first = end


def tasks(groups: Iterable[Todo], pace: Pace) -> Iterator[Task]:
    """The tasks of `groups`, one group after the other, oldest first; each as long as `pace` says when it is asked for."""
    for intervals, series, sinks in groups:
        for interval in intervals:
            yield from cut(tuple(series), interval, pace, sinks)


def rest(task: Task, left: tuple[Series, ...], pace: Pace) -> Iterator[Task]:
    """The tasks for the series that `task`, which was too large, left over: one task if they are no more than it delivered."""
    pace.shrink(task)
    if 2 * len(left) <= len(task.series):
        yield replace(task, series=left)
    else:
        yield from cut(left, task.interval, pace, task.sinks)


def cut(series: tuple[Series, ...], interval: Interval, pace: Pace, sinks: tuple[str, ...] = ()) -> Iterator[Task]:
    """The tasks that deliver `series` in `interval`, oldest first."""
    start, end = interval
    while start < end:
        stop = min(end, floor(start, pace.span) + pace.span)
        yield Task(series, Interval(start, stop), pace.window, sinks)
        start = stop


def enough(in_flight: Iterable[Task], threads: int, at_once: int) -> bool:
    """Whether enough tasks are in flight to read `threads` series at once; at least `at_once` tasks."""
    sizes = [len(task.series) for task in in_flight]
    return len(sizes) >= at_once and (sum(sizes) >= 2 * threads or len(sizes) >= 64)
