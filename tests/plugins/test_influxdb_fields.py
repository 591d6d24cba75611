"""What each kind of event type is kept as in InfluxDB."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pytest
from esmond_etl_influxdb import fields

from esmond_etl import Batch, Metadata, Series, Summary

Found = list[tuple[int, int, dict[str, Any]]]

OWPING = Metadata("k", destination="203.0.113.2", tool_name="pscheduler/owping", parameters={"sample-bucket-width": "0.0001"})


def found(batch: Batch) -> Found:
    """Each point: the row of its datapoint, its time, its fields."""
    points = fields.points(batch)
    rows = range(len(batch)) if points.row is None else points.row.to_pylist()
    columns = [column.to_pylist() for column in points.columns.values()]
    return [
        (row, second, {name: each for name, each in zip(points.columns, values, strict=True) if each is not None})
        for row, second, *values in zip(rows, points.seconds.to_pylist(), *columns, strict=True)
    ]


def of(event_type: str, *points: tuple[int, Any], metadata: Metadata = OWPING, summary: str = "base") -> Found:
    return found(Batch.from_points(Series(metadata, event_type, Summary.parse(summary)), points))


EMPTY: dict[str, Any] = {"count": 0.0}
DELAYS = {
    "count": 4.0,
    "min": 1.0,
    "mean": 1.25,
    "median": 1.0,
    "p25": 1.0,
    "p75": 1.75,
    "p95": 2.0,
    "max": 2.0,
    "stddev": pytest.approx(0.4330127018922193),
    "variance": 0.1875,
}


def test_a_histogram_is_kept_as_its_statistics_in_true_milliseconds() -> None:
    assert of("histogram-owdelay", (1, {"10": 3, "20": 1}), (2, {})) == [(0, 1, DELAYS), (1, 2, EMPTY)]


def test_a_histogram_in_milliseconds_or_hops_is_not_scaled() -> None:
    assert of("histogram-rtt", (1, {"1": 3, "2": 1})) == [(0, 1, DELAYS)]
    assert of("histogram-ttl", (1, {"1.0": 3, "2.0": 1})) == [(0, 1, DELAYS)]


def test_an_opened_histogram_is_kept_as_its_text_is_also_in_the_middle_of_a_batch() -> None:
    points = [(1, {"7": 1}), (2, {"10": 3, "20": 1}), (3, {}), (4, {"9": 2})]
    batch = Batch.from_points(Series(OWPING, "histogram-owdelay"), points)
    opened = batch.opened()
    assert found(opened) == found(batch)
    assert found(Batch(opened.series, opened.points.slice(1, 2))) == [(0, 2, DELAYS), (1, 3, EMPTY)]


def test_what_should_be_a_histogram_and_is_none_is_kept_whole_beside_those_that_are() -> None:
    points = [(1, {"10": 3, "20": 1}), (2, [1]), (3, {"many": 5}), (4, {})]
    assert of("histogram-owdelay", *points) == [
        (0, 1, DELAYS),
        (1, 2, {"json": "[1]"}),
        (2, 3, {"json": '{"many":5}'}),
        (3, 4, EMPTY),
    ]


def test_statistics_are_scaled_and_their_variance_by_the_square() -> None:
    value = {
        "minimum": 10,
        "maximum": 20,
        "mean": 12.5,
        "median": 10,
        "mode": [10],
        "percentile-25": 10,
        "percentile-75": "17.5",
        "percentile-95": 20,
        "standard-deviation": 4.330127018922193,
        "variance": 18.75,
    }
    expected = {name: pytest.approx(each) for name, each in DELAYS.items() if name != "count"}
    assert of("histogram-owdelay", (1, value), (2, {}), summary="statistics/0") == [(0, 1, expected), (1, 2, {"json": "{}"})]


def test_a_histogram_that_a_transform_made_a_number_is_a_number() -> None:
    series = Series(OWPING, "histogram-owdelay")
    batch = Batch.from_points(series, [(1, {}), (2, {})]).with_val(pa.array([1.5, 2.5]))
    assert found(batch) == [(0, 1, {"value": 1.5}), (1, 2, {"value": 2.5})]


def test_a_packet_trace_is_kept_as_hops_end_round_trip_time_and_path() -> None:
    trace = [
        {"ttl": 2, "query": 2, "success": 1, "ip": "203.0.113.2", "rtt": 1.25},
        {"ttl": 2, "query": 1, "success": 1, "ip": "203.0.113.2", "rtt": 1.5},
        {"ttl": 1, "query": 1, "success": 1, "ip": "198.51.100.9", "rtt": 0.5},
    ]
    path = sha256(b"198.51.100.9 203.0.113.2").hexdigest()[:16]
    expected = {"hops": 2.0, "reached": True, "rtt": 1.25, "path": path}
    old = [{**hop, "ttl": str(hop["ttl"]), "success": "1", "rtt": str(hop["rtt"])} for hop in trace]
    assert of("packet-trace", (1, trace), (2, old)) == [(0, 1, expected), (1, 2, expected)]


def test_a_packet_trace_whose_last_hops_are_silent_or_complain_has_not_reached_its_destination() -> None:
    first = {"ttl": 1, "success": 1, "ip": "198.51.100.9", "rtt": 0.5}
    silent = {"ttl": 2, "success": 0, "ip": None, "rtt": None}
    complaining = {"ttl": 2, "success": 1, "ip": "198.51.100.8", "rtt": 2.0, "error_message": "net-unreachable"}
    one = {"hops": 2.0, "reached": False, "rtt": 0.5, "path": sha256(b"198.51.100.9").hexdigest()[:16]}
    two = {"hops": 2.0, "reached": False, "rtt": 2.0, "path": sha256(b"198.51.100.9 198.51.100.8").hexdigest()[:16]}
    none = {"hops": 2.0, "reached": False, "path": sha256(b"").hexdigest()[:16]}
    assert of("packet-trace", (1, [first, silent]), (2, [first, complaining]), (3, [silent])) == [
        (0, 1, one),
        (1, 2, two),
        (2, 3, none),
    ]


def test_the_path_changes_when_an_address_does_and_not_when_the_times_do() -> None:
    def trace(address: str, rtt: float) -> list[dict[str, Any]]:
        return [{"ttl": 1, "success": 1, "ip": address, "rtt": rtt}]

    paths = [point["path"] for _, _, point in of("packet-trace", (1, trace("a", 1)), (2, trace("a", 2)), (3, trace("b", 1)))]
    assert paths[0] == paths[1] != paths[2]


def test_failures_are_kept_as_their_text_and_others_than_the_usual_whole() -> None:
    assert of("failures", (1, {"error": 'no "route"\n'}), (2, "x"), (3, {"error": None}), (4, {"error": "x", "at": 1})) == [
        (0, 1, {"error": 'no "route"\n'}),
        (1, 2, {"json": '"x"'}),
        (2, 3, {"json": '{"error":null}'}),
        (3, 4, {"json": '{"error":"x","at":1}'}),
    ]


def interval(start: Any, val: Any, duration: Any = 1) -> dict[str, Any]:
    return {"start": start, "duration": duration, "val": val}


def test_a_subinterval_is_a_point_at_the_second_nearest_to_its_start() -> None:
    value = [interval(0, 5), interval("0.99998", "6", "1.00002"), interval(2.00001, 7)]
    assert of("throughput-subintervals", (100, value), (200, [interval(0, 8)])) == [
        (0, 100, {"value": 5.0, "start": 0.0, "duration": 1.0}),
        (0, 101, {"value": 6.0, "start": 0.99998, "duration": 1.00002}),
        (0, 102, {"value": 7.0, "start": 2.00001, "duration": 1.0}),
        (1, 200, {"value": 8.0, "start": 0.0, "duration": 1.0}),
    ]


def test_subintervals_in_one_second_take_the_next_that_are_free() -> None:
    value = [interval(0.4, 3), interval(0, 1), interval(0.2, 2), interval(2, 4)]
    assert [(second, point["value"]) for _, second, point in of("throughput-subintervals", (100, value))] == [
        (100, 1.0),
        (101, 2.0),
        (102, 3.0),
        (103, 4.0),
    ]


def test_subintervals_in_seconds_that_those_before_have_and_none_at_all_are_kept_whole() -> None:
    first, second = [interval(0, 1), interval(1, 2)], [interval(0, 3)]
    assert of("throughput-subintervals", (100, first), (101, second), (110, [])) == [
        (0, 100, {"value": 1.0, "start": 0.0, "duration": 1.0}),
        (0, 101, {"value": 2.0, "start": 1.0, "duration": 1.0}),
        (1, 101, {"json": json.dumps(second, separators=(",", ":"))}),
        (2, 110, {"json": "[]"}),
    ]


def test_anything_else_is_kept_whole() -> None:
    assert of("pscheduler-raw", (1, {"a": 'x"\n'}), (2, None)) == [(0, 1, {"json": '{"a":"x\\"\\n"}'}), (1, 2, {"json": "null"})]
    assert of("never-heard-of", (1, [1])) == [(0, 1, {"json": "[1]"})]


def test_structures_that_a_transform_opened_are_kept_as_their_text_and_nulls_refused() -> None:
    series = Series(OWPING, "pscheduler-raw")
    ts = Batch.from_points(series, [(1, 0), (2, 0), (3, 0)]).ts
    batch = Batch.of(series, ts, pa.array([{"a": 1}, None, {"a": 2}]))
    assert found(batch) == [(0, 1, {"json": '{"a":1}'}), (2, 3, {"json": '{"a":2}'})]
    assert fields.points(batch).refused == {1: "there is no value"}
