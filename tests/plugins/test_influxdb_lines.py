"""Line protocol, held against a parser that is not ours."""

from __future__ import annotations

import math
from array import array
from typing import Any

import pyarrow as pa
import pytest
from esmond_etl_influxdb import fields, lines
from esmond_etl_influxdb.fields import Points
from hypothesis import example, given
from hypothesis import strategies as st
from line_protocol_parser import parse_line

from esmond_etl import BASE, Batch, Metadata, Series, Summary
from esmond_etl.model.columns import number_column, text_column

METADATA = Metadata(
    "0123456789abcdef",
    source="198.51.100.1",
    destination="2001:db8::2",
    measurement_agent="198.51.100.1",
    tool_name="pscheduler/iperf3",
    input_source="ps1.example.net",
    input_destination="a b,c=d",
    parameters={"ip-transport-protocol": "tcp", "sample-size": 600, "links": [1, "x"], "empty": "", "none": None},
)
HEAD = (
    "destination=2001:db8::2,input_destination=a\\ b\\,c\\=d,input_source=ps1.example.net,"
    "measurement_agent=198.51.100.1,metadata_key=0123456789abcdef,source=198.51.100.1"
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NAMES = TEXTS.filter(lambda text: text.strip() and not text.startswith("#"))
NASTY = "a\\,b\\ =c\"'é\\\\,\n\t\r#\U0001f600\\"


def block(batch: Batch, prefix: str = "", parameters: list[str] | None = None) -> str:
    series = batch.series
    head = lines.head(lines.measurement(series, prefix), lines.tags(series, parameters or []))
    return bytes(lines.block(lines.encode(head, fields.points(batch)))).decode()


def kept(text: str) -> str:
    """What line protocol keeps of the name of a measurement, or of a tag."""
    for special in (",", "=", " "):
        text = text.replace(f"\\{special}", f"/{special}")
    text = text[:-1] + "/" if text.endswith("\\") else text
    return text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def test_a_batch_of_numbers_is_one_block_of_lines() -> None:
    batch = Batch.from_points(Series(METADATA, "packet-loss-rate"), [(1397075053, 0.0), (1397075113, 1 / 3), (1397075173, 2e300)])
    head = f"perf_packet_loss_rate,{HEAD},tool_name=pscheduler/iperf3 value="
    assert block(batch, "perf_") == (f"{head}0 1397075053\n{head}0.3333333333333333 1397075113\n{head}2e+300 1397075173\n")


def test_summaries_carry_their_type_and_window_and_parameters_are_added_by_name() -> None:
    batch = Batch.from_points(Series(METADATA, "throughput", Summary("average", 86400)), [(1397088000, 9.5)])
    parameters = ["ip-transport-protocol", "sample-size", "links", "empty", "none", "absent"]
    parsed = parse_line(block(batch, parameters=parameters).rstrip("\n"))
    assert parsed == {
        "measurement": "throughput",
        "tags": {
            "destination": "2001:db8::2",
            "input_destination": "a b,c=d",
            "input_source": "ps1.example.net",
            "ip_transport_protocol": "tcp",
            "links": '[1,"x"]',
            "measurement_agent": "198.51.100.1",
            "metadata_key": "0123456789abcdef",
            "sample_size": "600",
            "source": "198.51.100.1",
            "summary_type": "average",
            "summary_window": "86400",
            "tool_name": "pscheduler/iperf3",
        },
        "fields": {"value": 9.5},
        "time": 1397088000,
    }


def test_the_archive_is_a_tag_if_it_has_a_name() -> None:
    for parameters, expected in (({"archive": "north"}, "north"), ({}, None)):
        assert lines.tags(Series(Metadata("k", parameters=parameters), "throughput")).get("archive") == expected


def test_a_network_element_has_no_tags_for_what_it_has_not() -> None:
    series = Series(Metadata("k", "network-element", source="198.51.100.1"), "path-mtu")
    assert block(Batch.from_points(series, [(1, 1500)])) == "path_mtu,metadata_key=k,source=198.51.100.1 value=1500 1\n"


@given(measurement=NAMES, tags=st.dictionaries(NAMES, TEXTS.filter(bool), max_size=3), text=TEXTS)
@example(measurement=NASTY, tags={NASTY: NASTY, "t": "x\\"}, text=NASTY)
@example(measurement="m\\", tags={"a\\=b": "c\\ d", "e\\\\f": "\\\\"}, text="\\")
@example(measurement="\\\n", tags={"\\\n": "\\\n"}, text="\\\n")
def test_every_measurement_tag_and_text_is_read_back_by_another_parser(measurement: str, tags: dict[str, str], text: str) -> None:
    points = Points(seconds([1397075053]), {"error": text_column([text])})
    line = bytes(lines.block(lines.encode(lines.head(measurement, tags), points))).decode()
    assert line.endswith(" 1397075053\n")
    assert parse_line(line[:-1]) == {
        "measurement": kept(measurement),
        "tags": {kept(name): kept(value) for name, value in tags.items()},
        "fields": {"error": text},
        "time": 1397075053,
    }


# that parser takes no subnormal numbers; InfluxDB does
FLOATS = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)


@given(st.lists(st.tuples(st.integers(-(2**33), 2**33), FLOATS), min_size=1))
def test_every_number_and_moment_is_read_back_by_another_parser(points: list[tuple[int, float]]) -> None:
    batch = Batch.from_points(Series(Metadata("k"), "ntp-offset"), points)
    parsed = [parse_line(line) for line in block(batch).splitlines()]
    assert [(each["time"], each["fields"]) for each in parsed] == [(ts, {"value": val}) for ts, val in points]


def test_fields_that_a_point_does_not_have_are_left_out_of_its_line() -> None:
    columns = {
        "rtt": pa.array([1.5, None, 2.5]),
        "reached": pa.array([True, False, None]),
        "path": pa.array(["ab", "", None]),
    }
    text = bytes(lines.block(lines.encode("m", Points(seconds([1, 2, 3]), columns)))).decode()
    assert text == 'm rtt=1.5,reached=true,path="ab" 1\nm reached=false,path="" 2\nm rtt=2.5 3\n'


def test_any_cut_of_the_lines_is_a_block_of_whole_lines() -> None:
    batch = Batch.from_points(Series(Metadata("k"), "throughput"), [(ts, ts) for ts in range(100)])
    text = lines.encode("m", fields.points(batch))
    assert b"".join(lines.block(text.slice(start, 7)) for start in range(0, 100, 7)) == bytes(lines.block(text))
    assert bytes(lines.block(text.slice(98))) == b"m value=98 98\nm value=99 99\n"
    assert bytes(lines.block(text.slice(100))) == b""


def test_text_of_several_lines_can_be_put_on_one() -> None:
    points = Points(seconds([1, 2]), {"error": text_column(["a\nb\n", "c"])})
    assert bytes(lines.block(lines.on_one_line(lines.encode("m", points)))) == b'm error="a b " 1\nm error="c" 2\n'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_no_number_is_refused_and_the_rest_is_kept(value: Any) -> None:
    series = Series(Metadata("k"), "throughput")
    batch = Batch.of(series, Batch.from_points(series, [(1, 0), (2, 0), (3, 0)]).ts, pa.array([1.0, value, 3.0], pa.float64()))
    points = fields.points(batch)
    assert points.seconds.to_pylist() == [1, 3]
    assert points.columns["value"].to_pylist() == [1.0, 3.0]
    assert points.row is not None
    assert points.row.to_pylist() == [0, 2]
    assert points.refused == {1: "there is no value" if value is None else f"{value} is not a number that InfluxDB can store"}


def seconds(moments: list[int]) -> pa.Array:
    return pa.array(moments, pa.int64())


def test_base_series_have_no_summary_tags() -> None:
    assert Series(METADATA, "throughput").summary == BASE
    assert not {"summary_type", "summary_window"} & lines.tags(Series(METADATA, "throughput")).keys()


def test_numbers_in_any_arrow_type_become_the_same_lines() -> None:
    series = Series(Metadata("k"), "throughput")
    ts = Batch.from_points(series, [(1, 0), (2, 0)]).ts
    floats = Batch.of(series, ts, number_column(array("d", [1.0, 0.0])))
    for val in (
        pa.array([1, 0], pa.int64()),
        pa.array([1, 0], pa.uint8()),
        pa.array([True, False]),
        pa.array([1, 0], pa.float32()),
    ):
        assert block(Batch.of(series, ts, val)) == block(floats)
