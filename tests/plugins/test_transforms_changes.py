"""`rate_of_change` and `dedupe`: what a datapoint is beside the one before it."""

from itertools import pairwise
from typing import Any

import pytest
from esmond_etl_transforms.dedupe import Dedupe
from esmond_etl_transforms.rate_of_change import RateOfChange
from hypothesis import given
from hypothesis import strategies as st

from esmond_etl import Batch, ConfigError, Metadata, Series, Transform

COUNT = Series(Metadata("k"), "packet-count-sent")
FAILURES = Series(Metadata("k"), "failures")
TRACE = Series(Metadata("k"), "packet-trace")

Points = list[tuple[int, Any]]


def through(transform: Transform, series: Series, *pages: Points) -> Points:
    """What comes out of `transform` for a series in several pages."""
    batches = transform.apply([Batch.from_points(series, page) for page in pages])
    return [tuple(point) for batch in batches for point in batch.to_points()]


def pages_of(points: Points, cuts: list[int]) -> list[Points]:
    edges = [0, *sorted(cut % (len(points) + 1) for cut in cuts), len(points)]
    return [points[start:end] for start, end in pairwise(edges)]


def tasks_of(points: Points, cuts: list[int], window: int) -> list[Points]:
    """The datapoints of each task if time is cut at some multiples of the window."""
    edges = [0, *sorted({cut * window for cut in cuts}), 10**6]
    return [[point for point in points if start <= point[0] < end] for start, end in pairwise(edges)]


CUTS = st.lists(st.integers(0, 1000), max_size=6)
WINDOWS = st.lists(st.integers(1, 50), max_size=4)
SECONDS = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3)), max_size=60).map(
    lambda each: sorted(each, key=lambda p: p[0])
)


def test_a_rate_is_the_change_per_second_from_the_value_before_in_the_same_period() -> None:
    pages = [[(3590, 1.0), (3600, 100.0)], [(3610, 130.0), (3620, 125.0)], [(7200, 9.0), (7204, 10.0)]]
    assert through(RateOfChange(period="1h"), COUNT, *pages) == [(3610, 3.0), (3620, -0.5), (7204, 0.25)]


def test_of_several_values_in_a_second_the_first_tells_the_change_up_to_it_and_the_last_that_from_it() -> None:
    assert through(RateOfChange(period="1h"), COUNT, [(0, 0), (1, 10), (1, 20)], [(1, 30), (2, 31)]) == [(1, 10.0), (2, 1.0)]


@given(SECONDS, CUTS, WINDOWS, st.sampled_from([60, 120]))
def test_rates_are_the_same_however_pages_and_tasks_are_cut(points: Points, cuts: list[int], tasks: list[int], period: int) -> None:
    rate = RateOfChange.model_validate({"period": period})
    whole = through(rate, COUNT, points)
    assert through(rate, COUNT, *pages_of(points, cuts)) == whole
    assert [point for task in tasks_of(points, tasks, 120) for point in through(rate, COUNT, task)] == whole
    assert whole == [
        (after[0], (after[1] - before[1]) / (after[0] - before[0]))
        for before, after in pairwise(points)
        if after[0] > before[0] and after[0] // period == before[0] // period
    ]


def test_rates_of_what_is_no_number_are_none_unless_they_are_asked_for() -> None:
    points = [(1, {"error": "a"}), (2, {"error": "b"})]
    assert through(RateOfChange(period="1h"), FAILURES, points[:1], points[1:]) == points
    with pytest.raises(ConfigError, match="k/failures/base: RateOfChange works on numbers, and these values are json"):
        through(RateOfChange(period="1h", event_types=["failures"]), FAILURES, points)


def test_dedupe_keeps_the_first_datapoint_of_a_second_across_pages() -> None:
    pages: list[Points] = [[(1, "a"), (1, "b")], [], [(1, "c"), (2, "c")], [(2, "d")], [(3, "d")]]
    assert through(Dedupe(), TRACE, *pages) == [(1, "a"), (2, "c"), (3, "d")]


def test_dedupe_leaves_out_repeated_values_but_keeps_the_first_of_each_period() -> None:
    pages: list[Points] = [[(1, 1500), (2, 1500)], [(3, 1500), (4, 9000), (5, 1500)], [(3600, 1500), (3601, 1500)]]
    assert through(Dedupe(period="1h"), COUNT, *pages) == [(1, 1500), (4, 9000), (5, 1500), (3600, 1500)]
    assert through(Dedupe(period="1h"), TRACE, *pages) == [(1, 1500), (4, 9000), (5, 1500), (3600, 1500)]


def test_dedupe_remembers_the_second_of_a_value_that_it_left_out() -> None:
    assert through(Dedupe(period="1h"), COUNT, [(1, 5), (2, 5)], [(2, 7), (3, 7)]) == [(1, 5), (3, 7)]


@given(SECONDS, CUTS, WINDOWS, st.sampled_from([None, 60, 120]))
def test_dedupe_does_the_same_however_pages_and_tasks_are_cut(
    points: Points, cuts: list[int], tasks: list[int], period: int | None
) -> None:
    dedupe = Dedupe.model_validate({"period": period})
    whole = through(dedupe, COUNT, points)
    assert through(dedupe, COUNT, *pages_of(points, cuts)) == whole
    assert [point for task in tasks_of(points, tasks, 120) for point in through(dedupe, COUNT, task)] == whole
    alone = [after for before, after in pairwise([(-1, 0), *points]) if after[0] > before[0]]
    assert whole == [
        after
        for before, after in pairwise([(-(10**6), 0), *alone])
        if period is None or after[1] != before[1] or after[0] // period != before[0] // period
    ]
