"""The typed columns beside `val`: what they hold, what odd old data become there, and that their types never change."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars
import pyarrow.parquet as pq
import pytest
from esmond_etl_parquet.compact import compact
from esmond_etl_parquet.sink import ParquetSink
from esmond_etl_parquet.tree import Tree
from hypothesis import given
from hypothesis import strategies as st

from esmond_etl import Batch, Context, Interval, Series, Task
from esmond_etl.model.columns import json_column, ts_column
from esmond_etl.tables import typed
from esmond_etl.testing import DAY, START, deliver, points_of, series

ONE_DAY = Interval(START, START + DAY)

HOP = {
    "ttl": 1,
    "query": 1,
    "success": True,
    "ip": "192.0.2.1",
    "hostname": "r1.example.net",
    "rtt": 0.25,
    "mtu": 1500,
    "as": {"number": 293, "owner": "ESNET"},
    "error-message": None,
}
TYPED_HOP = {
    **{name: HOP[name] for name in ("ttl", "query", "success", "ip", "hostname", "rtt", "mtu")},
    "as_number": 293,
    "as_owner": "ESNET",
    "error_message": None,
}
NO_HOP = dict.fromkeys(TYPED_HOP)


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[ParquetSink]:
    sink = ParquetSink(path=str(path), **options)
    sink.open(Context())
    try:
        yield sink
    finally:
        sink.close()


def column(path: Path, name: str) -> list[Any]:
    """The values of a column in all files, by metadata key and time."""
    rows = (
        row for file in path.glob("**/*.parquet") for row in pq.ParquetFile(file).read(["metadata_key", "ts", name]).to_pylist()
    )
    return [row[name] for row in sorted(rows, key=itemgetter("metadata_key", "ts"))]


def deliver_texts(sink: ParquetSink, of: Series, *texts: str) -> Any:
    from array import array

    load = sink.begin(Task((of,), ONE_DAY, DAY))
    load.write(
        Batch.of(of, ts_column(array("q", range(START, START + len(texts)))), json_column([text.encode() for text in texts]))
    )
    load.end(of)
    return load.commit()


def test_traces_and_subintervals_have_typed_lists_and_keep_their_text(tmp_path: Path) -> None:
    part = {"start": 0, "duration": 1.5, "val": 9.5e9}
    unknown = dict.fromkeys(["as_number", "as_owner", "mtu"])
    values: dict[str, tuple[str, Any, Any]] = {
        "packet-trace": ("hops", [HOP, {**HOP, "as": None, "mtu": None}], [TYPED_HOP, TYPED_HOP | unknown]),
        "packet-trace-multi": ("traces", [[HOP], []], [[TYPED_HOP], []]),
        "throughput-subintervals": ("intervals", [part], [part]),
        "packet-rtt-subintervals": ("intervals", [], []),
        "streams-throughput-subintervals": ("streams", [[part], []], [[part], []]),
    }  # fmt: skip
    for name, (beside, value, expected) in values.items():
        text = json.dumps(value, indent=None, separators=(" , ", " : "))
        with opened(tmp_path / name) as sink:
            assert deliver_texts(sink, series(name), text).written == 1
        assert (column(tmp_path / name, beside), column(tmp_path / name, "val")) == ([expected], [text])


ODD = [
    ('[{"ttl": "1", "query": "1", "success": "1", "ip": "192.0.2.1", "rtt": "0.25", "mtu": "1500", "error_message": "!H"}]',
     [{**NO_HOP, "ttl": 1, "query": 1, "success": True, "ip": "192.0.2.1", "rtt": 0.25, "mtu": 1500, "error_message": "!H"}]),
    ('[{"ttl": 1.0, "success": 0, "rtt": "*", "mtu": "", "as": {"number": "AS293", "owner": 5}}]',
     [{**NO_HOP, "ttl": 1, "success": False, "as_owner": "5"}]),
    ('[null, {"ttl": 1}, "lost", [2]]', [None, {**NO_HOP, "ttl": 1}, None, None]),
    ('[{"ttl": 99999999999999999999, "rtt": 1e999, "success": "yes", "query": 1.5}]', [NO_HOP]),
    ('[\n{"ttl":\n2}]', [{**NO_HOP, "ttl": 2}]),
    ('[{"ttl": 1, "ttl": 2, "error-message": "a", "error_message": "b"}]', [{**NO_HOP, "ttl": 2, "error_message": "a"}]),
    ("null", None),
    ('{"error": "no trace"}', None),
    ('"no trace"', None),
    ("[]", []),
]  # fmt: skip


def test_odd_old_data_is_converted_or_null_and_its_text_is_kept(tmp_path: Path) -> None:
    of = series("packet-trace")
    with opened(tmp_path) as sink:
        receipt = deliver_texts(sink, of, *(text for text, _ in ODD))
        assert (receipt.written, list(receipt.rejected)) == (len(ODD), [])
    assert column(tmp_path, "hops") == [hops for _, hops in ODD]
    assert column(tmp_path, "val") == [text for text, _ in ODD]


def test_one_odd_value_changes_nothing_for_the_others() -> None:
    good = json.dumps([HOP, HOP])
    alone = typed.lists("hops", json_column([good.encode()]))
    among = typed.lists("hops", json_column([good.encode(), b'[{"ttl": "x"}]', good.encode()]))
    assert [each.as_py() for each in among] == [alone[0].as_py(), [NO_HOP], alone[0].as_py()]
    among.validate(full=True)


def test_texts_for_numbers_in_subintervals_become_numbers(tmp_path: Path) -> None:
    of = series("throughput-subintervals")
    with opened(tmp_path) as sink:
        deliver_texts(sink, of, '[{"start": "0.0", "duration": "1", "val": "9.5e9"}, {"start": 1, "val": "nan"}]')
    assert column(tmp_path, "intervals") == [
        [{"start": 0.0, "duration": 1.0, "val": 9.5e9}, {"start": 1.0, "duration": None, "val": None}]
    ]


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*HOP, "x"]), inner))


@pytest.mark.slow
@given(st.lists(values), st.sampled_from(sorted(typed.LISTS)))
def test_whatever_json_there_is_becomes_a_column_of_the_type(given: list[Any], kind: typed.Typed) -> None:
    found = typed.lists(kind, json_column([json.dumps(each, ensure_ascii=False).encode("utf-8", "replace") for each in given]))
    found.validate(full=True)
    assert (found.type, len(found)) == (typed.TYPES[kind], len(given))


@pytest.mark.slow
@given(
    st.lists(st.lists(st.fixed_dictionaries({"ttl": st.integers(0, 255), "rtt": st.floats(0, 1e6), "ip": st.text()})), max_size=4)
)
def test_well_formed_traces_are_read_exactly(traces: list[Any]) -> None:
    texts = [msgspec.json.encode(each) for each in traces]
    assert typed.lists("hops", json_column(texts)).to_pylist() == [[{**NO_HOP, **hop} for hop in each] for each in traces]


def owdelay(key: str, width: Any = None, tool: str = "pscheduler/powstream") -> Series:
    extra = {} if width is None else {"sample-bucket-width": width}
    of = series("histogram-owdelay", key=key, **extra)
    return of.replace(metadata=replace(of.metadata, tool_name=tool))


def test_delays_are_in_true_milliseconds(tmp_path: Path) -> None:
    given = {
        owdelay("k1"): [(START, {"38.5": 2, "-1e-1": 1})],
        owdelay("k2", "0.0001"): [(START, {"385": 2}), (START + 1, {}), (START + 2, {"10": 1, "20": 2**40})],
        owdelay("k3", "0.0001", tool="bwctl/owamp"): [(START, {"385": 2})],
        owdelay("k4", "wide"): [(START, {"385": 2})],
        owdelay("k5", 0.0005): [(START, {"late": 3, "2": 1})],
        series("histogram-rtt", key="k6"): [(START, {"1.25": 7})],
        series("histogram-ttl", key="k7"): [(START, {"64": 7})],
    }
    with opened(tmp_path, histograms="delays") as sink:
        assert deliver(sink, given, ONE_DAY).written == 9
        assert {each: points_of(sink.read(each, ONE_DAY)) for each in given} == given
    found = [
        None if delays is None else [(each["bucket_ms"], each["count"]) for each in delays]
        for delays in column(tmp_path / "event_type=histogram-owdelay", "delays")
    ]
    expected: list[Any] = [
        [(38.5, 2), (-0.1, 1)],
        [(38.5, 2)],
        [],
        [(1.0, 1), (2.0, 2**40)],
        [(385.0, 2)],
        None,
        [(None, 3), (1.0, 1)],
    ]
    assert [round_(each) for each in found] == expected
    assert column(tmp_path / "event_type=histogram-rtt", "delays") == [[{"bucket_ms": 1.25, "count": 7}]]
    (ttl,) = tmp_path.glob("event_type=histogram-ttl/**/*.parquet")
    assert "delays" not in pq.ParquetFile(ttl).schema_arrow.names


def round_(delays: Any) -> Any:
    return delays and [(bucket and round(bucket, 12), count) for bucket, count in delays]


def test_the_types_do_not_depend_on_what_came_first(tmp_path: Path) -> None:
    of = series("packet-trace")
    for name, texts in {"good": [json.dumps([HOP])], "odd": ['[{"ttl": "1"}]'], "none": ["null"], "empty": ["[]"]}.items():
        with opened(tmp_path / name) as sink:
            deliver_texts(sink, of, *texts)
    schemas = [pq.ParquetFile(file).schema_arrow for file in tmp_path.glob("**/*.parquet")]
    assert len(schemas) == 4
    assert all(each.equals(schemas[0]) for each in schemas)


@pytest.mark.parametrize("first", [True, False])
def test_a_folder_keeps_the_columns_that_it_began_with(tmp_path: Path, first: bool) -> None:
    of = series("packet-trace")
    for day, lists in enumerate((first, not first)):
        start = START + day * DAY
        with opened(tmp_path, lists=lists) as sink:
            deliver(sink, {of: [(start, [HOP])]}, Interval(start, start + DAY))
    names = [pq.ParquetFile(file).schema_arrow.names for file in tmp_path.glob("event_type=*/**/*.parquet")]
    assert [("hops" in each) for each in names] == [first, first]


@pytest.mark.parametrize("kinds", [("map", "delays"), ("delays", "map")])
def test_a_folder_of_histograms_has_delays_as_it_began(tmp_path: Path, kinds: tuple[str, str]) -> None:
    for day, kind in enumerate(kinds):
        start = START + day * DAY
        with opened(tmp_path, histograms=kind) as sink:
            deliver(sink, {owdelay("k1"): [(start, {"1": 1})]}, Interval(start, start + DAY))
    names = [pq.ParquetFile(file).schema_arrow.names for file in tmp_path.glob("event_type=*/**/*.parquet")]
    assert ["delays" in each for each in names] == [kinds[0] == "delays"] * 2


def test_typed_columns_survive_that_rows_are_taken_out_and_merged(tmp_path: Path) -> None:
    keys = ("k1", "k2", "k3")
    with opened(tmp_path, histograms="delays") as sink:
        for hour in range(4):
            start = START + hour * 3600
            given: dict[Series, Any] = {owdelay(key, "0.0001"): [(start, {"10": hour + 1})] for key in keys}
            given |= {series("packet-trace", key=key): [(start, [HOP])] for key in keys}
            deliver(sink, given, Interval(start, start + 3600), 3600)
        again: dict[Series, Any] = {owdelay("k1", "0.0001"): [(START, {"10": 99})], series("packet-trace", key="k1"): [(START, [])]}
        deliver(sink, again, Interval(START, START + 3600), 3600)
    tree = Tree(str(tmp_path))
    tree.open()
    assert len(list(compact(tree))) == 2
    tree.close()
    counts = [each[0]["count"] for each in column(tmp_path / "event_type=histogram-owdelay", "delays")]
    assert counts == [99, 2, 3, 4, *(1, 2, 3, 4) * 2]
    assert column(tmp_path / "event_type=packet-trace", "hops") == [[], *([TYPED_HOP],) * 11]


def test_duckdb_and_polars_read_them(tmp_path: Path) -> None:
    with opened(tmp_path, histograms="delays") as sink:
        deliver(sink, {owdelay("k1"): [(START, {"38.5": 2, "40": 1})], series("packet-trace"): [(START, [HOP])]}, ONE_DAY)
    pattern = f"{tmp_path}/event_type={{}}/**/*.parquet"
    owd, trace = pattern.format("histogram-owdelay"), pattern.format("packet-trace")
    rows = duckdb.sql(
        f"select d.bucket_ms, d.count from (select unnest(delays) d from read_parquet('{owd}')) order by 1"
    ).fetchall()
    assert rows == [(38.5, 2), (40.0, 1)]
    assert duckdb.sql(f"select hop.ip from (select unnest(hops) hop from read_parquet('{trace}'))").fetchall() == [("192.0.2.1",)]
    frame = polars.scan_parquet(owd).explode("delays").unnest("delays").select("bucket_ms", "count").collect()
    assert frame.rows() == [(38.5, 2), (40.0, 1)]
    assert polars.scan_parquet(trace).explode("hops").unnest("hops").select("rtt").collect().rows() == [(0.25,)]


def test_a_width_that_nobody_knows_is_not_a_number() -> None:
    assert math.isnan(typed.width(owdelay("k1", "wide").metadata, "histogram-owdelay"))
