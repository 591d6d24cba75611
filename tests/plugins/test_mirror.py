"""One archive mirrored into another: the copy is exact, summaries included, and making it again changes nothing."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import requests
from esmond_etl_archive.samples import START, sample
from esmond_etl_esmond.sink import EsmondSink

from esmond_etl import BASE, Batch, Interval, Metadata, Series, Served, SinkError, Summary
from esmond_etl.testing import deliver, points_of
from esmond_etl.testing import series as made_up

pytestmark = pytest.mark.slow

DAY = 86400
ODD: dict[str, list[tuple[int, Any]]] = {
    "failures": [(START, {"error": 'café — 接続 \u0000 "\\'}), (START + 1, None), (START + 2, "text"), (START + 3, [])],
    "packet-trace": [(START, [{"ttl": 1, "ip": "2001:db8::1", "rtt": 0.52, "as": {"number": 64500, "owner": "É"}}])],
    "throughput": [(START, 0), (START + 1, -7), (START + 2, 2**53), (START + 3, 2**62)],
    "throughput-subintervals": [(START, [{"start": 0, "duration": 1.0, "val": 9.1e9}, {"start": "1", "duration": 1, "val": "7"}])],
    "histogram-ttl": [(START, {"59.0": 600}), (START + 1, {}), (START + 2, {"41.099999999999994": 1, "a": 2})],
    "pscheduler-raw": [(START, {"b": 1e300, "a": [1e-7, True, None]})],
}


def record(metadata: dict[str, Any], **points: list[tuple[int, Any]]) -> dict[str, Any]:
    return {"metadata": metadata, "datapoints": {name.replace("_", "-"): rows for name, rows in points.items()}}


def put(running: Any, key: str, name: str, *points: tuple[int, Any]) -> None:
    body = {"data": [{"ts": ts, "val": [{"event-type": name, "val": val}]} for ts, val in points]}
    answer = requests.put(f"{running.archive_url}{key}/", json=body, headers={"Authorization": f"Token {running.token}"})
    assert answer.status_code == 201, answer.text


def count(contents: Any) -> int:
    """Base datapoints."""
    return sum(len(points) for held in contents.values() for name, points in held.items() if name.endswith("/base"))


def test_every_value_every_summary_and_all_metadata_arrive(mirror: Any) -> None:
    mirror.load(*sample(days=2, hosts=3), record(mirror.metadata(*ODD, tool_x="ÄÖ"), **ODD))
    receipt = mirror.run()
    assert mirror.copy == mirror.original
    assert (receipt.written, receipt.unchanged, list(receipt.rejected), dict(receipt.remarks)) == (
        count(mirror.original),
        0,
        [],
        {},
    )


def test_each_of_the_10000_floats_below_1_arrives_and_their_averages_too(mirror: Any) -> None:
    points = [(START + 20 * step, sign * (step + 0.5) / 10000) for step in range(10000) for sign in [1 if step % 3 else -1]]
    mirror.load(record(mirror.metadata("time-error-estimates"), time_error_estimates=points))
    mirror.memory[f"adds-up-in-bulk:{mirror.target.archive_url}"] = "yes"
    mirror.run()
    assert mirror.copy == mirror.original
    assert count(mirror.copy) == 10000


def test_a_second_delivery_sends_no_data_and_finds_all_unchanged(mirror: Any) -> None:
    mirror.load(*sample(days=1, hosts=2))
    written = mirror.run().written
    copy = mirror.copy
    mirror.asked  # noqa: B018  # from here on
    receipt = mirror.run()
    assert (receipt.written, receipt.unchanged, len(receipt.rejected)) == (0, written, 0)
    assert mirror.asked["PUT"] == 0
    assert mirror.copy == copy


def test_a_target_that_is_new_is_not_looked_at_and_few_requests_do(mirror: Any) -> None:
    mirror.load(*sample(days=3, hosts=2))  # no series fills a page
    receipt = mirror.run()
    asked = mirror.asked
    with_data = sum(bool(points) for held in mirror.original.values() for name, points in held.items() if name.endswith("/base"))
    looks = 4  # at the first two histograms, once, to learn whether this archive adds up what stands in one request
    assert (asked["POST"], asked["GET"]) == (len(mirror.original), with_data + looks)
    assert sum(asked.values()) < (receipt.written + len(mirror.original)) / 10


def test_another_interval_of_metadata_made_in_the_same_process_needs_no_look_but_the_same_one_does(mirror: Any) -> None:
    mirror.load(record(mirror.metadata("packet-count-sent"), packet_count_sent=[(START + hour * 3600, hour) for hour in range(96)]))
    days = [Interval(START + day * DAY, START + (day + 1) * DAY) for day in range(4)]
    with mirror.reading() as source, mirror.sink(source=source) as sink:
        for day in days:
            mirror.deliver(source, sink, day)
        assert dict(mirror.asked) == {"POST": 1, "PUT": 4, "GET": 4}
        assert mirror.deliver(source, sink, days[2]).unchanged == 24
        assert dict(mirror.asked) == {"GET": 1}
    assert mirror.copy == mirror.original


def test_tasks_of_the_same_metadata_at_once_add_up_right(mirror: Any) -> None:
    mirror.load(*sample(days=4, hosts=2))
    hours = [Interval(START + hour * 3600 * 6, START + (hour + 1) * 3600 * 6) for hour in range(16)]
    Random(1).shuffle(hours)
    with mirror.reading() as source, mirror.sink(source=source) as sink, ThreadPoolExecutor(6) as pool:
        receipts = list(pool.map(lambda hour: mirror.deliver(source, sink, hour), hours))
    assert mirror.copy == mirror.original
    assert sum(receipt.written for receipt in receipts) == count(mirror.original)


def test_metadata_without_datapoints_and_event_types_that_were_not_selected_are_made(mirror: Any) -> None:
    mirror.load(record(mirror.metadata("throughput", "failures", "histogram-rtt")), record(mirror.metadata("failures", x="1")))
    mirror.run(selected=["failures"])
    assert mirror.copy == mirror.original


def test_the_key_of_each_copy_is_noted(mirror: Any) -> None:
    mirror.load(*sample(days=1, hosts=3))
    mirror.run()
    keys = [[each["metadata-key"] for each in requests.get(at.archive_url).json()] for at in (mirror.source, mirror.target)]
    noted = {name.removeprefix("key:"): value for name, value in mirror.memory.items() if name.startswith("key:")}
    assert (set(noted), set(noted.values())) == (set(keys[0]), set(keys[1]))


def test_what_the_target_has_already_is_left_alone_and_what_it_has_otherwise_is_rejected(mirror: Any) -> None:
    names = ("throughput", "histogram-ttl", "failures")
    rows: dict[str, list[Any]] = {
        "throughput": [1, 2, 3],
        "histogram_ttl": [{"1": 1}, {"1": 2}, {"1": 3}],
        "failures": [{"error": "a"}, {"error": "b"}, {"error": "c"}],
    }
    mirror.load(
        record(mirror.metadata(*names), **{name: [(START + i, v) for i, v in enumerate(each)] for name, each in rows.items()})
    )
    mirror.run(interval=Interval(START - DAY, START))
    [key] = (value for name, value in mirror.memory.items() if name.startswith("key:"))
    put(mirror.target, key, "throughput", (START, 1), (START + 1, 99))
    put(mirror.target, key, "histogram-ttl", (START, {"1": 1}), (START + 1, {"1": 99}))
    put(mirror.target, key, "failures", (START, {"error": "a"}), (START + 1, {"error": "z"}))
    receipt = mirror.run()
    assert (receipt.written, receipt.unchanged) == (3, 3)
    assert sorted((each.series.event_type, each.ts, each.val, each.reason) for each in receipt.rejected) == [
        ("failures", START + 1, '{"error":"b"}', 'the archive holds {"error":"z"} at that time'),
        ("histogram-ttl", START + 1, '{"1":2}', 'the archive holds {"1":99} at that time'),
        ("throughput", START + 1, "2", "the archive holds 99 at that time"),
    ]
    [held] = mirror.copy.values()
    assert held["throughput/base"] == [(START, 1.0), (START + 1, 99.0), (START + 2, 3.0)]
    assert held["histogram-ttl/aggregation/86400"] == [(START, {"1": 1 + 99 + 3})]
    assert held["failures/base"] == [(START, {"error": "a"}), (START + 1, {"error": "z"}), (START + 2, {"error": "c"})]


LOSS = ("packet-loss-rate", "packet-loss-rate-bidir", "packet-count-sent", "packet-count-lost", "packet-count-lost-bidir")


@pytest.mark.parametrize("selected", [None, ["packet-loss-rate", "packet-loss-rate-bidir"]])
def test_percentages_weigh_what_their_counts_say_whether_these_are_selected_or_not(mirror: Any, selected: Any) -> None:
    times = range(START, START + DAY, 60)
    sent = {ts: 600 - ts % 7 for ts in times}
    lost = {ts: ts % 13 % sent[ts] for ts in times}
    rates = [(ts, {"numerator": lost[ts], "denominator": sent[ts]}) for ts in times]
    counts = {"packet_count_sent": sent, "packet_count_lost": lost, "packet_count_lost_bidir": lost}
    points = {name: list(each.items()) for name, each in counts.items()}
    mirror.load(record(mirror.metadata(*LOSS), packet_loss_rate=rates, packet_loss_rate_bidir=rates, **points))
    receipt = mirror.run(selected=selected)
    [copy], [original] = mirror.copy.values(), mirror.original.values()
    kept = {name: each for name, each in original.items() if name.startswith("packet-loss")}
    assert {name: copy[name] for name in kept} == kept
    assert dict(receipt.remarks) == {}


def test_percentages_without_counts_become_the_simplest_fraction_and_are_counted(mirror: Any) -> None:
    rates = [(START, {"numerator": 7, "denominator": 600}), (START + 1, {"numerator": 300, "denominator": 600})]
    mirror.load(record(mirror.metadata("packet-loss-rate", "packet-count-sent"), packet_loss_rate=rates))
    receipt = mirror.run()
    [copy], [original] = mirror.copy.values(), mirror.original.values()
    assert copy["packet-loss-rate/base"] == original["packet-loss-rate/base"]
    assert copy["packet-loss-rate/aggregation/86400"] == [(START, (7 + 1) / (600 + 2))]
    assert dict(receipt.remarks) == {"percentages of uncertain weight": 2}
    assert dict(mirror.run().remarks) == {}


def test_what_the_target_cannot_have_is_rejected_and_everything_else_arrives(mirror: Any) -> None:
    def point(name: str, *points: tuple[int, Any]) -> tuple[Series, list[tuple[int, Any]]]:
        return Series(metadata, name), list(points)

    names = (
        "gadget-count",
        "throughput",
        "time-error-estimates",
        "packet-loss-rate",
        "histogram-ttl",
        "throughput-subintervals",
        "failures",
    )
    ends = ("192.0.2.1", "192.0.2.2", "192.0.2.1", "tool", "a", "b")
    served = {BASE: Served("-"), Summary("median", 60): Served("-"), Summary("statistics", 60): Served("-")}
    metadata = Metadata("k", "point-to-point", *ends, {}, dict.fromkeys(names, served))
    given = dict(
        [
            point("gadget-count", (START, 5)),
            point("throughput", (START, 1), (START + 1, 1.5), (START + 2, 3), (START + 3, None)),
            point("packet-loss-rate", (START, 0.5), (START + 1, -1), (START + 2, None)),
            point("time-error-estimates", (START, 0.5), (START + 1, None)),
            point("histogram-ttl", (START, {"1": 1}), (START + 1, None), (START + 2, {"1": "x"}), (START + 3, {"2": 1})),
            point("throughput-subintervals", (START, []), (START + 1, [{"start": 0, "duration": 1, "val": 3}]), (START + 2, [{}])),
            point("failures", (START, None)),
        ]
    )
    with mirror.sink() as sink:
        receipt = deliver(sink, given, mirror.time)
        read_back = {series.event_type: points_of(sink.read(series, mirror.time)) for series in given}
    assert sorted((each.series.event_type, each.ts - START, each.val, each.reason) for each in receipt.rejected) == [
        ("gadget-count", 0, "5", "the archive does not know the event type 'gadget-count'"),
        ("histogram-ttl", 1, "null", "the archive keeps no null as a histogram"),
        ("histogram-ttl", 2, '{"1":"x"}', "the archive refuses it: Value of histogram must be an integer"),
        ("packet-loss-rate", 1, "-1", "-1.0 is negative, and the archive keeps no such percentage"),
        ("packet-loss-rate", 2, "null", "the archive keeps no null as a percentage"),
        ("throughput", 1, "1.5", "1.5 is not a whole number, and the archive cuts it to 1"),
        ("throughput", 3, "null", "the archive keeps no null as an integer"),
        ("throughput-subintervals", 0, "[]", "the archive keeps no empty list of subintervals"),
        ("throughput-subintervals", 2, "[{}]", "the archive refuses it: Interval must contain 'start' field at position 1"),
        ("time-error-estimates", 1, "null", "the archive keeps no null as a float"),
    ]
    assert read_back == {
        "gadget-count": [],
        "throughput": [(START, 1), (START + 2, 3)],
        "packet-loss-rate": [(START, 0.5)],
        "histogram-ttl": [(START, {"1": 1}), (START + 3, {"2": 1})],
        "throughput-subintervals": [(START + 1, [{"start": 0, "duration": 1, "val": 3}])],
        "failures": [(START, None)],
        "time-error-estimates": [(START, 0.5)],
    }
    assert receipt.written == sum(map(len, read_back.values()))


def test_a_subject_without_an_address_is_rejected_and_not_posted(mirror: Any) -> None:
    named = made_up("throughput").metadata
    nameless = Series(
        Metadata("k", "point-to-point", "host.example.net", "192.0.2.2", "192.0.2.1", "t", "a", "b", {}, named.event_types),
        "throughput",
    )
    with mirror.sink() as sink:
        receipt = deliver(sink, {nameless: [(START, 1)]}, mirror.time)
    assert [each.reason for each in receipt.rejected] == [
        "source 'host.example.net' is not an IP address, and the archive accepts only IP addresses"
    ]
    assert dict(mirror.asked) == {}


def test_a_second_with_two_values_keeps_the_first_and_rejects_the_other(mirror: Any) -> None:
    throughput, failures = made_up("throughput"), made_up("failures")
    with mirror.sink() as sink:
        receipt = deliver(
            sink,
            {
                throughput: [(START, 1), (START, 2), (START, 1), (START + 1, 3)],
                failures: [(START, {"error": "a"}), (START, {"error": "b"})],
            },
            mirror.time,
        )
        assert points_of(sink.read(throughput, mirror.time)) == [(START, 1), (START + 1, 3)]
        assert points_of(sink.read(failures, mirror.time)) == [(START, {"error": "a"})]
    assert (receipt.written, receipt.unchanged) == (3, 1)
    assert [(each.ts, each.val, each.reason) for each in receipt.rejected] == [
        (START, "2", "the source has another value in that second, which is kept: 1"),
        (START, '{"error":"b"}', 'the source has another value in that second, which is kept: {"error":"a"}'),
    ]


def test_a_series_that_could_not_be_read_keeps_the_others_from_nothing(mirror: Any) -> None:
    mirror.load(*sample(days=1, hosts=2))
    with mirror.reading() as source, mirror.sink(source=source) as sink:
        from esmond_etl import Task

        series = tuple(source.series(mirror.time))
        bad = next(each for each in series if each.event_type == "packet-reorders")
        load = sink.begin(Task(series, mirror.time, DAY))
        for each in series:
            batches: list[Batch] = list(source.read(each, mirror.time))
            if each == bad:
                load.write(batches[0])
                continue
            for batch in batches:
                load.write(batch)
            load.end(each)
        load.commit()
    missing = {name for key, held in mirror.original.items() for name in held if held[name] != mirror.copy[key][name]}
    assert missing == {"packet-reorders/base"}


def test_parameters_of_other_types_are_posted_as_their_json_text(mirror: Any) -> None:
    given = made_up("throughput", count=30, share=0.5, on=True, none=None, list=["a", 1], text="30")
    with mirror.sink() as sink:
        deliver(sink, {given: [(START, 1)]}, mirror.time)
    [entry] = requests.get(mirror.target.archive_url).json()
    shown = {name: entry[name] for name in ("count", "share", "on", "none", "list", "text")}
    assert shown == {"count": "30", "share": "0.5", "on": "true", "none": "null", "list": '["a",1]', "text": "30"}


def test_summaries_can_be_read_back_but_not_written(mirror: Any) -> None:
    mirror.load(*sample(days=1, hosts=2))
    mirror.run()
    with mirror.reading(summaries="all") as source, mirror.sink() as sink:
        for series in source.series(mirror.time):
            assert points_of(sink.read(series, mirror.time)) == points_of(source.read(series, mirror.time))
            refusal = "only base data can be written: the archive makes its own summaries"
            assert sink.refusal(series) == (None if series.summary == BASE else f"{series.summary}: {refusal}")


def test_of_metadata_that_was_never_mirrored_nothing_is_read_back(mirror: Any) -> None:
    with mirror.sink() as sink:
        assert list(sink.read(made_up("throughput"), mirror.time)) == []
        mirror.memory["key:a1"] = "0000deadbeef"
        assert list(sink.read(made_up("throughput"), mirror.time)) == []


def test_metadata_that_become_one_in_the_target_are_told(mirror: Any) -> None:
    one, other = made_up("throughput", key="a1"), made_up("throughput", key="b2")
    typed, text = (replace(each.metadata, parameters={"count": count}) for each, count in ((one, 30), (other, "30")))
    with mirror.sink() as sink:
        first = deliver(sink, {one.replace(metadata=typed): [(START, 1)]}, mirror.time)
        second = deliver(sink, {other.replace(metadata=text): [(START + 1, 2)]}, mirror.time)
    assert len(requests.get(mirror.target.archive_url).json()) == 1
    assert dict(first.remarks) == {}
    assert dict(second.remarks) == {
        "datapoints of metadata that are one in the target, as they differ in nothing that it looks at": 1
    }


def test_two_metadata_made_of_one_by_a_transform_are_refused(mirror: Any) -> None:
    one, two = made_up("packet-count-sent"), made_up("packet-count-lost")
    two = two.replace(metadata=replace(two.metadata, source="192.0.2.9"))
    refused = pytest.raises(SinkError, match="a1: a transform changes the metadata of some of its event types alone")
    with mirror.sink() as sink, refused:
        deliver(sink, {one: [(START, 1)], two: [(START, 1)]}, mirror.time)
    assert mirror.copy == {}


def test_the_key_is_never_shown() -> None:
    sink = EsmondSink(url="http://127.0.0.1/", api_key="geheim")
    assert "geheim" not in repr(sink) + str(sink) + sink.model_dump_json()
