"""What is left to do: wanted less done, cut into tasks that fit."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmond_etl import BASE, Interval, IntervalSet, Metadata, Series, Served, Task
from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.plan import BEHIND, BYTES, LONG, LONGEST, Pace, Todo, cut, enough, rest, shared, tasks, todo
from esmond_etl.model.digest import Window
from esmond_etl.pipeline.definition import Definition
from esmond_etl.pipeline.settings import Settings
from esmond_etl.testing import CollectedSink, RecordedSource

DAY = 86400
NOW = 1000 * DAY


def pipeline(**settings: object) -> Definition:
    values = {"from": 0, "to": 100 * DAY, "window": "1d", "settle": "0s", "lookback": "0s", **settings}
    return Definition(
        "p.toml", Settings.model_validate(values), RecordedSource(recorded=[]), (), (CollectedSink(),), ("sink[0] (collected)",)
    )


def series(count: int, per_metadata: int = 1) -> list[Series]:
    names = [f"et{number}" for number in range(per_metadata)]
    metadata = [Metadata(f"k{number:06}", event_types={name: {BASE: Served("")} for name in names}) for number in range(count)]
    return [each for one in metadata for each in one.series()]


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 30)), max_size=6), st.integers(0, 50), st.integers(51, 100), st.booleans()
)
def test_todo_is_wanted_less_done(done: list[tuple[int, int]], start: int, end: int, again: bool) -> None:
    ledger, (one,) = Ledger(Path(":memory:")), series(1)
    for first, length in done:
        ledger.record([one.id], Interval(first * DAY, (first + length) * DAY))
    groups = list(todo(pipeline(), ledger, [one], Interval(start * DAY, end * DAY), NOW, again))
    taken = set() if again else {day for first, length in done for day in range(first, first + length)}
    left = {day for day in range(start, end) if day not in taken}
    assert {day // DAY for group in groups for interval in group.intervals for day in range(*interval, DAY)} == left
    ledger.close()


def test_the_last_hours_count_as_not_done_window_by_window() -> None:
    ledger, (one,) = Ledger(Path(":memory:")), series(1)
    ledger.record([one.id], Interval(0, NOW))
    wanted = Interval(NOW - 10 * DAY, NOW)
    late = pipeline(lookback="30h")
    assert list(todo(late, ledger, [one], wanted, NOW)) == [Todo(IntervalSet([Interval(NOW - 2 * DAY, NOW)]), [one])]


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 9))
def test_a_group_is_shared_among_processes_by_whole_metadata(metadata: int, per_metadata: int, parts: int) -> None:
    group = Todo(IntervalSet([Interval(0, DAY)]), series(metadata, per_metadata))
    pieces = list(shared(group, parts))
    assert [each for piece in pieces for each in piece.series] == group.series
    assert len({each.metadata.key for piece in pieces for each in piece.series}) == sum(
        len({each.metadata.key for each in piece.series}) for piece in pieces
    )
    assert len(pieces) == min(parts, len(pieces))
    assert max(len(piece.series) for piece in pieces) < len(group.series) / parts + per_metadata + 1


def test_series_with_the_same_left_to_do_share_tasks_and_metadata_stay_together() -> None:
    ledger, many = Ledger(Path(":memory:")), series(500, 5)
    odd = many[7]
    ledger.record([odd.id], Interval(0, 50 * DAY))
    groups = list(todo(pipeline(), ledger, many, Interval(0, 100 * DAY), NOW))
    assert sorted(len(group.series) for group in groups) == [1, 495, 1000, 1004]
    homes: dict[str, set[int]] = {}
    for number, group in enumerate(groups):
        for each in group.series:
            homes.setdefault(each.metadata.key, set()).add(number)
    assert {key for key, numbers in homes.items() if len(numbers) > 1} == {odd.metadata.key}


@settings(max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 4000), st.integers(0, 12))
def test_the_tasks_of_an_interval_cover_it_once_and_are_cut_on_the_grid(
    start: int, length: int, window: int, halvings: int
) -> None:
    pace = Pace(window)
    pace.span = max(window, pace.span >> halvings)
    interval = Interval(start // window * window, (start + length) // window * window + window)
    found = [task.interval for task in cut((), interval, pace)]
    assert found[0].start == interval.start
    assert found[-1].end == interval.end
    assert all(before.end == after.start for before, after in pairwise(found))
    assert all(each.end % pace.span == 0 for each in found[:-1])


def test_tasks_get_longer_while_they_hold_little_and_shorter_when_they_hold_much() -> None:
    pace = Pace(DAY)
    first = pace.span
    feed = tasks([Todo(IntervalSet([Interval(0, 10**6 * DAY)]), series(1))], pace)
    next(feed)
    pace.learn(BYTES // 5, Task((), Interval(0, first), DAY))
    assert pace.span == 2 * first
    pace.learn(BYTES // 9, Task((), Interval(0, 2 * first), DAY))
    assert pace.span == 8 * first
    pace.learn(BYTES // 2, Task((), Interval(0, 8 * first), DAY))
    assert pace.span == 8 * first
    for _ in range(20):
        pace.learn(0, Task((), Interval(0, pace.span), DAY))
    assert LONGEST // 2 < pace.span <= LONGEST
    pace.learn(3 * BYTES, Task((), Interval(0, pace.span), DAY))
    assert LONGEST // 4 < pace.span <= LONGEST // 2
    pace.shrink(Task((), Interval(0, 16 * DAY), DAY))
    assert pace.span == 4 * DAY
    pace.shrink(Task((), Interval(0, 2 * DAY), DAY))
    assert pace.span == DAY


class Told(RecordedSource):
    """A source that knows when each series ends."""

    ends: dict[str, float]

    def last(self, series: Series) -> float:
        """As it was told."""
        return self.ends[series.metadata.key]


def test_what_a_large_task_has_left_is_one_task_if_it_is_no_more_than_it_delivered() -> None:
    pace, many = Pace(DAY), tuple(series(10))
    task = Task(many, Interval(0, 8 * DAY), DAY)
    assert list(rest(task, many[5:], pace)) == [Task(many[5:], Interval(0, 8 * DAY), DAY)]
    assert pace.span == 2 * DAY  # what comes after it is cut anew
    assert [each.interval.seconds for each in rest(task, many[4:], Pace(DAY))] == [2 * DAY] * 4


def test_windows_after_the_last_datapoint_of_a_series_are_left_out() -> None:
    ledger, many = Ledger(Path(":memory:")), series(6)
    ends = dict(zip((each.metadata.key for each in many), (5.5, 5.0, 9, 99, math.inf, -math.inf), strict=True))
    source = Told(recorded=[], ends={key: day * DAY for key, day in ends.items()})
    known = dataclasses.replace(pipeline(), source=source)
    ledger.record([many[1].id], Interval(0, 3 * DAY))
    ledger.record([many[2].id], Interval(0, 10 * DAY))
    found = {
        each.metadata.key: list(group.intervals)
        for group in todo(known, ledger, many, Interval(0, 20 * DAY), NOW)
        for each in group.series
    }
    assert found == {
        "k000000": [Interval(0, 6 * DAY)],
        "k000001": [Interval(3 * DAY, 6 * DAY)],
        "k000003": [Interval(0, 20 * DAY)],
        "k000004": [Interval(0, 20 * DAY)],
    }
    again = list(todo(known, ledger, many, Interval(0, 20 * DAY), NOW, again=True))
    assert again == [Todo(IntervalSet([Interval(0, 20 * DAY)]), many)]
    ledger.close()


def test_a_task_is_shortened_only_if_it_holds_more_than_twice_of_what_it_should() -> None:
    pace = Pace(DAY)
    span = pace.span
    pace.learn(2 * BYTES, Task((), Interval(0, span), DAY))
    assert pace.span == span
    pace.learn(2 * BYTES + 1, Task((), Interval(0, span), DAY))
    assert pace.span == span // 2
    pace.learn(BYTES // 4, Task((), Interval(0, span // 2), DAY))  # twice of it would be half as much as it should hold: not less
    assert pace.span == span // 2
    pace.learn(BYTES // 4 - 1, Task((), Interval(0, span // 2), DAY))
    assert pace.span == span


def test_a_source_is_asked_for_the_first_datapoint_before_two_months_are_read() -> None:
    assert LONG == 60 * DAY


class Written(RecordedSource):
    """A source that knows when it was written to."""

    told: float

    def written(self, series: Series) -> float:
        """As it was told."""
        return self.told


READ = NOW - 5 * DAY
SILENT = READ - 2 * 6 * 3600 - DAY  # so old must the newest datapoint be at least: twice the lookback, and a window


@pytest.mark.parametrize(
    ("written", "newest", "again"),
    [
        (READ - BEHIND, SILENT - 1, False),  # not since it was read, even if its clock is behind
        (READ - BEHIND + 1, SILENT - 1, True),
        (READ + DAY, SILENT - 1, True),
        (READ + DAY, SILENT, False),  # it is not silent: what came is what was measured lately
        (READ + DAY, READ - DAY, False),
        (READ + DAY, None, True),  # nothing ever came of it
    ],
)
def test_a_silent_series_that_was_written_to_is_read_again(written: float, newest: int | None, again: bool) -> None:
    ledger, (one,) = Ledger(Path(":memory:")), series(1)
    digests = {} if newest is None else {one.id: [Window(newest, 1, b"x" * 16)]}
    ledger.record([one.id], Interval(0, NOW), digests=digests)
    ledger.note_read(READ)
    known = dataclasses.replace(pipeline(lookback="6h"), source=Written(recorded=[], told=written))
    wanted = Interval(0, READ - 10 * DAY)
    assert list(todo(known, ledger, [one], wanted, NOW)) == ([Todo(IntervalSet([wanted]), [one])] if again else [])
    ledger.close()


@pytest.mark.parametrize(
    ("series_of_tasks", "threads", "at_once", "is_enough"),
    [
        ([7], 4, 1, False),  # twice as many as threads wanted
        ([8], 4, 1, True),
        ([8], 4, 2, False),
        ([7, 1], 4, 2, True),
        ([1] * 63, 100, 1, False),
        ([1] * 64, 100, 1, True),  # many small tasks are enough
        ([], 1, 1, False),
    ],
)
def test_so_many_tasks_are_in_flight_that_no_thread_waits(
    series_of_tasks: list[int], threads: int, at_once: int, is_enough: bool
) -> None:
    in_flight = [Task(tuple(series(count)), Interval(0, DAY), DAY) for count in series_of_tasks]
    assert enough(in_flight, threads, at_once) == is_enough
