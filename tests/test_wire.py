"""Bytes of answers and of posts, byte by byte; millions of broken pages are tried in test_client_faults.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmond_etl import Batch, Interval, Metadata, Series
from esmond_etl.client import wire

RATE, TRACE = (Series(Metadata("k"), name) for name in ("throughput", "packet-trace"))
ASKED = Interval(100, 200)


def batch(*points: tuple[int, Any], series: Series = RATE) -> Batch:
    return Batch.from_points(series, list(points))


texts = st.text(max_size=5)
values = st.recursive(st.none() | st.integers(-(2**53), 2**53) | texts, lambda each: st.lists(each, max_size=3), max_leaves=5)


@given(st.lists(st.tuples(st.integers(0, 2**40), st.lists(st.tuples(texts, values), max_size=3)), max_size=4))
def test_the_body_of_a_put_is_the_datapoints_by_ts(rows: list[tuple[int, list[tuple[str, Any]]]]) -> None:
    body = wire.encode_bulk([(ts, [(name, wire.encode(val)) for name, val in vals]) for ts, vals in rows])
    assert json.loads(body) == {
        "data": [{"ts": ts, "val": [{"event-type": name, "val": val} for name, val in vals]} for ts, vals in rows]
    }
    assert b" " not in wire.encode_bulk([(1, [("throughput", b"5")])])


@pytest.mark.parametrize("series", [RATE, TRACE])
def test_a_page_in_its_interval_passes_and_says_whether_it_is_strictly_in_order(series: Series) -> None:
    value: Any = 1 if series is RATE else [{"ttl": 1}]
    strict = wire.check_page(batch((100, value), (199, value), series=series), ASKED)
    assert (list(strict.moments), strict.in_order) == ([100, 199], True)
    doubled = wire.check_page(batch((100, value), (100, value), series=series), ASKED)
    assert (list(doubled.moments), doubled.in_order) == ([100, 100], False)
    assert len(wire.check_page(batch(series=series), ASKED)) == 0


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        ([99, 150], "ts 99 was not asked for (asked for 100 to 199)"),
        ([150, 200], "ts 200 was not asked for (asked for 100 to 199)"),
        ([99, 200], "ts 99 was not asked for (asked for 100 to 199)"),
        ([120, 150, 140, 130], "the page is out of order: ts 140 comes after ts 150"),
    ],
)
def test_a_page_that_was_not_asked_for_is_refused_with_its_ts(stamps: list[int], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        wire.check_page(batch(*((ts, 1.0) for ts in stamps)), ASKED)
    assert str(raised.value) == message


@given(
    st.lists(st.tuples(st.integers(100, 104), st.integers(0, 2)), max_size=12).map(
        lambda points: sorted(points, key=lambda p: p[0])
    )
)
def test_of_datapoints_that_came_twice_one_is_kept(points: list[tuple[int, int]]) -> None:
    page = wire.check_page(batch(*points), ASKED)
    found = [
        (ts, val) for ts, val in zip(*(wire.without_repeats(page).points.column(name).to_pylist() for name in (0, 1)), strict=True)
    ]
    assert [val for _, val in found] == [val for _, val in dict.fromkeys(points)]


def test_a_list_sets_aside_what_is_no_metadata() -> None:
    entries = [
        {"metadata-key": "a", "event-types": [], "uri": "/a", "metadata-count-total": 7},
        {"metadata-key": "b", "event-types": "none", "uri": "/b"},
        {"metadata-key": ["x" * 200], "event-types": []},
    ]
    found = wire.decode_metadata_list(json.dumps(entries).encode())
    assert ([each.key for each in found.metadata], found.total, found.entries) == (["a"], 7, 3)
    assert list(found.unusable) == ["b", repr(["x" * 200])[:80]]
    assert all(reason.startswith("the archive lists an invalid entry (") for reason in found.unusable.values())


@pytest.mark.parametrize(("total", "expected"), [("7", None), (None, None), (0, 0)])
def test_a_total_is_a_number_or_not_said(total: Any, expected: int | None) -> None:
    entry = {"metadata-key": "a", "event-types": [], "uri": "/a", "metadata-count-total": total}
    assert wire.decode_metadata_list(json.dumps([entry]).encode()).total == expected
    assert wire.decode_metadata_list(b"[]") == ([], {}, None, 0)


@pytest.mark.parametrize("body", [b"{}", b"[1]", b"", b"<html>"])
def test_what_is_no_list_of_objects_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        wire.decode_metadata_list(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b'{"detail":"no such key"}', "no such key"), (b'{"detail":[1]}', ""), (b"[]", ""), (b"{", ""), (b"\xff", ""), (b"{}", "")],
)
def test_the_reason_of_a_failed_request(body: bytes, expected: str) -> None:
    assert wire.detail(body) == expected
