"""The query interface, against an archive on a socket."""

import importlib.util
import json
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from esmond_etl_archive import load

from esmond_etl import ConfigError
from esmond_etl.client.query import ApiConnect, ApiFilters, DataHistogram, DataPayload, DataPoint, EventType, Metadata, Summary
from esmond_etl.model.errors import ContentError, RequestError, StatusError

pytestmark = pytest.mark.slow

TS = 1397075053
SUBJECT = {
    "subject-type": "point-to-point",
    "source": "198.51.100.1",
    "destination": "203.0.113.1",
    "tool-name": "pscheduler/iperf3",
    "measurement-agent": "198.51.100.1",
    "input-source": "a.example.net",
    "input-destination": "b.example.net",
}
PARAMETERS = {"ip-transport-protocol": "tcp", "time-duration": "30", "sample-bucket-width": "0.001", "ip-packet-interval": "0.1"}
DATAPOINTS: dict[str, Any] = {
    "throughput": [[TS, 1000], [TS + 60, 3000]],
    "packet-loss-rate": [[TS, {"numerator": 1, "denominator": 4}]],
    "histogram-ttl": [[TS, {"28": 33}], [TS + 60, {"9": 12, "10": 1}]],
    "failures": [[TS, {"error": "no route"}]],
    "packet-trace": [],
}
SUMMARIES = {"throughput": [("average", 86400)], "histogram-ttl": [("aggregation", 86400), ("statistics", 0)]}


def record(datapoints: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What an archive loads."""
    event_types = [
        {
            "event-type": name,
            "summaries": [{"summary-type": kind, "summary-window": window} for kind, window in SUMMARIES.get(name, [])],
        }
        for name in datapoints
    ]
    return {"metadata": {**SUBJECT, **PARAMETERS, **changes, "event-types": event_types}, "datapoints": datapoints}


@pytest.fixture
def filled(archive: Any) -> Any:
    """An archive with one metadata."""
    load(archive.archive, [record(DATAPOINTS)])
    return archive


@pytest.fixture
def metadata(filled: Any) -> Metadata:
    """That metadata."""
    return next(ApiConnect(filled.url).get_metadata())


def event_type(metadata: Metadata, name: str) -> EventType:
    """One that is there."""
    found = metadata.get_event_type(name)
    assert found
    return found


def test_a_connection_goes_nowhere_before_it_is_asked_for_metadata() -> None:
    filters = ApiFilters()
    filters.timeout, filters.ssl_verify = 5, False
    connection = ApiConnect("https://localhost:1/", filters, "user", "key")
    assert (connection.api_url, connection.filters, connection.script_alias) == ("https://localhost:1", filters, "esmond")
    found = connection.get_metadata()
    with pytest.raises(RequestError, match="https://localhost:1/esmond/perfsonar/archive/"):
        next(found)


def test_every_property_of_a_metadata_says_what_the_archive_says(metadata: Metadata) -> None:
    key = metadata.metadata_key
    found = {
        name: getattr(metadata, name)
        for name in dir(type(metadata))
        if not name.startswith(("_", "get_")) and name not in ("dump",)
    }
    assert {**found, "event_types": sorted(found["event_types"])} == {
        "destination": "203.0.113.1",
        "event_types": sorted(DATAPOINTS),
        "input_destination": "b.example.net",
        "input_source": "a.example.net",
        "ip_packet_interval": "0.1",
        "ip_transport_protocol": "tcp",
        "measurement_agent": "198.51.100.1",
        "metadata_key": key,
        "sample_bucket_width": "0.001",
        "source": "198.51.100.1",
        "subject_type": "point-to-point",
        "time_duration": "30",
        "time_interval": None,
        "time_interval_randomization": None,
        "tool_name": "pscheduler/iperf3",
        "uri": f"/esmond/perfsonar/archive/{key}/",
    }
    assert metadata.get_freeform_key_value("time-duration") == "30"
    assert repr(metadata) == f"<Metadata/{key}: uri:/esmond/perfsonar/archive/{key}/>"
    assert "'source': '198.51.100.1'" in metadata.dump


def test_the_way_down_to_the_data_and_what_stands_on_it(metadata: Metadata) -> None:
    each = {found.event_type: found for found in metadata.get_all_event_types()}
    assert sorted(each) == sorted(metadata.event_types) == sorted(DATAPOINTS)
    ttl, base = each["histogram-ttl"], f"{metadata.uri}histogram-ttl"
    assert repr(ttl) == f"<EventType/histogram-ttl: uri:{base}/base>"
    assert (ttl.base_uri, ttl.data_type, ttl.event_type) == (f"{base}/base", "histogram", "histogram-ttl")
    assert sorted(ttl.summaries) == [("aggregation", "86400"), ("statistics", "0")]
    summaries = {found.summary_type: found for found in ttl.get_all_summaries()}
    assert sorted(map(repr, summaries.values())) == ["<Summary/aggregation: window:86400>", "<Summary/statistics: window:0>"]
    for window in (86400, "86400"):
        found = ttl.get_summary("aggregation", window)
        assert isinstance(found, Summary)
        assert (found.summary_type, found.summary_window, found.uri) == ("aggregation", "86400", f"{base}/aggregations/86400")
    assert each["throughput"].get_summary("average", 3600) is None
    assert metadata.get_event_type("path-mtu") is None


def test_data_come_as_points_with_their_moment_in_utc(metadata: Metadata) -> None:
    payload = event_type(metadata, "throughput").get_data()
    assert payload.data_type == "integer"
    assert list(payload.data) == [DataPoint({"ts": TS, "val": 1000.0}), DataPoint({"ts": TS + 60, "val": 3000.0})]
    point = payload.data[0]
    assert (point.ts, point.ts_epoch, point.val) == (datetime(2014, 4, 9, 20, 24, 13), TS, 1000.0)
    assert point.ts < datetime.now(UTC).replace(tzinfo=None)
    assert repr(point) == "<DataPoint: ts:2014-04-09 20:24:13 val:1000>"
    assert repr(payload) == "<DataPayload: len:2 type:integer>"
    assert "'val': 3000" in payload.dump


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("packet-loss-rate", "percentage", [0.25]),
        ("histogram-ttl", "histogram", [{"28": 33}, {"9": 12, "10": 1}]),
        ("failures", "json", [{"error": "no route"}]),
        ("packet-trace", "json", []),
    ],
)
def test_data_of_every_kind_come_as_the_archive_has_them(metadata: Metadata, name: str, kind: str, values: list[Any]) -> None:
    payload = event_type(metadata, name).get_data()
    assert payload.data_type == kind
    assert [point.val for point in payload] == values
    assert {type(point) for point in payload} <= {DataHistogram if kind == "histogram" else DataPoint}


def test_summaries_have_data_like_event_types(metadata: Metadata) -> None:
    average = event_type(metadata, "throughput").get_summary("average", 86400)
    statistics = event_type(metadata, "histogram-ttl").get_summary("statistics", "0")
    assert average and statistics
    assert [(point.ts_epoch, point.val) for point in average.get_data().data] == [(TS - TS % 86400, 2000.0)]
    first = statistics.get_data().data[0]
    assert (first.ts_epoch, first.val["median"], repr(first)) == (
        TS,
        28.0,
        f"<DataHistogram: ts:2014-04-09 20:24:13 len:{len(first.val)}>",
    )
    assert statistics.get_data().data_type == statistics.data_type == "histogram"


def test_a_moment_beyond_what_a_datetime_can_be_does_not_fail() -> None:
    point = DataPoint({"ts": 10**15, "val": 1})
    assert (point.ts.year, point.ts_epoch) == (9999, 10**15)


def test_the_time_filters_select_data_and_lose_no_metadata_that_was_written_to_later(filled: Any) -> None:
    filters = ApiFilters()
    filters.time_start, filters.time_end = TS + 30, TS + 60
    found = list(ApiConnect(filled.url, filters).get_metadata())
    assert len(found) == 1  # the archive's own filter finds none: its last write was just now
    assert [point.ts_epoch for point in event_type(found[0], "throughput").get_data()] == [TS + 60]


def test_the_filters_count_as_they_are_when_data_are_asked_for(filled: Any) -> None:
    filters = ApiFilters()
    found = event_type(next(ApiConnect(filled.url, filters).get_metadata()), "throughput")
    whole = found.get_data()
    found.filters.time_end = TS
    assert [point.ts_epoch for point in found.get_data()] == [TS]
    assert len(whole.data) == 2


@pytest.mark.parametrize(
    ("criterion", "value", "count"),
    [
        ("source", "198.51.100.1", 1),
        ("source", "198.51.100.2", 0),
        ("source", None, 1),
        ("destination", "203.0.113.1", 1),
        ("measurement_agent", "198.51.100.1", 1),
        ("tool_name", "pscheduler/powstream", 0),
        ("input_source", "a.example.net", 1),
        ("input_destination", "c.example.net", 0),
        ("subject_type", "network-element", 0),
        ("event_type", "throughput", 1),
        ("event_type", "failures", 1),
        ("event_type", "packet-trace-multi", 0),
        ("summary_type", "statistics", 1),
        ("summary_window", 3600, 0),
        ("ip_transport_protocol", "tcp", 1),
        ("ip_packet_interval", "0.2", 0),
        ("sample_bucket_width", "0.001", 1),
        ("metadata_key", "0000deadbeef", 0),
    ],
)
def test_a_criterion_selects_metadata(filled: Any, criterion: str, value: Any, count: int) -> None:
    filters = ApiFilters()
    setattr(filters, criterion, value)
    assert len(list(ApiConnect(filled.url, filters).get_metadata())) == count


@pytest.mark.parametrize("host", ["h:port", "h:99999", "...", "-a..b", "arch ive.example.net", "[::1", "u:s3cret@h:port"])
def test_a_host_or_a_port_that_cannot_be_one_is_said_before_anything_is_sent(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        list(ApiConnect(f"http://{host}/", ApiFilters()).get_metadata())
    bare = host.rpartition("@")[2]
    assert str(caught.value) == f"'http://{bare}' is not the URL of an archive: write https://HOST/"


@pytest.mark.parametrize("script_alias", [None, "/", ""])
def test_no_script_alias_and_a_slash_both_mean_none(tmp_path: Any, script_alias: str | None) -> None:
    from esmond_etl_archive import serve

    with serve(tmp_path / "a.db", script_alias="/") as running:
        load(running.archive, [record(DATAPOINTS)])
        found = next(ApiConnect(running.url, script_alias=script_alias).get_metadata())
        assert found.uri == f"/perfsonar/archive/{found.metadata_key}/"
        assert len(event_type(found, "throughput").get_data().data) == 2


def test_a_list_longer_than_an_archive_gives_at_once_comes_whole(archive: Any) -> None:
    load(archive.archive, [record({"throughput": []}, number=number) for number in range(2100)])
    found = [each.get_freeform_key_value("number") for each in ApiConnect(archive.url).get_metadata()]
    assert sorted(map(int, found)) == list(range(2100))


@pytest.fixture
def long(archive: Any) -> EventType:
    """An event type with more datapoints than one page has."""
    load(archive.archive, [record({"throughput": [[TS + number, number] for number in range(44_990)]})])
    return event_type(next(ApiConnect(archive.url).get_metadata()), "throughput")


def test_data_longer_than_a_page_come_whole(long: EventType) -> None:
    assert [(point.ts_epoch, point.val) for point in long.get_data()] == [(TS + number, number) for number in range(44_990)]


def test_iterating_reads_page_by_page_and_holds_one(long: EventType, archive: Any) -> None:
    asked = archive.requests["GET"]
    payload = long.get_data()
    points = iter(payload.data)
    assert next(points).val == 0.0
    assert archive.requests["GET"] == asked + 1
    tracemalloc.start()
    assert sum(1 for _ in points) == 44_989
    streamed = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    assert len(list(long.get_data().data)) == 44_990
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert archive.requests["GET"] == asked + 10
    assert streamed < held / 2


def test_a_payload_can_be_iterated_again_and_read_as_a_list(long: EventType) -> None:
    payload = long.get_data()
    assert repr(payload) == "<DataPayload: len:unread type:integer>"
    assert [sum(1 for _ in payload) for _ in range(2)] == [44_990, 44_990]
    assert len(payload.data) == 44_990
    assert repr(payload) == "<DataPayload: len:44990 type:integer>"
    assert (payload.data[0].val, payload.data[-1].val, [point.val for point in payload.data[44_988:]]) == (
        0,
        44_989,
        [44_988, 44_989],
    )
    point = payload.data[-1]
    assert point in payload.data
    assert payload.data + payload.data == 2 * list(payload)


def test_a_list_of_data_can_be_sorted_and_changed_like_any_other(metadata: Metadata) -> None:
    data = event_type(metadata, "throughput").get_data().data
    data.reverse()
    assert [point.val for point in data] == [3000.0, 1000.0]
    data.sort(key=lambda point: float(point.val))
    data.append(DataPoint({"ts": 1, "val": 1}))
    assert [point.val for point in data] == [1000.0, 3000.0, 1]
    assert (bool(data), len(data)) == (True, 3)


def test_one_page_is_asked_for_once_however_it_is_looked_at(metadata: Metadata, filled: Any) -> None:
    asked = filled.requests["GET"]
    payload = event_type(metadata, "throughput").get_data()
    if payload.data and len(payload.data) == 2:
        assert [point.val for point in payload.data] == [payload.data[0].val, payload.data[1].val]
    assert payload.to_arrow().num_rows == 2
    assert filled.requests["GET"] == asked + 1


def test_no_data_are_an_empty_list(metadata: Metadata) -> None:
    payload = event_type(metadata, "packet-trace").get_data()
    assert (len(payload.data), list(payload), bool(payload.data), bool(payload)) == (0, [], False, True)
    assert payload.to_arrow().schema == pa.schema([("ts", pa.timestamp("s", "UTC")), ("val", pa.string())])


def test_columns_of_numbers_histograms_and_all_else(metadata: Metadata) -> None:
    tables = {name: event_type(metadata, name).get_data().to_arrow() for name in ("throughput", "histogram-ttl", "failures")}
    assert [table.schema.field("val").type for table in tables.values()] == [
        pa.float64(),
        pa.map_(pa.string(), pa.int64()),
        pa.string(),
    ]
    assert tables["throughput"].to_pylist() == [
        {"ts": datetime.fromtimestamp(TS, UTC), "val": 1000.0},
        {"ts": datetime.fromtimestamp(TS + 60, UTC), "val": 3000.0},
    ]
    assert tables["histogram-ttl"].column("val").to_pylist() == [[("28", 33)], [("9", 12), ("10", 1)]]
    assert [json.loads(text) for text in tables["failures"].column("val").to_pylist()] == [{"error": "no route"}]


@pytest.mark.skipif(importlib.util.find_spec("pandas") is not None, reason="pandas is installed")
def test_without_pandas_to_pandas_says_what_to_do(metadata: Metadata) -> None:
    with pytest.raises(ImportError, match="needs pandas: install it, or use to_arrow"):
        event_type(metadata, "throughput").get_data().to_pandas()


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="there is no pandas here")
def test_with_pandas_data_are_a_frame(metadata: Metadata) -> None:
    frame = event_type(metadata, "histogram-ttl").get_data().to_pandas()
    assert list(frame["val"]) == [{"28": 33}, {"9": 12, "10": 1}]
    assert frame["ts"].dt.tz is not None


def test_a_list_that_fails_raises_the_url_and_the_archives_reason(filled: Any) -> None:
    filters = ApiFilters()
    filters.source = "no-such-host.invalid"
    with pytest.raises(
        StatusError, match=r"/esmond/perfsonar/archive/\?source=no-such-host.invalid.*status 400: .*no-such-host"
    ) as raised:
        list(ApiConnect(filled.url, filters).get_metadata())
    assert raised.value.status == 400
    with pytest.raises(StatusError, match="status 401: Invalid token"):
        list(ApiConnect(filled.url, username="u", api_key="nope").get_metadata())


def listed(base: str, **data: Any) -> bytes:
    """A list of one metadata whose data are at `base`."""
    entry = {
        **SUBJECT,
        "metadata-key": "k",
        "uri": "/k/",
        "event-types": [{"event-type": "throughput", "base-uri": base, "summaries": []}],
    }
    return json.dumps([{**entry, **data}]).encode()


def test_data_that_fail_raise_the_url_and_the_archives_reason(serve: Callable[..., Any], answer: Callable[..., Any]) -> None:
    def respond(asked: Any) -> Any:
        return answer(body=listed("/base")) if asked.path.endswith("/archive/") else answer(404, b'{"detail": "gone"}')

    found = event_type(next(ApiConnect(serve(respond).url).get_metadata()), "throughput")
    with pytest.raises(StatusError, match=r"GET http://.*/base\?.*: status 404: gone"):
        found.get_data()


def test_a_page_that_is_no_data_raises_the_url(serve: Callable[..., Any], answer: Callable[..., Any]) -> None:
    def respond(asked: Any) -> Any:
        return answer(body=listed("/base") if asked.path.endswith("/archive/") else b'[{"ts": 1, "val": "much"}]')

    url = serve(respond).url
    archive = ApiConnect(url)
    found = event_type(next(archive.get_metadata()), "throughput")
    found._reader.archive.retries = 0
    found._reader.archive.__post_init__()
    with pytest.raises(ContentError, match="/base"):
        found.get_data()


def test_a_perfsonar_5_archive_is_asked_where_it_says_and_only_for_a_window_with_a_start(
    serve: Callable[..., Any], answer: Callable[..., Any]
) -> None:
    now = int(time.time())

    def respond(asked: Any) -> Any:
        if asked.path.endswith("/archive/"):
            return answer(body=listed("/k/throughput/base/0"))
        inside = int(asked.query["time-start"]) <= now - 100 <= int(asked.query["time-end"])
        return answer(body=b'[{"ts": %d, "val": 5}]' % (now - 100) if inside else b"[]")

    server = serve(respond)
    filters = ApiFilters()
    found = event_type(next(ApiConnect(server.url, filters).get_metadata()), "throughput")
    with pytest.raises(ConfigError, match="give a start"):
        found.get_data()
    filters.time_start = now - 3600
    assert [point.val for point in found.get_data()] == [5.0]
    assert max(int(each.query["time-end"]) for each in server.asked if "time-end" in each.query) <= now + 2 * 86400


def test_credentials_go_to_the_archive_they_are_for(serve: Callable[..., Any], answer: Callable[..., Any]) -> None:
    server = serve(lambda asked: answer(body=b"[]"))
    filters = ApiFilters()
    for connection in (ApiConnect(server.url, filters, "user", "key"), ApiConnect(server.url, filters)):
        assert list(connection.get_metadata()) == []
    assert [asked.headers.get("Authorization") for asked in server.asked] == ["Token key", None]


def test_verbose_says_on_stderr_what_is_asked_for(filled: Any, capsys: pytest.CaptureFixture[str]) -> None:
    filters = ApiFilters()
    filters.verbose, filters.source = True, "198.51.100.1"
    found = event_type(next(ApiConnect(filled.url, filters).get_metadata()), "throughput")
    found.get_data()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"[url: {filled.archive_url}, {{'source': '198.51.100.1'}}]",
        f"[url: {found.base_uri}, 1970-01-01 to 2100-01-01]",
    ]


def test_a_metadata_can_be_made_of_an_entry_of_a_list_with_filters_of_its_own(metadata: Metadata, filled: Any) -> None:
    filters = ApiFilters()
    filters.time_end = TS
    again = Metadata(metadata._data, filled.url, filters)
    assert again.dump == metadata.dump
    payload = event_type(again, "throughput").get_data()
    assert isinstance(payload, DataPayload)
    assert [point.ts_epoch for point in payload] == [TS]
