"""Datapoints of several event types become the requests that carry them."""

import json
from typing import Any

import pyarrow as pa
from esmond_etl_esmond.bulk import LARGEST, Bulk, Column, bulks

from esmond_etl.testing import series


def column(name: str, points: dict[int, Any]) -> Column:
    texts = pa.array([json.dumps(value) for value in points.values()], pa.string())
    return Column(series(name), series(name), pa.array(list(points), pa.int64()), texts, texts)


def sent(made: Bulk) -> list[tuple[int, list[tuple[str, Any]]]]:
    return [(each["ts"], [(value["event-type"], value["val"]) for value in each["val"]]) for each in json.loads(made.body)["data"]]


def test_values_of_one_time_stand_together_in_the_order_of_their_columns() -> None:
    [made] = bulks([column("throughput", {1: 10, 3: 30}), column("failures", {1: {"error": "é"}, 2: None})])
    assert sent(made) == [
        (1, [("throughput", 10), ("failures", {"error": "é"})]),
        (2, [("failures", None)]),
        (3, [("throughput", 30)]),
    ]
    assert made.places == [("throughput", 1), ("failures", 1), ("failures", 2), ("throughput", 3)]


def test_a_request_holds_so_many_timestamps_and_each_value_is_in_just_one() -> None:
    columns = [
        column("throughput", {ts: ts for ts in range(2500)}),
        column("packet-retransmits", dict.fromkeys(range(0, 2500, 2), 0)),
    ]
    made = list(bulks(columns, 1000))
    assert [each.moments for each in made] == [1000, 1000, 500]
    places = [place for each in made for place in each.places]
    assert len(places) == len(set(places)) == 3750
    assert [sorted({ts for ts, _ in sent(each)}) for each in made] == [sorted({ts for _, ts in each.places}) for each in made]


def test_a_request_does_not_get_too_large() -> None:
    made = list(bulks([column("failures", dict.fromkeys(range(20), "x" * 300000))]))
    assert [each.moments for each in made] == [6, 6, 6, 2]
    assert max(len(each.body) for each in made) < LARGEST + 100


def test_a_value_that_is_too_large_for_any_request_goes_alone() -> None:
    made = list(bulks([column("failures", {1: "x", 2: "x" * (LARGEST + 1), 3: "x"})]))
    assert [[ts for ts, _ in sent(each)] for each in made] == [[1], [2], [3]]


def test_each_value_can_go_alone() -> None:
    made = list(bulks([column("throughput", {1: 1, 2: 2}), column("failures", {1: "x"})], 0))
    assert [sent(each) for each in made] == [[(1, [("throughput", 1)])], [(1, [("failures", "x")])], [(2, [("throughput", 2)])]]


def test_one_datapoint_is_a_request() -> None:
    [made] = bulks([column("throughput", {1: 1})])
    assert made.body == b'{"data":[{"ts":1,"val":[{"event-type":"throughput","val":1}]}]}'
