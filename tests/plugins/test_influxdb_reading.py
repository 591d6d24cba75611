"""What is asked of a server to read a series back, and what is made of its answers: documented ones, for want of an InfluxDB 2."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from esmond_etl_influxdb import reading
from esmond_etl_influxdb.sink import InfluxDBSink

from esmond_etl import Batch, Context, DataPoint, Interval, Metadata, Series, SinkError, Summary
from esmond_etl.engine.verify import Compared, compare

SPAN = Interval(1397001600, 1397088000)
TRACES = Series(Metadata('k"${x}'), "packet-trace")

Serve = Callable[[Callable[[Any], Any]], Any]


def answering(serve: Serve, answer: Any, csv: str, status: int = 200) -> tuple[InfluxDBSink, Any]:
    """A sink whose server answers a query with `csv`."""

    def respond(asked: Any) -> Any:
        if asked.path == "/health":
            return answer(200, b'{"name": "influxdb", "message": "ready for queries and writes", "status": "pass"}')
        return answer(status, csv.encode(), {"Content-Type": "text/csv; charset=utf-8"})

    server = serve(respond)
    sink = InfluxDBSink(url=server.url, bucket="perf", org="noc", token="s3cret", retries=0, prefix="p_")
    sink.open(Context())
    return sink, server


def points(sink: InfluxDBSink, series: Series) -> list[DataPoint]:
    return [point for batch in sink.read(series, SPAN) for point in batch.to_points()]


NUMBERS = """,result,table,_time,value\r
,_result,0,2014-04-09T00:00:00Z,7283024174\r
,_result,0,2014-04-09T00:01:00Z,0.3333333333333333\r
\r
"""


def test_numbers_are_asked_for_by_measurement_key_and_time_and_come_as_numbers(serve: Serve, answer: Any) -> None:
    sink, server = answering(serve, answer, NUMBERS)
    assert points(sink, Series(Metadata("k"), "throughput")) == [(1397001600, 7283024174.0), (1397001660, 1 / 3)]
    asked = server.asked[-1]
    question = msgspec.json.decode(asked.body)
    assert (asked.method, asked.path, asked.query) == ("POST", "/api/v2/query", {"org": "noc"})
    assert question["dialect"] == {
        "header": True,
        "delimiter": ",",
        "annotations": [],
        "commentPrefix": "#",
        "dateTimeFormat": "RFC3339",
    }
    assert question["query"].splitlines()[:3] == [
        'from(bucket: "perf")',
        "  |> range(start: 2014-04-09T00:00:00Z, stop: 2014-04-10T00:00:00Z)",
        '  |> filter(fn: (r) => r._measurement == "p_throughput" and r.metadata_key == "k" and not exists r.summary_type)',
    ]


def test_summaries_are_asked_for_by_type_and_window_and_names_are_quoted(serve: Serve, answer: Any) -> None:
    sink, server = answering(serve, answer, "")
    assert points(sink, Series(Metadata('k"${x}\\'), "throughput", Summary("average", 300))) == []
    asked = msgspec.json.decode(server.asked[-1].body)["query"]
    assert r'r.metadata_key == "k\"\${x}\\" and r.summary_type == "average" and r.summary_window == "300")' in asked


def test_fields_come_as_objects_without_those_that_a_point_lacks(serve: Serve, answer: Any) -> None:
    csv = (
        ",result,table,_time,hops,path,reached,rtt,json\r\n"
        ",_result,0,2014-04-09T00:00:00Z,2,ab,true,1.5,\r\n"
        ',_result,0,2014-04-09T00:01:00Z,1,"a,""b""\nc",false,,\r\n'
        ",_result,0,2014-04-09T00:02:00Z,,,,,[]\r\n\r\n"
    )
    sink, _ = answering(serve, answer, csv)
    assert points(sink, TRACES) == [
        (1397001600, {"hops": 2.0, "reached": True, "rtt": 1.5, "path": "ab"}),
        (1397001660, {"hops": 1.0, "reached": False, "path": 'a,"b"\nc'}),
        (1397001720, {"json": "[]"}),
    ]


def test_what_was_sent_and_what_comes_back_compare_equal(serve: Serve, answer: Any) -> None:
    sink, _ = answering(
        serve, answer, ",result,table,_time,value\r\n,,0,2014-04-09T00:00:00Z,0.1\r\n,,0,2014-04-09T00:01:00Z,1e-07\r\n"
    )
    series = Series(Metadata("k"), "ntp-offset")
    result = Compared(series.id, "sink")
    compare([sink.shows(Batch.from_points(series, [(1397001600, 0.1), (1397001660, 1e-7)]))], sink.read(series, SPAN), result)
    assert result == Compared(series.id, "sink", equal=2)


def test_what_a_server_keeps_to_some_digits_is_rounded_alike_on_both_sides() -> None:
    points = [{"value": value} for value in (0.006029437499999999, 0.0060294375)]
    (_, one), (_, other) = reading._rounded(enumerate(points))
    assert one == other


def test_an_error_in_the_middle_of_an_answer_is_an_error(serve: Serve, answer: Any) -> None:
    sink, server = answering(serve, answer, NUMBERS + ",error,reference\r\n,memory limit exceeded,897\r\n")
    with pytest.raises(SinkError) as caught:
        points(sink, Series(Metadata("k"), "throughput"))
    assert str(caught.value) == f"{server.url}api/v2/query: memory limit exceeded"


def test_a_token_that_may_not_read_is_named(serve: Serve, answer: Any) -> None:
    sink, server = answering(serve, answer, '{"code": "unauthorized", "message": "unauthorized access"}', 401)
    with pytest.raises(SinkError) as caught:
        points(sink, Series(Metadata("k"), "throughput"))
    assert str(caught.value) == f"{server.url}api/v2/query: status 401: unauthorized access: check token"


def test_an_answer_that_breaks_off_is_an_error(serve: Serve, answer: Any) -> None:
    server = serve(lambda asked: answer(200, NUMBERS.encode(), length=None if asked.path == "/health" else 100_000))
    sink = InfluxDBSink(url=server.url, bucket="perf", retries=0)
    sink.open(Context())
    with pytest.raises(SinkError, match=f"^{server.url}api/v2/query: the answer broke off: "):
        points(sink, Series(Metadata("k"), "throughput"))


def test_one_series_of_many_batches_is_read_in_batches(serve: Serve, answer: Any) -> None:
    rows = "".join(f",,0,2014-04-09T{row // 3600:02}:{row // 60 % 60:02}:{row % 60:02}Z,{row}\r\n" for row in range(25_000))
    sink, _ = answering(serve, answer, f",result,table,_time,value\r\n{rows}")
    batches = list(sink.read(Series(Metadata("k"), "throughput"), SPAN))
    assert [len(batch) for batch in batches] == [10_000, 10_000, 5000]
    assert [point for batch in batches for point in batch.to_points()] == [(1397001600 + row, float(row)) for row in range(25_000)]


@pytest.mark.parametrize("by_itself", [True, False])
def test_victoria_metrics_that_is_still_taking_in_what_it_has_acknowledged_is_waited_for(
    serve: Serve, answer: Any, by_itself: bool
) -> None:
    """Asked to take in what another request, or it itself, is taking in already, it answers at once: version 1.79 did so with 8 of 60
    pairs of large series."""
    begun, visible = threading.Lock(), threading.Event()

    def respond(asked: Any) -> Any:
        if asked.path == "/health":
            return answer(200, b"OK")
        if asked.path == "/internal/force_flush":
            if begun.acquire(blocking=False):
                taking_in = threading.Timer(0.3, visible.set)
                taking_in.start()
                if not by_itself:
                    taking_in.join()
            return answer(200, b"")
        if asked.path == "/api/v1/series":
            found = [{"__name__": "throughput_value"}] if visible.is_set() else []
            return answer(200, msgspec.json.encode({"data": found}))
        return answer(200, b'{"metric": {}, "timestamps": [1397001600000], "values": [7]}\n')

    sink = InfluxDBSink(url=serve(respond).url, bucket="any")
    sink.open(Context())
    with ThreadPoolExecutor(2) as pool:
        read = list(pool.map(lambda key: points(sink, Series(Metadata(key), "throughput")), "ab"))
    assert read == [[(1397001600, 7.0)]] * 2
