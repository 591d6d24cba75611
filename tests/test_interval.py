"""Time, second by second: intervals against sets of seconds, durations and moments against Python's own."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmond_etl import Interval, IntervalSet
from esmond_etl.model.interval import LONGEST, ceil, floor, format_duration, moment, parse_duration, parse_moment

NOW = 1_700_000_000
DAY = 86400

#: Some before 1970: the remainder of a negative number is easily got wrong.
bounds = st.tuples(st.integers(-40, 40), st.integers(-40, 40))
real = st.tuples(st.integers(-40, 40), st.integers(1, 30)).map(lambda each: Interval(each[0], sum(each)))


def seconds(intervals: list[tuple[int, int]] | IntervalSet) -> set[int]:
    return {second for start, end in intervals for second in range(start, end)}


def is_normal(found: IntervalSet) -> bool:
    """Whether its intervals are in order, not empty, and do not touch."""
    ends = [moment for interval in found for moment in interval]
    return all(one < other for one, other in pairwise(ends))


@given(real, real)
def test_two_intervals_overlap_where_they_share_a_second(one: Interval, other: Interval) -> None:
    common = seconds([one]) & seconds([other])
    assert one.overlaps(other) == bool(common)
    assert seconds([one.intersection(other)]) == common
    assert one.intersection(other).seconds == len(common)


@given(real, st.integers(1, 50))
def test_pieces_are_the_interval_cut_on_the_grid(whole: Interval, size: int) -> None:
    pieces = list(whole.pieces(size))
    assert [second for piece in pieces for second in range(*piece)] == list(range(*whole))
    assert all(each.seconds > 0 and floor(each.start, size) == floor(each.end - 1, size) for each in pieces)
    assert len({floor(each.start, size) for each in pieces}) == len(pieces), "no piece is cut without need"


def test_an_empty_interval_has_no_pieces() -> None:
    assert list(Interval(5, 5).pieces(2)) == list(Interval(7, 5).pieces(2)) == []


@given(st.lists(bounds, max_size=6), st.lists(bounds, max_size=6))
def test_sets_of_intervals_are_sets_of_seconds(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    one, other = IntervalSet.of(some), IntervalSet.of(others)
    assert seconds(one) == seconds(some)
    assert one.seconds == len(seconds(some))
    assert seconds(one.union(other)) == seconds(one) | seconds(other)
    assert seconds(one.minus(other)) == seconds(one) - seconds(other)
    assert all(map(is_normal, (one, one.union(other), one.minus(other))))


@given(st.lists(bounds, max_size=6), real)
def test_what_lies_within_bounds(some: list[tuple[int, int]], limits: Interval) -> None:
    found = IntervalSet.of(some).within(limits)
    assert seconds(found) == seconds(some) & seconds([limits])
    assert is_normal(found)


@given(st.integers(-1000, 1000), st.integers(1, 60))
def test_floor_and_ceil_are_the_multiples_around(ts: int, size: int) -> None:
    assert floor(ts, size) == max(each for each in range(ts - size + 1, ts + 1) if each % size == 0)
    assert ceil(ts, size) == min(each for each in range(ts, ts + size) if each % size == 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("15m", 900), ("6h", 21600), ("1d", DAY), ("2w", 14 * DAY), ("007s", 7), ("0d", 0), ("36525d", LONGEST)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, expected: int) -> None:
    assert parse_duration(text) == expected
    assert parse_moment(text, NOW) == NOW - expected


@pytest.mark.parametrize("text", ["", "d", "5", "1 d", "-1d", "1.5h", "1D", "1dd", "36526d", f"{LONGEST + 1}s", "9" * 5000 + "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|is too long"):
        parse_duration(text)


@given(st.integers(0, LONGEST))
def test_a_duration_is_read_back_as_it_was_written(number: int) -> None:
    assert parse_duration(format_duration(number)) == number


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0s"), (59, "59s"), (60, "1m"), (3600, "1h"), (5400, "90m"), (DAY, "1d"), (7 * DAY, "7d")]
)
def test_a_duration_is_written_in_the_largest_unit_that_fits(number: int, text: str) -> None:
    assert format_duration(number) == text


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("now", NOW),
        (" now ", NOW),
        (123, 123),
        ("1388534400", 1388534400),
        ("123456789", 123456789),
        ("2014-01-01", 1388534400),
        ("2014-01-01T01:00:00+01:00", 1388534400),
        (date(2014, 1, 1), 1388534400),
        (datetime(2014, 1, 1, 12), 1388577600),
        (datetime(2014, 1, 1, 12, tzinfo=timezone(timedelta(hours=12))), 1388534400),
    ],
)
def test_a_moment_is_utc_where_nothing_else_is_said(given_: object, expected: int) -> None:
    assert parse_moment(given_, NOW) == expected


@pytest.mark.parametrize("value", ["", "yesterday", "12345678", "2014-13-01", True, None, 1.5, []])
def test_what_is_no_moment_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_moment(value, NOW)


@given(st.integers(-(10**9), 4 * 10**9))
def test_the_text_of_a_moment_is_read_back(ts: int) -> None:
    assert parse_moment(moment(ts), NOW) == ts
    assert moment(ts).endswith("Z") == bool(ts % DAY)
    assert str(Interval(ts, ts)) == f"{moment(ts)} to {datetime.fromtimestamp(ts, UTC):%Y-%m-%d}{moment(ts)[10:]}"
