"""The post interface, against an archive on a socket."""

import warnings
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from esmond_etl import ArchiveError, EsmondEtlError
from esmond_etl.client.post import (
    EventTypeBulkPost,
    EventTypeBulkPostException,
    EventTypePost,
    EventTypePostException,
    MetadataPost,
    MetadataPostException,
    MetadataPostWarning,
)
from esmond_etl.client.query import DataHistogram, DataPoint, Metadata

ARGS: dict[str, Any] = {
    "subject_type": "point-to-point",
    "source": "10.10.0.1",
    "destination": "10.10.0.2",
    "tool_name": "pscheduler/iperf3",
    "measurement_agent": "10.10.0.2",
    "input_source": "host1",
    "input_destination": "host2",
}
EVENT_TYPES = ("throughput", "packet-count-sent", "packet-loss-rate", "histogram-ttl", "failures", "time-error-estimates")
AUTH: dict[str, Any] = {"username": "pS_user", "api_key": "secret"}
TS = 1397075053


@pytest.fixture
def posted(archive: Any) -> Metadata:
    """A metadata with some event types."""
    post = MetadataPost(archive.url, **AUTH, **ARGS)
    for name in EVENT_TYPES:
        post.add_event_type(name)
    post.add_summary_type("histogram-ttl", "aggregation", [86400])
    return post.post_metadata()


def points(metadata: Metadata, event_type: str) -> list[tuple[int, Any]]:
    """What the archive has."""
    found = metadata.get_event_type(event_type)
    assert found
    return [(point.ts_epoch, point.val) for point in found.get_data()]


def test_a_posted_metadata_comes_back_with_its_key_and_all_that_was_said_of_it(archive: Any) -> None:
    post = MetadataPost(archive.url, **AUTH, **ARGS, time_duration=30, ip_transport_protocol="tcp")
    post.add_event_type("throughput")
    post.add_summary_type("throughput", "average", [3600, "86400"])
    post.add_summary_type("packet-count-sent", "aggregation", [86400])
    post.add_freeform_key_value("bw-parallel-streams", 4)
    metadata = post.post_metadata()
    found = {name: getattr(metadata, name) for name in ARGS}
    assert found == ARGS
    assert (metadata.time_duration, metadata.ip_transport_protocol) == ("30", "tcp")
    assert metadata.get_freeform_key_value("bw-parallel-streams") == "4"
    assert metadata.uri == f"/esmond/perfsonar/archive/{metadata.metadata_key}/"
    assert {each.event_type: sorted(each.summaries) for each in metadata.get_all_event_types()} == {
        "throughput": [("average", "3600"), ("average", "86400")],
        "packet-count-sent": [("aggregation", "86400")],
    }
    assert post.post_metadata().metadata_key == metadata.metadata_key


def test_a_network_element_needs_no_destination_and_is_posted_without(archive: Any) -> None:
    post = MetadataPost(
        archive.url,
        **AUTH,
        subject_type="network-element",
        source="198.51.100.13",
        tool_name="pscheduler/snmpget",
        measurement_agent="198.51.100.13",
        input_source="router.example.net",
    )
    post.add_event_type("pscheduler-raw")
    metadata = post.post_metadata()
    assert (metadata.subject_type, metadata.source, metadata.destination) == ("network-element", "198.51.100.13", None)


def test_a_metadata_that_lacks_something_is_refused_before_it_is_sent(archive: Any) -> None:
    post = MetadataPost(archive.url, **AUTH, **{**ARGS, "destination": None, "tool_name": None})
    with pytest.raises(MetadataPostException, match=r"^a metadata needs tool_name, destination$"):
        post.post_metadata()
    assert not archive.requests


@pytest.mark.parametrize("key", ["metadata-key", "uri", "url", "time-updated"])
def test_what_archives_make_up_cannot_be_posted(archive: Any, key: str) -> None:
    with pytest.raises(MetadataPostException, match=f"^{key} is set by the archive"):
        MetadataPost(archive.url, **AUTH, **ARGS).add_freeform_key_value(key, "x")


def test_a_metadata_that_the_archive_refuses_raises_its_reason_and_the_url(archive: Any) -> None:
    post = MetadataPost(archive.url, **AUTH, **ARGS)
    post.add_event_type("nonsense")
    with pytest.raises(MetadataPostException, match="Invalid event-type nonsense") as raised:
        post.post_metadata()
    assert archive.archive_url in str(raised.value)
    assert raised.value.value == str(raised.value)
    assert isinstance(raised.value, EsmondEtlError)
    assert isinstance(raised.value.__cause__, ArchiveError)


def test_without_the_right_key_nothing_is_posted_and_the_key_is_not_told(archive: Any) -> None:
    post = MetadataPost(archive.url, username="pS_user", api_key="wrong-key", **ARGS)
    with pytest.raises(MetadataPostException, match="status 401") as raised:
        post.post_metadata()
    assert "wrong-key" not in str(raised.value)


def test_what_would_be_lost_from_a_metadata_gives_a_warning(archive: Any) -> None:
    post = MetadataPost(archive.url, **AUTH, **ARGS)
    post.add_event_type("throughput")
    with pytest.warns(MetadataPostWarning, match="throughput is there already"):
        post.add_event_type("throughput")
    with pytest.warns(MetadataPostWarning, match="no windows"):
        post.add_summary_type("throughput", "average")
    post.add_freeform_key_value("ip-tos", 32)
    with pytest.warns(MetadataPostWarning, match="ip-tos is set already"):
        post.add_freeform_key_value("ip-tos", 0)
    with pytest.raises(MetadataPostException, match="whole seconds"):
        post.add_summary_type("throughput", "average", ["a day"])
    assert '"event-types": [{"event-type": "throughput", "summaries": []}]' in post.json_payload()
    assert '"ip-tos": 32' in post.json_payload()
    assert "\n    " in post.json_payload(pp=True)


def test_datapoints_of_one_event_type_are_posted_and_read_back(posted: Metadata, archive: Any) -> None:
    post = EventTypePost(archive.url, **AUTH, metadata_key=posted.metadata_key, event_type="throughput")
    post.add_data_point(TS, 23)
    post.add_data_point(TS + 60, 55)
    assert post.json_payload() == f'[{{"ts": {TS}, "val": 23}}, {{"ts": {TS + 60}, "val": 55}}]'
    assert post.post_data() is None  # type: ignore[func-returns-value]
    assert points(posted, "throughput") == [(TS, 23.0), (TS + 60, 55.0)]


def test_a_histogram_may_have_numbers_for_buckets(posted: Metadata, archive: Any) -> None:
    post = EventTypePost(archive.url, **AUTH, metadata_key=posted.metadata_key, event_type="histogram-ttl")
    post.add_data_point(TS, {28: 33})
    post.add_data_point(TS + 60, {9: 12})
    post.post_data()
    found = posted.get_event_type("histogram-ttl")
    assert found
    assert list(found.get_data()) == [
        DataHistogram({"ts": TS, "val": {"28": 33}}),
        DataHistogram({"ts": TS + 60, "val": {"9": 12}}),
    ]


def test_several_event_types_are_posted_together(posted: Metadata, archive: Any) -> None:
    post = EventTypeBulkPost(archive.url, **AUTH, metadata_key=posted.metadata_key)
    post.add_data_point("time-error-estimates", TS, 23)
    post.add_data_point("packet-loss-rate", TS, {"numerator": 11, "denominator": 33})
    post.add_data_point("failures", TS, None)
    post.post_data()
    assert points(posted, "time-error-estimates") == [(TS, 23.0)]
    assert points(posted, "packet-loss-rate") == [(TS, 11 / 33)]
    assert points(posted, "failures") == [(TS, None)]
    assert archive.requests["PUT"] == 1


def test_many_datapoints_go_in_requests_of_at_most_1000_timestamps(posted: Metadata, archive: Any) -> None:
    post = EventTypeBulkPost(archive.url, **AUTH, metadata_key=posted.metadata_key)
    for number in reversed(range(2001)):
        post.add_data_point("throughput", TS + number, number)
        post.add_data_point("packet-count-sent", TS + number, number)
    post.post_data()
    assert archive.requests["PUT"] == 3
    assert points(posted, "throughput") == points(posted, "packet-count-sent") == [(TS + n, float(n)) for n in range(2001)]


def test_one_event_type_twice_at_one_ts_is_refused_before_anything_is_sent(posted: Metadata, archive: Any) -> None:
    post = EventTypeBulkPost(archive.url, **AUTH, metadata_key=posted.metadata_key)
    post.add_data_point("packet-count-sent", TS, 600)
    with pytest.raises(EventTypeBulkPostException, match=f"packet-count-sent at {TS} was added already"):
        post.add_data_point("packet-count-sent", datetime.fromtimestamp(TS, UTC), 600)
    post.post_data()
    assert points(posted, "packet-count-sent") == [(TS, 600.0)]


def test_what_was_posted_is_not_sent_again(posted: Metadata, archive: Any) -> None:
    post = EventTypePost(archive.url, **AUTH, metadata_key=posted.metadata_key, event_type="histogram-ttl")
    post.add_data_point(TS, {"28": 33})
    post.post_data()
    post.post_data()
    with pytest.raises(EventTypePostException, match="was added already"):
        post.add_data_point(TS, {"28": 33})
    post.add_data_point(TS + 1, {"28": 1})
    post.post_data()
    found = posted.get_event_type("histogram-ttl")
    summary = found.get_summary("aggregation", 86400) if found else None
    assert summary
    assert [point.val for point in summary.get_data()] == [{"28": 34}]


def test_ts_takes_integers_and_datetimes_with_a_time_zone(posted: Metadata, archive: Any) -> None:
    post = EventTypePost(archive.url, **AUTH, metadata_key=posted.metadata_key, event_type="throughput")
    post.add_data_point(datetime(2014, 4, 9, 20, 24, 13, 999999, tzinfo=UTC), 1)
    post.add_data_point(datetime(2014, 4, 9, 22, 25, 13, tzinfo=timezone(timedelta(hours=2))), 2)
    post.post_data()
    assert points(posted, "throughput") == [(TS, 1.0), (TS + 60, 2.0)]


@pytest.mark.parametrize("ts", [1397075053.0, "1397075053", True, None, datetime(2014, 4, 9)])
def test_any_other_ts_is_refused(posted: Metadata, archive: Any, ts: Any) -> None:
    post = EventTypePost(archive.url, **AUTH, metadata_key=posted.metadata_key, event_type="throughput")
    with pytest.raises(EventTypePostException, match=r"^ts "):
        post.add_data_point(ts, 1)


@pytest.mark.parametrize("val", [None, float("nan"), float("inf"), object(), {1, 2}])
def test_a_value_that_would_be_lost_or_altered_is_refused(posted: Metadata, archive: Any, val: Any) -> None:
    post = EventTypePost(archive.url, **AUTH, metadata_key=posted.metadata_key, event_type="throughput")
    with pytest.raises(EventTypePostException, match=f"^throughput at {TS}: "):
        post.add_data_point(TS, val)


def test_an_event_type_that_the_metadata_lacks_is_refused_where_the_archive_would_take_and_drop_it(
    posted: Metadata, archive: Any
) -> None:
    post = EventTypeBulkPost(archive.url, **AUTH, metadata_key=posted.metadata_key)
    post.add_data_point("throughput", TS, 1)
    post.add_data_point("packet-retransmits", TS, 1)
    with pytest.raises(EventTypeBulkPostException, match="does not have the event types packet-retransmits; it has"):
        post.post_data()
    assert archive.requests["PUT"] == 0


def test_a_key_that_the_archive_lacks_is_refused_where_it_would_take_and_drop_all(archive: Any) -> None:
    post = EventTypeBulkPost(archive.url, **AUTH, metadata_key="0000deadbeef")
    post.add_data_point("throughput", TS, 1)
    with pytest.raises(EventTypeBulkPostException, match=r"^there is no metadata 0000deadbeef: GET http.* Not found"):
        post.post_data()
    assert archive.requests["PUT"] == 0


def test_a_conflict_says_what_had_been_taken_and_the_rest_can_be_posted(posted: Metadata, archive: Any) -> None:
    before = EventTypePost(archive.url, **AUTH, metadata_key=posted.metadata_key, event_type="throughput")
    before.add_data_point(TS + 1500, 7)
    before.post_data()
    post = EventTypePost(archive.url, **AUTH, metadata_key=posted.metadata_key, event_type="throughput")
    for number in range(2000):
        post.add_data_point(TS + number, number)
    with pytest.raises(
        EventTypePostException, match=r"status 409: .*1000 datapoints were taken before; of these 1000 perhaps some"
    ):
        post.post_data()
    assert post.json_payload().startswith(f'[{{"ts": {TS + 1000}, "val": 1000}}')


def test_a_refusal_says_that_none_was_taken(posted: Metadata, archive: Any) -> None:
    post = EventTypePost(archive.url, metadata_key=posted.metadata_key, event_type="throughput")
    post.add_data_point(TS, 1)
    with pytest.raises(EventTypePostException, match=r"status 401: .*0 datapoints were taken before; of these 1 none"):
        post.post_data()


def test_an_archive_that_is_not_there_raises_the_url() -> None:
    post = MetadataPost("http://127.0.0.1:1/", **AUTH, **ARGS)
    with pytest.raises(MetadataPostException, match=r"POST http://127.0.0.1:1/esmond/perfsonar/archive/: .*refused"):
        post.post_metadata()


def test_a_post_without_a_key_or_an_event_type_is_refused(archive: Any) -> None:
    with pytest.raises(EventTypePostException, match="must be set"):
        EventTypePost(archive.url, metadata_key="x")
    with pytest.raises(EventTypePostException, match="must be set"):
        EventTypePost(archive.url, event_type="throughput")
    with pytest.raises(EventTypeBulkPostException, match="must be set"):
        EventTypeBulkPost(archive.url)


def test_posting_nothing_sends_nothing(posted: Metadata, archive: Any) -> None:
    asked = archive.requests.total()
    EventTypeBulkPost(archive.url, **AUTH, metadata_key=posted.metadata_key).post_data()
    assert archive.requests.total() == asked


def test_nothing_of_all_this_gives_a_deprecation_warning(posted: Metadata, archive: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        point = DataPoint({"ts": TS, "val": 1})
        assert point.ts == datetime(2014, 4, 9, 20, 24, 13)
