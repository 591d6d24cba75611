"""The criteria of a query, as programs set them."""

import copy
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from esmond_etl import ConfigError, Interval
from esmond_etl.client.filters import FOREVER, SLACK
from esmond_etl.client.query import ApiFilters

NAMED = (
    "destination",
    "event_type",
    "input_destination",
    "input_source",
    "ip_transport_protocol",
    "measurement_agent",
    "metadata_key",
    "source",
    "subject_type",
    "summary_type",
    "summary_window",
    "tool_name",
)


@pytest.mark.parametrize("name", NAMED)
def test_a_criterion_is_read_set_and_deleted_and_goes_into_the_query_with_dashes(name: str) -> None:
    filters = ApiFilters()
    assert getattr(filters, name) is None
    setattr(filters, name, "x")
    assert getattr(filters, name) == "x"
    assert filters.listing() == {name.replace("_", "-"): "x"}
    delattr(filters, name)
    assert filters.listing() == {}


def test_any_other_attribute_is_a_free_form_parameter() -> None:
    filters = ApiFilters()
    assert filters.bw_parallel_streams is None
    filters.bw_parallel_streams = 4
    filters.metadata_filters["ip-tos"] = "32"
    assert (filters.bw_parallel_streams, filters.ip_tos) == (4, "32")
    assert filters.listing() == {"bw-parallel-streams": 4, "ip-tos": "32"}


def test_what_is_no_criterion_does_not_go_into_the_query() -> None:
    filters = ApiFilters()
    assert (filters.verbose, filters.ssl_verify, filters.timeout) == (False, True, None)
    filters.verbose, filters.ssl_verify, filters.timeout = True, False, 5
    filters.auth_username, filters.auth_apikey = "u", "k"
    assert filters.listing() == {}


@pytest.mark.parametrize(
    "value",
    [
        1397075053,
        1397075053.9,
        "1397075053",
        "1397075053.9",
        datetime(2014, 4, 9, 20, 24, 13, 500000),
        datetime(2014, 4, 9, 22, 24, 13, tzinfo=timezone(timedelta(hours=2))),
        "2014-04-09T20:24:13Z",
    ],
)
def test_a_moment_may_be_written_in_many_ways_and_is_read_in_whole_seconds(value: Any) -> None:
    filters = ApiFilters()
    filters.time_start = value
    assert filters.time_start == 1397075053
    assert filters.time_filters == {"time-start": 1397075053}


@pytest.mark.parametrize("value", ["yesterday-ish", float("nan"), float("inf"), True, object(), [1]])
def test_what_is_no_moment_is_refused_at_once_and_the_criterion_named(value: Any) -> None:
    filters = ApiFilters()
    with pytest.raises(ConfigError, match=r"^time_end: "):
        filters.time_end = value
    assert filters.time_end is None


def test_none_takes_a_moment_away() -> None:
    filters = ApiFilters()
    filters.time_start = 5
    filters.time_start = None
    assert filters.time_filters == {}


@pytest.mark.parametrize(
    ("times", "interval"),
    [
        ({}, Interval(0, FOREVER)),
        ({"time_start": 100}, Interval(100, FOREVER)),
        ({"time_end": 100}, Interval(0, 101)),
        ({"time_start": 100, "time_end": 200}, Interval(100, 201)),
        ({"time_start": 100, "time_end": 100}, Interval(100, 101)),
        ({"time_start": 100, "time_range": 60}, Interval(100, 161)),
        ({"time_end": 100, "time_range": 60}, Interval(40, 101)),
        ({"time_start": 100, "time_range": "1h"}, Interval(100, 3701)),
        ({"time": 100}, Interval(100, 101)),
    ],
)
def test_the_time_criteria_mean_what_they_mean_to_an_archive(times: dict[str, Any], interval: Interval) -> None:
    filters = ApiFilters()
    for name, value in times.items():
        setattr(filters, name, value)
    assert filters.interval() == interval


def test_a_range_alone_counts_back_from_now() -> None:
    filters = ApiFilters()
    filters.time_range = 60
    before = int(time.time())
    start, end = filters.interval()
    assert end - start == 61
    assert before + 1 <= end <= time.time() + 1


def test_an_end_before_the_start_is_refused() -> None:
    filters = ApiFilters()
    filters.time_start, filters.time_end = 200, 100
    with pytest.raises(ConfigError, match=r"time_end .* lies before time_start"):
        filters.interval()


def test_a_list_is_asked_for_with_a_start_alone_and_with_slack_for_wrong_clocks() -> None:
    filters = ApiFilters()
    filters.time_start, filters.time_end = 1397075053, 1397075113
    assert filters.listing() == {"time-start": 1397075053 - SLACK}


def test_data_from_the_future_do_not_keep_a_list_from_what_has_been_written_already() -> None:
    filters = ApiFilters()
    filters.time_start = datetime.now(UTC) + timedelta(days=30)
    assert filters.listing()["time-start"] <= time.time() - SLACK


@pytest.mark.parametrize("name", ["failures", "packet-trace-multi"])
def test_an_archive_is_not_asked_to_filter_by_event_types_that_elmond_cannot_filter_by(name: str) -> None:
    filters = ApiFilters()
    filters.event_type = name
    assert filters.listing() == {}
    filters.event_type = "throughput"
    assert filters.listing() == {"event-type": "throughput"}


def test_filters_can_be_copied_and_changed_apart() -> None:
    filters = ApiFilters()
    filters.source, filters.ip_tos, filters.time_start = "a", 1, 100
    other = copy.deepcopy(filters)
    other.source, other.ip_tos, other.time_start = "b", 2, 200
    assert (filters.source, filters.ip_tos, filters.time_start) == ("a", 1, 100)
    assert repr(other) == "<ApiFilters: source=b, ip-tos=2, time-start=200>"
