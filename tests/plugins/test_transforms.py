"""What each transform makes of datapoints: whole outcomes."""

from collections.abc import Callable
from datetime import date
from itertools import pairwise
from statistics import fmean
from typing import Any

import pyarrow as pa
import pytest
from esmond_etl_transforms.drop import Drop
from esmond_etl_transforms.resample import Resample
from esmond_etl_transforms.scale import Scale
from esmond_etl_transforms.selection import Select
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from esmond_etl import Batch, ConfigError, Metadata, Series, Summary, Transform

METADATA = Metadata(
    "0cb19291",
    source="198.129.254.30",
    destination="198.124.252.141",
    tool_name="pscheduler/iperf3",
    parameters={"ip-transport-protocol": "tcp"},
)
THROUGHPUT = Series(METADATA, "throughput")
FAILURES = Series(METADATA, "failures")
DELAY = Series(METADATA, "histogram-owdelay")

Points = list[tuple[int, Any]]


def through(transform: Transform, series: Series, *pages: Points) -> Points:
    """What comes out of `transform` for a series in several pages."""
    batches = transform.apply([Batch.from_points(series, page) for page in pages])
    return [tuple(point) for batch in batches for point in batch.to_points()]


def pages_of(points: Points, cuts: list[int]) -> list[Points]:
    edges = [0, *sorted(cut % (len(points) + 1) for cut in cuts), len(points)]
    return [points[start:end] for start, end in pairwise(edges)]


CUTS = st.lists(st.integers(0, 1000), max_size=6)
SERIES_OF_NUMBERS = st.lists(
    st.tuples(st.integers(0, 5000), st.floats(-1e12, 1e12, allow_subnormal=False)), unique_by=lambda point: point[0], max_size=60
).map(sorted)


def test_scale_multiplies_every_number() -> None:
    assert through(Scale(factor=1e-9), THROUGHPUT, [(1, 7283024174), (2, 5e8)], [(3, 0)]) == [(1, 7.283024174), (2, 0.5), (3, 0.0)]


def test_scale_leaves_what_is_no_number_as_it_is() -> None:
    assert through(Scale(factor=2), FAILURES, [(1, {"error": "timeout"})]) == [(1, {"error": "timeout"})]


@pytest.mark.parametrize("transform", [Scale, Resample, Drop, Select])
def test_a_series_that_is_named_and_holds_no_numbers_is_an_error(transform: type[Transform]) -> None:
    needed: dict[type[Transform], dict[str, Any]] = {Scale: {"factor": 2}, Resample: {"period": "1h"}}
    with pytest.raises(ConfigError) as caught:
        through(transform(event_types=["histogram-owdelay"], **needed.get(transform, {"above": 1})), DELAY, [(1, {"28": 33})])
    assert str(caught.value) == (
        f"0cb19291/histogram-owdelay/base: {transform.__name__} works on numbers, and these values are histogram: "
        "take 'histogram-owdelay' out of its event_types"
    )


def test_drop_leaves_out_what_meets_all_conditions() -> None:
    points = [(1, 5.0), (2, 15.0), (3, 25.0), (4, 15.0)]
    assert through(Drop(above=10, below=20), THROUGHPUT, points[:2], points[2:]) == [(1, 5.0), (3, 25.0)]
    assert through(Drop.model_validate({"above": 10, "from": 3}), THROUGHPUT, points) == [(1, 5.0), (2, 15.0)]
    assert through(Drop(equals=15), THROUGHPUT, points) == [(1, 5.0), (3, 25.0)]


def test_select_keeps_what_meets_all_conditions() -> None:
    points = [(1, 5.0), (2, 15.0), (3, 25.0), (4, 15.0)]
    assert through(Select(above=10, below=20), THROUGHPUT, points[:2], points[2:]) == [(2, 15.0), (4, 15.0)]
    assert through(Select.model_validate({"above": 10, "from": 2, "to": 4}), THROUGHPUT, points) == [(2, 15.0), (3, 25.0)]


@given(SERIES_OF_NUMBERS, st.floats(-1e12, 1e12), st.integers(0, 5000))
def test_drop_and_select_part_a_series_in_two(points: Points, above: float, start: int) -> None:
    options = {"above": above, "from": start}
    kept = through(Select.model_validate(options), THROUGHPUT, points)
    assert kept == [(ts, val) for ts, val in points if val > above and ts >= start]
    assert sorted(kept + through(Drop.model_validate(options), THROUGHPUT, points)) == points


def test_values_that_are_no_numbers_meet_no_condition_on_values_but_conditions_on_time() -> None:
    points = [(1, {"error": "a"}), (2, {"error": "b"})]
    assert through(Drop(above=0), FAILURES, points) == points
    assert through(Select(above=0), FAILURES, points) == points
    assert through(Select.model_validate({"above": 0, "from": 2}), FAILURES, points) == points[1:]
    assert through(Drop.model_validate({"to": 2}), FAILURES, points) == points[1:]


def test_a_missing_value_meets_no_condition() -> None:
    batch = Batch.of(THROUGHPUT, pa.array([1, 2], pa.timestamp("s", "UTC")), pa.array([None, 3.0]))
    assert [list(each.to_points()) for each in Drop(above=1).apply([batch])] == [[(1, None)]]
    assert [list(each.to_points()) for each in Select(above=1).apply([batch])] == [[(2, 3.0)]]


@pytest.mark.parametrize(
    ("match", "met"),
    [
        ({"source": "198.129.254.30"}, True),
        ({"source": "198.129.*"}, True),
        ({"source": ["10.*", "198.129.254.3?"]}, True),
        ({"source": "198.129.254"}, False),
        ({"source": "198.129.*", "destination": "10.*"}, False),
        ({"tool-name": "*/iperf3", "ip-transport-protocol": "tcp"}, True),
        ({"metadata-key": "0cb*"}, True),
        ({"measurement-agent": "*"}, False),
        ({"no-such-field": "*"}, False),
    ],
)
def test_metadata_fields_are_equal_or_fit_a_pattern(match: dict[str, str | list[str]], met: bool) -> None:
    assert Select(match=match).becomes(THROUGHPUT) == (THROUGHPUT if met else None)
    assert Drop(match=match).becomes(THROUGHPUT) == (None if met else THROUGHPUT)


def test_whole_event_types_are_selected_and_dropped() -> None:
    select, drop = Select(event_types=["throughput"]), Drop(event_types=["throughput"])
    assert [(select.concerns(each), select.becomes(each)) for each in (THROUGHPUT, DELAY)] == [(True, THROUGHPUT), (True, None)]
    assert (drop.concerns(THROUGHPUT), drop.becomes(THROUGHPUT), drop.concerns(DELAY)) == (True, None, False)
    assert through(select, THROUGHPUT, [(1, 2.0)]) == [(1, 2.0)]
    assert through(select, DELAY, [(1, {"1": 1})]) == through(drop, THROUGHPUT, [(1, 2.0)]) == []


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ({}, "no condition: give one or more of event_types, match, above, below, equals, from, to"),
        ({"above": 5, "below": 5}, "no value is above 5 and below 5"),
        ({"from": "2014-03-02", "to": "2014-03-01"}, "`from` is not before `to`"),
        ({"from": "30d"}, "'30d' is not a time: write a date or time such as 2014-03-01 or 2014-03-01T12:00:00Z"),
        ({"from": date(1950, 1, 1)}, "1950-01-01 is not a time: write a date or time such as 2014-03-01 or 2014-03-01T12:00:00Z"),
        (
            {"to": "99999999999999999999"},
            "'99999999999999999999' is not a time: write a date or time such as 2014-03-01 or 2014-03-01T12:00:00Z",
        ),
    ],
)
def test_conditions_that_make_no_sense_are_refused(options: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Drop.model_validate(options)
    assert [error["msg"] for error in caught.value.errors()] == [f"Value error, {mistake}"]


def test_resample_makes_one_datapoint_of_each_period_that_has_any() -> None:
    pages = [[(3599, 8.0), (3600, 1.0)], [(3660, 2.0), (7199, 6.0)], [(14400, 5.0)]]
    outcomes = {how: through(Resample(period="1h", how=how), THROUGHPUT, *pages) for how in ("mean", "min", "max", "sum", "count")}
    assert outcomes == {
        "mean": [(0, 8.0), (3600, 3.0), (14400, 5.0)],
        "min": [(0, 8.0), (3600, 1.0), (14400, 5.0)],
        "max": [(0, 8.0), (3600, 6.0), (14400, 5.0)],
        "sum": [(0, 8.0), (3600, 9.0), (14400, 5.0)],
        "count": [(0, 1.0), (3600, 3.0), (14400, 1.0)],
    }


@given(SERIES_OF_NUMBERS, CUTS, st.sampled_from([1, 7, 60, 3600]), st.sampled_from(["mean", "min", "max", "sum", "count"]))
def test_resample_gives_the_same_however_the_series_is_cut(points: Points, cuts: list[int], period: int, how: str) -> None:
    whole = through(Resample.model_validate({"period": period, "how": how}), THROUGHPUT, points)
    assert through(Resample.model_validate({"period": period, "how": how}), THROUGHPUT, *pages_of(points, cuts)) == whole
    buckets: dict[int, list[float]] = {}
    for ts, val in points:
        buckets.setdefault(ts // period * period, []).append(val)
    plain: dict[str, Callable[[list[float]], float]] = {"mean": fmean, "min": min, "max": max, "sum": sum, "count": len}
    assert whole == [(start, pytest.approx(plain[how](values), rel=1e-9, abs=1e-3)) for start, values in buckets.items()]


def test_resample_leaves_what_is_no_number_as_it_is() -> None:
    points = [(1, {"error": "a"}), (2, {"error": "b"})]
    assert through(Resample(period="1h"), FAILURES, points[:1], points[1:]) == points


def test_resample_says_what_becomes_of_a_summary() -> None:
    becomes = {
        (how, str(summary)): str(Resample(period="1h", how=how).becomes(THROUGHPUT.replace(summary=summary)).summary)
        for how in ("mean", "sum", "max")
        for summary in (Summary(), Summary("average", 300), Summary("aggregation", 300), Summary("average", 86400))
    }
    assert {key: name for key, name in becomes.items() if name != key[1]} == {
        ("mean", "average/300"): "average/3600",
        ("sum", "aggregation/300"): "aggregation/3600",
    }
    resampled = Resample(period="1h").apply([Batch.from_points(THROUGHPUT.replace(summary=Summary("average", 300)), [(300, 1)])])
    assert [(str(batch.series), list(batch.to_points())) for batch in resampled] == [
        ("0cb19291/throughput/average/3600", [(0, 1.0)])
    ]
