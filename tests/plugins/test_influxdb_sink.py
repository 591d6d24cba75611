"""How the InfluxDB sink talks to a server: whole requests, and what it makes of every answer."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import pyarrow as pa
import pytest
from esmond_etl_influxdb.sink import InfluxDBSink
from pydantic import ValidationError

from esmond_etl import (
    EQUAL_IN_A_SECOND,
    Batch,
    Context,
    Interval,
    Load,
    Metadata,
    PluginError,
    Receipt,
    Reject,
    Series,
    SinkError,
    StoppedError,
    Task,
)

THROUGHPUT = Series(Metadata("k1", source="198.51.100.1"), "throughput")
LOST = Series(Metadata("k2"), "packet-count-lost")
TASK = Task((THROUGHPUT, LOST), Interval(0, 86400), 86400)

Serve = Callable[[Callable[[Any], Any]], Any]


def lines(count: int, series: Series = THROUGHPUT) -> Batch:
    return Batch.from_points(series, [(ts, float(ts)) for ts in range(count)])


def opened(url: str, **options: Any) -> InfluxDBSink:
    place = {} if "database" in options else {"bucket": "perfsonar", "org": "noc", "token": "s3cret"}
    sink = InfluxDBSink(url=url, backoff=0, **place, **options)
    sink.open(Context())
    return sink


def delivered(sink: InfluxDBSink, *batches: Batch) -> Receipt:
    load: Load = sink.begin(TASK)
    written(load, *batches)
    return load.commit()


def written(load: Load, *batches: Batch) -> None:
    for batch in batches:
        load.write(batch)
    for series in dict.fromkeys(batch.series for batch in batches):
        load.end(series)


def test_series_share_one_request_that_names_place_precision_and_token(serve: Serve, answer: Any) -> None:
    server = serve(lambda asked: answer(204))
    sink = opened(server.url)
    receipt = delivered(sink, lines(2), lines(1, LOST))
    sink.close()
    assert receipt == Receipt(written=3)
    [asked] = server.asked
    assert (asked.method, asked.path) == ("POST", "/api/v2/write")
    assert asked.query == {"org": "noc", "bucket": "perfsonar", "precision": "s"}
    assert asked.headers["Authorization"] == "Token s3cret"
    assert asked.headers["Content-Type"].startswith("text/plain")
    assert asked.body == (
        b"throughput,metadata_key=k1,source=198.51.100.1 value=0 0\n"
        b"throughput,metadata_key=k1,source=198.51.100.1 value=1 1\n"
        b"packet_count_lost,metadata_key=k2 value=0 0\n"
    )
    assert (sink.traffic.requests, sink.traffic.sent) == (1, len(asked.body))


def test_influxdb_1_8_is_given_user_and_password_as_its_token_and_the_database_as_its_bucket(serve: Serve, answer: Any) -> None:
    server = serve(lambda asked: answer(204))
    delivered(opened(server.url, username="etl", password="pw", database="perfsonar/five_years"), lines(1))
    [asked] = server.asked
    assert asked.query == {"org": "-", "bucket": "perfsonar/five_years", "precision": "s"}
    assert asked.headers["Authorization"] == "Token etl:pw"


def test_a_task_goes_out_in_requests_of_5000_lines_before_it_is_committed(serve: Serve, answer: Any) -> None:
    server = serve(lambda asked: answer(204))
    load = opened(server.url).begin(TASK)
    load.write(lines(12_000))
    assert [each.body.count(b"\n") for each in server.asked] == [5000, 5000]
    load.end(THROUGHPUT)
    load.write(lines(3500, LOST))
    assert [each.body.count(b"\n") for each in server.asked] == [5000, 5000]
    load.end(LOST)
    assert [each.body.count(b"\n") for each in server.asked] == [5000, 5000, 5000]
    assert load.commit() == Receipt(written=15_500)
    assert [each.body.count(b"\n") for each in server.asked] == [5000, 5000, 5000, 500]
    assert len(set(b"".join(each.body for each in server.asked).splitlines())) == 15_500


def test_large_values_go_out_in_requests_of_about_two_mebibytes(serve: Serve, answer: Any) -> None:
    server = serve(lambda asked: answer(204))
    series = Series(Metadata("k"), "pscheduler-raw")
    batch = Batch.from_points(series, [(ts, "x" * 100_000) for ts in range(100)])
    assert delivered(opened(server.url), batch) == Receipt(written=100)
    assert max(len(each.body) for each in server.asked) < 3 * 2**20
    assert sum(each.body.count(b"\n") for each in server.asked) == 100


def test_compressed_requests_say_so_and_hold_the_same(serve: Serve, answer: Any) -> None:
    server = serve(lambda asked: answer(204))
    delivered(opened(server.url), lines(3000))
    delivered(opened(server.url, gzip=True), lines(3000))
    plain, packed = server.asked
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 5


def test_several_threads_deliver_every_datapoint_once(serve: Serve, answer: Any) -> None:
    server = serve(lambda asked: answer(204))
    load = opened(server.url).begin(TASK)
    several = [Series(Metadata(f"k{number}"), "throughput") for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda series: written(load, lines(1000, series)), several))
    assert load.commit() == Receipt(written=40_000)
    found = Counter(b"".join(each.body for each in server.asked).splitlines())
    assert len(found) == 40_000
    assert set(found.values()) == {1}


def test_only_the_lines_that_the_server_will_not_have_are_rejected_with_its_reason(serve: Serve, answer: Any) -> None:
    held: set[bytes] = set()

    def respond(asked: Any) -> Any:
        bad = [line for line in asked.body.splitlines() if line.endswith((b" 17", b" 4018"))]
        if bad:
            return answer(400, json.dumps({"code": "invalid", "message": f"unable to parse '{bad[0].decode()}': bad"}).encode())
        held.update(asked.body.splitlines())
        return answer(204)

    server = serve(respond)
    receipt = delivered(opened(server.url), lines(5000))
    head = "unable to parse 'throughput,metadata_key=k1,source=198.51.100.1 value="
    assert receipt == Receipt(
        written=4998,
        rejected=(
            Reject(THROUGHPUT, 17, "17.0", f"{head}17 17': bad"),
            Reject(THROUGHPUT, 4018, "4018.0", f"{head}4018 4018': bad"),
        ),
    )
    assert len(held) == 4998
    assert len(server.asked) < 60


def test_a_whole_block_that_was_dropped_is_rejected_without_asking_again(serve: Serve, answer: Any) -> None:
    reason = "partial write: points beyond retention policy dropped=500"
    server = serve(lambda asked: answer(422, json.dumps({"code": "unprocessable entity", "message": reason}).encode()))
    receipt = delivered(opened(server.url), lines(500))
    assert receipt == Receipt(rejected=tuple(Reject(THROUGHPUT, ts, f"{ts}.0", reason) for ts in range(500)))
    assert len(server.asked) == 1


def test_lines_of_two_measurements_are_each_rejected_for_their_own_reason(serve: Serve, answer: Any) -> None:
    def respond(asked: Any) -> Any:
        rows = asked.body.splitlines()
        reason = f"partial write: field type conflict in {rows[0].split(b',')[0].decode()} dropped={len(rows)}"
        return answer(400, json.dumps({"message": reason}).encode())

    sent = Series(Metadata("k"), "packet-count-sent")
    receipt = delivered(opened(serve(respond).url), lines(3), lines(3, sent))
    found = {(each.series.event_type, each.reason.split(" in ")[1].split()[0]) for each in receipt.rejected}
    assert found == {("throughput", "throughput"), ("packet-count-sent", "packet_count_sent")}
    assert len(receipt.rejected) == 6


def test_a_rejected_subinterval_rejects_its_datapoint_once(serve: Serve, answer: Any) -> None:
    series = Series(Metadata("k"), "throughput-subintervals")
    value = [{"start": start, "duration": 1, "val": start} for start in range(10)]
    batch = Batch.from_points(series, [(100, value), (200, value)])

    def respond(asked: Any) -> Any:
        bad = any(line.endswith((b" 203", b" 207")) for line in asked.body.splitlines())
        return answer(400, b'{"error": "no"}') if bad else answer(204)

    receipt = delivered(opened(serve(respond).url), batch)
    assert receipt == Receipt(written=1, rejected=(Reject(series, 200, json.dumps(value, separators=(",", ":")), "no"),))


def test_what_is_too_large_for_the_server_is_halved_until_it_is_not(serve: Serve, answer: Any) -> None:
    held: list[bytes] = []

    def respond(asked: Any) -> Any:
        if len(asked.body) > 50_000:
            return answer(413, b"<html><body>413 Request Entity Too Large</body></html>")
        held.extend(asked.body.splitlines())
        return answer(204)

    assert delivered(opened(serve(respond).url), lines(5000)) == Receipt(written=5000)
    assert sorted(held) == sorted(set(held))
    assert len(held) == 5000


def test_a_line_that_is_too_large_by_itself_is_rejected(serve: Serve, answer: Any) -> None:
    series = Series(Metadata("k"), "pscheduler-raw")
    batch = Batch.from_points(series, [(1, "x"), (2, "y" * 1000)])
    server = serve(lambda asked: answer(413 if len(asked.body) > 500 else 204))
    assert delivered(opened(server.url), batch) == Receipt(
        written=1, rejected=(Reject(series, 2, f'"{"y" * 1000}"', HTTPStatus(413).phrase),)
    )


V2, V1 = {"token": "s3cret"}, {"database": "perfsonar", "username": "etl", "password": "s3cret"}


@pytest.mark.parametrize(
    ("options", "status", "body", "said"),
    [
        ({}, 401, {"code": "unauthorized", "message": "unauthorized access"}, "unauthorized access: check token"),
        ({}, 403, {"code": "forbidden", "message": "insufficient permissions for write"}, "for write: check token"),
        ({}, 404, {"code": "not found", "message": 'bucket "perfsonar" not found'}, 'bucket "perfsonar" not found: check bucket'),
        ({}, 404, {"code": "not found", "message": 'organization name "noc" not found'}, '"noc" not found: check org'),
        ({}, 404, "404 page not found\n", "404 page not found: check url"),
        ({}, 404, "<html>nothing here</html>", "status 404: Not Found: check url"),
        ({}, 400, {"code": "invalid", "message": "Please provide either orgID or org"}, "orgID or org: check org"),
        (V1, 401, {"error": "authorization failed"}, "authorization failed: check username and password"),
        (V1, 404, {"error": 'database not found: "perfsonar"'}, 'database not found: "perfsonar": check database'),
        (V1, 500, {"error": "retention policy not found: x"}, "retention policy not found: x: check database"),
    ],
)
def test_an_option_that_is_wrong_is_named_after_one_request(
    serve: Serve, answer: Any, options: dict[str, str], status: int, body: Any, said: str
) -> None:
    server = serve(lambda asked: answer(status, body.encode() if isinstance(body, str) else json.dumps(body).encode()))
    with pytest.raises(SinkError) as caught:
        delivered(opened(server.url, **options), lines(5))
    assert str(caught.value).startswith(f"{server.url}api/v2/write: status {status}: ")
    assert str(caught.value).endswith(said)
    assert "s3cret" not in str(caught.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize("trouble", [{"status": 503}, {"status": 429, "headers": {"Retry-After": "0"}}, {"close": True}])
def test_what_fails_in_passing_is_sent_again(serve: Serve, answer: Any, trouble: dict[str, Any]) -> None:
    server = serve(lambda asked: answer(**trouble) if len(server.asked) < 3 else answer(204))
    assert delivered(opened(server.url), lines(5)) == Receipt(written=5)
    assert len(server.asked) == 3
    assert len({each.body for each in server.asked}) == 1


def test_what_goes_on_failing_is_an_error_that_names_url_and_reason(serve: Serve, answer: Any) -> None:
    server = serve(lambda asked: answer(503, b'{"code": "unavailable", "message": "engine: cache is full"}'))
    with pytest.raises(SinkError, match=r"^http://127.0.0.1:\d+/api/v2/write: status 503: engine: cache is full$"):
        delivered(opened(server.url, retries=2), lines(5))
    assert len(server.asked) == 3


def test_a_server_that_is_not_there_is_an_error_that_names_it(serve: Serve, answer: Any) -> None:
    with pytest.raises(SinkError, match=r"^http://127.0.0.1:1/api/v2/write: .*refused"):
        delivered(opened("http://127.0.0.1:1", retries=1), lines(5))


def test_a_server_that_does_not_answer_is_an_error_that_says_how_long(serve: Serve, answer: Any) -> None:
    done = threading.Event()

    def respond(asked: Any) -> Any:
        done.wait(20)
        return answer(204)

    server = serve(respond)
    try:
        with pytest.raises(SinkError, match=r"/api/v2/write: no answer within 1 s$"):
            delivered(opened(server.url, retries=0, timeout="1s"), lines(5))
    finally:
        done.set()


def test_a_run_that_is_told_to_stop_does_not_wait_for_a_server_that_asked_for_it(serve: Serve, answer: Any) -> None:
    stop = threading.Event()

    def respond(asked: Any) -> Any:
        stop.set()
        return answer(503, headers={"Retry-After": "500"})

    sink = InfluxDBSink(url=serve(respond).url, bucket="b")
    sink.open(Context(stop=stop))
    with pytest.raises(StoppedError):
        delivered(sink, lines(5))


def test_what_is_rolled_back_before_a_request_is_full_is_not_sent(serve: Serve, answer: Any) -> None:
    server = serve(lambda asked: answer(204))
    load = opened(server.url).begin(TASK)
    written(load, lines(5))
    load.write(lines(5, LOST))
    load.rollback()
    assert server.asked == []


def test_a_series_that_broke_off_before_it_filled_a_request_is_not_sent(serve: Serve, answer: Any) -> None:
    server = serve(lambda asked: answer(204))
    load = opened(server.url).begin(TASK)
    written(load, lines(2))
    load.write(lines(4999, LOST).with_val(pa.nulls(4999, pa.float64())))
    load.write(lines(4999, LOST))
    assert load.commit() == Receipt(written=2)
    assert [each.body.count(b"throughput") for each in server.asked] == [2]


def test_a_second_value_in_one_second_is_rejected_and_the_same_value_again_is_not(serve: Serve, answer: Any) -> None:
    server = serve(lambda asked: answer(204))
    batches = [Batch.from_points(THROUGHPUT, points) for points in ([(1, 1), (2, 2), (2, 3)], [(2, 2), (3, 3)])]
    reason = "the series has another value in this second, 2.0, and InfluxDB keeps one"
    assert delivered(opened(server.url), *batches) == Receipt(3, 1, (Reject(THROUGHPUT, 2, "3.0", reason),), {EQUAL_IN_A_SECOND: 1})
    assert [line.split(b" ", 1)[1] for line in server.asked[0].body.splitlines()] == [b"value=1 1", b"value=2 2", b"value=3 3"]


def test_what_is_no_number_is_rejected_and_the_rest_written(serve: Serve, answer: Any) -> None:
    server = serve(lambda asked: answer(204))
    batch = lines(3).with_val(pa.array([1.0, float("nan"), 3.0]))
    reject = Reject(THROUGHPUT, 1, "null", "nan is not a number that InfluxDB can store")
    assert delivered(opened(server.url), batch) == Receipt(written=2, rejected=(reject,))


def test_text_of_several_lines_stays_as_it_is_but_for_victoria_metrics(serve: Serve, answer: Any) -> None:
    health = [b'{"name": "influxdb", "status": "pass"}', b"OK"]
    server = serve(lambda asked: answer(200, health.pop(0)) if asked.path == "/health" else answer(204))
    series = Series(Metadata("k"), "failures")
    for _ in range(2):
        delivered(opened(server.url), Batch.from_points(series, [(1, {"error": "a\nthroughput value=5"})]))
    assert [each.body for each in server.asked if each.path != "/health"] == [
        b'failures,metadata_key=k error="a\nthroughput value=5" 1\n',
        b'failures,metadata_key=k error="a throughput value=5" 1\n',
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bucket": "b", "database": "d"}, "write either bucket (InfluxDB 2) or database (InfluxDB 1.8)"),
        ({}, "write either bucket (InfluxDB 2) or database (InfluxDB 1.8)"),
        ({"bucket": "b", "username": "u"}, "a bucket needs a token"),
        ({"database": "d", "token": "s3cret"}, "a database needs username and password"),
        ({"bucket": "b", "url": "influxdb.example.net"}, "is not the URL of a server: write https://HOST:8086"),
        ({"bucket": "b", "url": "http://u:s3cret@host"}, "the URL must not contain a user and password"),
        ({"bucket": "b", "tags": ["tool-name"]}, "'tool_name' cannot be added"),
        ({"bucket": "b", "tags": ["value"]}, "'value' cannot be added"),
        ({"bucket": "b", "prefix": "#"}, 'whose name starts with "#" or "_"'),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        InfluxDBSink(**{"url": "http://localhost", **options})
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_series_without_a_name_or_a_bucket_width_are_refused_before_they_are_read() -> None:
    sink = InfluxDBSink(url="http://localhost", bucket="b")
    wide = Metadata("k", tool_name="pscheduler/powstream", parameters={"sample-bucket-width": "wide"})
    assert sink.refusal(THROUGHPUT) is None
    assert sink.refusal(Series(Metadata("k"), "#odd")) == "k/#odd/base: InfluxDB does not accept a measurement with the name '#odd'"
    assert (
        sink.refusal(Series(wide, "histogram-owdelay"))
        == "k/histogram-owdelay/base: sample-bucket-width is not a valid width: 'wide'"
    )


def test_without_influxdb_client_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['influxdb_client'] = None\n"
        "from esmond_etl import Context, PluginError\n"
        "from esmond_etl_influxdb.sink import InfluxDBSink\n"
        "try: InfluxDBSink(url='http://localhost', bucket='b').open(Context())\n"
        "except PluginError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "the influxdb sink needs influxdb-client: pip install 'esmond-etl[influxdb]'\n"
    assert issubclass(PluginError, Exception)


def test_secrets_are_not_shown() -> None:
    sink = InfluxDBSink(url="http://localhost", bucket="b", token="s3cret")
    assert "s3cret" not in repr(sink) + sink.model_dump_json()


QUIET = """
import logging, sys
from esmond_etl import Context, Interval, Metadata, Series
from esmond_etl_influxdb.sink import InfluxDBSink
sink = InfluxDBSink(url=sys.argv[1], org="o", bucket="b", token="t", retries=0)
sink.open(Context())
try:
    list(sink.read(Series(Metadata("k"), "throughput"), Interval(0, 86400)))
except Exception as error:
    print(error)
logging.getLogger("urllib3").warning("the pool is full")
"""


def test_what_libraries_warn_of_is_not_printed(serve: Any, answer: Any) -> None:
    url = serve(lambda asked: answer(404, b"no JSON")).url
    done = subprocess.run([sys.executable, "-c", QUIET, url], capture_output=True, text=True, check=False, timeout=60)
    assert "404" in done.stdout
    assert done.stderr == ""
