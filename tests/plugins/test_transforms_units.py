"""`convert`: numbers in another unit."""

from typing import Any, get_args

import pytest
from esmond_etl_transforms.convert import Convert
from esmond_etl_transforms.histogram_stats import HistogramStats
from esmond_etl_transforms.units import KINDS, Unit, factor
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from esmond_etl import EVENT_TYPES, Batch, ConfigError, Metadata, Series

METADATA = Metadata("k")
UNITS = st.sampled_from(get_args(Unit))


def converted(name: str, value: Any, **options: Any) -> list[Any]:
    batches = Convert.model_validate(options).apply([Batch.from_points(Series(METADATA, name), [(1, value)])])
    return [val for batch in batches for val in batch.values()]


@pytest.mark.parametrize(
    ("name", "value", "to", "expected"),
    [
        ("throughput", 7283024174, "Gbit/s", 7.283024174),
        ("throughput", 8e6, "MB/s", 1.0),
        ("packet-rtt", 1500, "ms", 1.5),
        ("ntp-polling-interval", 64, "min", 64 / 60),
        ("ntp-offset", 0.3, "us", 300.0),
        ("tcp-windowsize", 4096, "KiB", 4.0),
        ("packet-loss-rate", 0.07, "percent", 7.000000000000001),
        ("ntp-wander", 20, "ratio", 2e-5),
        ("throughput", 5, "bit/s", 5.0),
    ],
)
def test_the_unit_that_numbers_have_is_that_of_the_event_type(name: str, value: float, to: str, expected: float) -> None:
    assert converted(name, value, to=to) == converted(name, value, to=to, event_types=[name]) == [expected]


def test_the_unit_can_be_given_where_it_is_another_or_not_known() -> None:
    assert converted("throughput", 5, to="Mbit/s", **{"from": "Gbit/s"}) == [5000.0]
    median = HistogramStats(statistic="median").apply([Batch.from_points(Series(METADATA, "histogram-rtt"), [(1, {"1500": 2})])])
    seconds = Convert.model_validate({"from": "ms", "to": "s", "event_types": ["histogram-rtt"]}).apply(median)
    assert [batch.values() for batch in seconds] == [[1.5]]


@given(UNITS, UNITS, st.floats(1e-6, 1e6))
def test_units_of_one_kind_convert_there_and_back_and_others_never(unit: str, to: str, value: float) -> None:
    kinds = [any(unit in sizes and to in sizes for sizes in KINDS), factor(unit, to) is not None, factor(to, unit) is not None]
    assert kinds in ([True] * 3, [False] * 3)
    if kinds[0]:
        there = converted("throughput", value, to=to, **{"from": unit})
        assert converted("throughput", there[0], to=unit, **{"from": to}) == [pytest.approx(value, rel=1e-12)]


def test_every_unit_is_of_one_kind_and_the_units_of_event_types_are_among_them() -> None:
    sizes = [unit for kind in KINDS for unit in kind]
    assert sorted(sizes) == sorted(get_args(Unit))
    assert {each.unit for each in EVENT_TYPES.values() if each.is_number} <= {*sizes, ""}


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ({"event_types": ["throughput"], "to": "ms"}, "throughput is in bit/s, which cannot be converted to ms"),
        ({"event_types": ["packet-rtt"], "to": "s", "from": "hops"}, "packet-rtt is in hops, which cannot be converted to s"),
        ({"event_types": ["ntp-stratum"], "to": "s"}, "the unit of ntp-stratum is not known: give it with `from`"),
        ({"event_types": ["histogram-rtt"], "to": "s"}, "the unit of histogram-rtt is not known: give it with `from`"),
    ],
)
def test_nonsense_is_refused_when_the_pipeline_is_read(options: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Convert.model_validate(options)
    assert [error["msg"] for error in caught.value.errors()] == [f"Value error, {mistake}"]


def test_nonsense_that_only_the_data_shows_is_an_error_that_names_the_series() -> None:
    with pytest.raises(ConfigError) as caught:
        converted("packet-count-sent", 600, to="Gbit/s")
    assert str(caught.value) == (
        "k/packet-count-sent/base: packet-count-sent is in packets, which cannot be converted to Gbit/s; "
        "name the event_types that this transform is for"
    )


def test_what_is_no_number_passes_as_it_is() -> None:
    assert converted("failures", {"error": "a"}, to="Gbit/s") == [{"error": "a"}]
