"""What the Parquet sink keeps, what it refuses, and what it costs."""

import json
import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from esmond_etl_parquet.sink import ParquetSink
from esmond_etl_parquet.source import ParquetSource
from hypothesis import given
from hypothesis import strategies as st

from esmond_etl import JSON_TEXT, Batch, Context, Interval, Series, SinkError, SourceError, Task
from esmond_etl.model import buckets
from esmond_etl.model.columns import json_column, number_column, ts_column
from esmond_etl.tables.typed import TYPES
from esmond_etl.testing import DAY, START, deliver, points_of, series

ONE_DAY = Interval(START, START + DAY)


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[ParquetSink]:
    sink = ParquetSink(path=str(path), **options)
    sink.open(Context())
    try:
        yield sink
    finally:
        sink.close()


def commit(sink: ParquetSink, *batches: Batch, interval: Interval = ONE_DAY) -> Any:
    """What becomes of some batches in one task."""
    load = sink.begin(Task(tuple(dict.fromkeys(batch.series for batch in batches)), interval, DAY))
    try:
        for batch in batches:
            load.write(batch)
            load.end(batch.series)
        return load.commit()
    except SinkError:
        load.rollback()
        raise


def batch_of(of: Series, val: pa.Array) -> Batch:
    return Batch.of(of, ts_column(array("q", range(START, START + len(val)))), val)


def columns(path: Path) -> dict[str, list[str]]:
    """The event type of every file -> its columns with their types."""
    found = {}
    for file in path.glob("event_type=*/**/*.parquet"):
        schema = pq.ParquetFile(file).schema_arrow
        found[file.relative_to(path).parts[0]] = [f"{field.name}: {field.type}" for field in schema]
    return found


def test_numbers_are_doubles_histograms_maps_and_all_else_json_text(tmp_path: Path) -> None:
    names = {"throughput": 1.0, "packet-loss-rate": 0.5, "histogram-rtt": {"1": 2}, "packet-trace": [], "made-up/type": {"a": 1}}
    with opened(tmp_path) as sink:
        deliver(sink, {series(name): [(START, val)] for name, val in names.items()}, ONE_DAY)
    texts = [
        "metadata_key",
        "source",
        "destination",
        "measurement_agent",
        "tool_name",
        "input_source",
        "input_destination",
        "parameters",
    ]
    subject = [f"{name}: dictionary<values=string, indices=int32, ordered=0>" for name in texts]
    vals = ["double", "double", "map<string, int64 ('val')>", "string", "string"]
    beside = {"packet-trace": [f"hops: {TYPES['hops']}"], "histogram-rtt": [f"delays: {TYPES['delays']}"]}
    assert columns(tmp_path) == {
        f"event_type={name.replace('/', '%2F')}": ["ts: timestamp[ms, tz=UTC]", f"val: {val}", *beside.get(name, []), *subject]
        for name, val in zip(names, vals, strict=True)
    }
    source = ParquetSource(path=str(tmp_path))
    source.open(Context())
    assert {each.event_type: points_of(source.read(each, ONE_DAY)) for each in source.series(ONE_DAY)} == {
        name: [(START, val)] for name, val in names.items()
    }


def test_histograms_as_text_are_kept_byte_for_byte(tmp_path: Path) -> None:
    of = series("histogram-owdelay")
    texts = [b'{ "38.5":1,  "7":2}', b"{}", b'{"7": 2.0}']
    with opened(tmp_path, histograms="json") as sink:
        commit(sink, batch_of(of, json_column(texts)))
        assert [text for batch in sink.read(of, ONE_DAY) for text in batch.val.to_pylist()] == [text.decode() for text in texts]


def test_numbers_of_other_types_become_doubles_if_that_loses_nothing(tmp_path: Path) -> None:
    of = series("throughput")
    with opened(tmp_path) as sink:
        commit(sink, batch_of(of, pa.array([1, 2**53], pa.int64())))
        assert points_of(sink.read(of, ONE_DAY)) == [(START, 1.0), (START + 1, 2.0**53)]
        with pytest.raises(SinkError, match=rf"^{tmp_path}: a1/throughput/base: Integer value 9007199254740993 not in range"):
            commit(sink, batch_of(of, pa.array([2**53 + 1], pa.int64())))


def test_opened_values_become_json_text(tmp_path: Path) -> None:
    of = series("packet-trace")
    with opened(tmp_path) as sink:
        commit(sink, batch_of(of, pa.array([[{"ttl": 1, "ip": None}], []])))
        assert points_of(sink.read(of, ONE_DAY)) == [(START, [{"ttl": 1, "ip": None}]), (START + 1, [])]


@pytest.mark.parametrize("reopened", [False, True])
def test_a_folder_never_holds_two_types_of_val(tmp_path: Path, reopened: bool) -> None:
    of = series("throughput-subintervals")
    with opened(tmp_path) as sink:
        commit(sink, batch_of(of, number_column(array("d", [1.5]))))
        where = f"{tmp_path}/event_type=throughput-subintervals/summary=base"
        sentence = f"^a1/throughput-subintervals/base: {where} holds numbers, and this would be JSON text: write to another path"
        with pytest.raises(SinkError, match=sentence):
            commit(sink, batch_of(of, json_column([b"[]"])))
    with opened(tmp_path) as sink:
        with pytest.raises(SinkError, match=sentence):
            commit(sink, batch_of(of, json_column([b"[]"])))
        assert points_of(sink.read(of, ONE_DAY)) == [(START, 1.5)]


def test_the_option_for_histograms_cannot_change_in_a_folder_that_holds_some(tmp_path: Path) -> None:
    of = series("histogram-owdelay")
    with opened(tmp_path) as sink:
        deliver(sink, {of: [(START, {"1": 1})]}, ONE_DAY)
    with (
        opened(tmp_path, histograms="json") as sink,
        pytest.raises(SinkError, match="holds histograms as maps, and this would be JSON"),
    ):
        deliver(sink, {of: [(START, {"1": 1})]}, ONE_DAY)


def test_what_is_no_histogram_is_rejected_and_the_rest_written(tmp_path: Path) -> None:
    of = series("histogram-owdelay")
    texts = [b'{"1": 2}', b'{"1": "x"}', b"[]", b'{"2": "3"}', b'{"1": 9223372036854775808}']
    with opened(tmp_path) as sink:
        receipt = commit(sink, batch_of(of, json_column(texts)))
        assert points_of(sink.read(of, ONE_DAY)) == [(START, {"1": 2}), (START + 3, {"2": 3})]
    assert receipt.written == 2
    assert [(each.series, each.ts, each.val) for each in receipt.rejected] == [
        (of, START + row, texts[row].decode()) for row in (1, 2, 4)
    ]
    assert all(each.reason for each in receipt.rejected)


#: Of buckets: usual ones, and such as look like several, or like none, once something is left out of them.
KEYS = [
    "1",
    "38.5",
    "-2",
    "1e3",
    "",
    "é",
    "a:b",
    'x"y',
    " 7",
    "1 2",
    "1:2",
    "1:2,3",
    "1, 2",
    "{",
    "1}",
    "1,",
    '1": 2, "3',
    "1\\",
    "\t1",
]


@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), st.integers(0, 2**63 - 1))),
    st.sampled_from([0, buckets._FEW]),
    st.data(),
)
def test_histograms_are_opened_as_json_reads_them(objects: list[dict[str, int]], few: int, data: st.DataObject) -> None:
    separators = data.draw(st.sampled_from([(", ", ": "), (",", ":"), (" , ", " : ")]))
    texts = [json.dumps(each, separators=separators, ensure_ascii=False).encode() for each in objects]
    batch = batch_of(series("histogram-owdelay"), json_column(texts))
    start = data.draw(st.integers(0, len(objects)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "_FEW", few)
        opened_map = Batch(batch.series, batch.points.slice(start)).opened().val
    opened_map.validate(full=True)
    assert [dict(each) for each in opened_map.to_pylist()] == objects[start:]


def test_a_path_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match=rf"^{tmp_path}/file/out: .*Not a directory"), opened(tmp_path / "file" / "out"):
        pass
    source = ParquetSource(path=str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match=rf"^{tmp_path}/nowhere: there are no data: check `path`$"):
        source.open(Context())


def test_secrets_in_a_url_are_not_shown() -> None:
    source = ParquetSource(path="s4://me:hidden@bucket/out?token=hidden")
    with pytest.raises(SourceError, match=r"^s4://bucket/out: ") as caught:
        source.open(Context())
    assert "hidden" not in str(caught.value)


def test_the_table_of_metadata_has_a_row_a_key(tmp_path: Path) -> None:
    of = series("throughput", key="k1", note="so", number=30)
    with opened(tmp_path) as sink:
        deliver(sink, {of: [(START + 5, 1.0)], of.replace(event_type="made-up"): [], series("failures", key="k2"): []}, ONE_DAY)
        deliver(sink, {of: [(START + DAY, 1.0)]}, Interval(START + DAY, START + 2 * DAY))
        deliver(sink, {of: []}, ONE_DAY)
    table = pq.ParquetFile(tmp_path / "metadata/_table.pq").read()
    seen = {
        name: table.column(name).cast(pa.timestamp("s", "UTC")).cast(pa.int64()).to_pylist() for name in ("first_seen", "last_seen")
    }
    rows = table.drop_columns(list(seen)).to_pylist()
    assert seen == {"first_seen": [START + 5, None], "last_seen": [START + DAY, None]}
    subject = {
        "subject_type": "point-to-point",
        **dict.fromkeys(("source", "measurement_agent", "input_source"), "192.0.2.1"),
        **dict.fromkeys(("destination", "input_destination"), "192.0.2.2"),
        "tool_name": "pscheduler/iperf3",
    }
    assert rows == [
        {
            "metadata_key": "k1",
            **subject,
            "parameters": [("key", "k1"), ("note", "so"), ("number", "30")],
            "parameters_json": '{"key":"k1","note":"so","number":30}',
            "event_types": [("made-up", ["base"]), ("throughput", ["base"])],
            "others": [],
            "delivered": [
                ("made-up/base", [{"start": START, "end": START + DAY}]),
                ("throughput/base", [{"start": START, "end": START + 2 * DAY}]),
            ],
        },
        {
            "metadata_key": "k2",
            **subject,
            "parameters": [("key", "k2")],
            "parameters_json": '{"key":"k2"}',
            "event_types": [("failures", ["base"])],
            "others": [],
            "delivered": [("failures/base", [{"start": START, "end": START + DAY}])],
        },
    ]


@pytest.mark.parametrize("named_first", [True, False])
def test_a_folder_keeps_the_columns_that_it_began_with(tmp_path: Path, named_first: bool) -> None:
    named, plain = series(key="n:1", archive="n"), series(key="2")
    with opened(tmp_path) as sink:
        for each in (named, plain) if named_first else (plain, named):
            deliver(sink, {each: [(START, 1.0)]}, ONE_DAY)
        deliver(sink, {named: [], plain: [(START, 2.0)]}, ONE_DAY)  # what was there is taken out
        deliver(sink, {named: [(START, 1.0)]}, ONE_DAY)
        assert [points_of(sink.read(each, ONE_DAY)) for each in (named, plain)] == [[(START, 1.0)], [(START, 2.0)]]
    tables = [pq.ParquetFile(path).read() for path in tmp_path.glob("event_type=*/**/*.parquet")]
    assert {"archive" in table.schema.names for table in tables} == {named_first}
    rows = [row for table in tables for row in table.to_pylist()]
    assert {row["metadata_key"]: row.get("archive") for row in rows} == {"n:1": "n" if named_first else None, "2": None}


def described(path: Path) -> dict[str, tuple[str | None, Any]]:
    """What the source says of each series: by event type its source and its parameter `site`."""
    source = ParquetSource(path=str(path))
    source.open(Context())
    found = {each.event_type: each.metadata for each in source.series(ONE_DAY)}
    return {name: (metadata.source, metadata.parameters.get("site")) for name, metadata in found.items()}


def said_in_rows(path: Path, name: str) -> set[tuple[str, str]]:
    """What the rows of an event type say of it."""
    table = pa.concat_tables(pq.ParquetFile(file).read() for file in path.glob(f"event_type={name}/**/*.parquet"))
    return {(row["source"], row["parameters"]) for row in table.select(["source", "parameters"]).to_pylist()}


@pytest.mark.parametrize("first", ["packet-count-lost", "packet-count-sent", "throughput"])
def test_a_series_that_a_transform_describes_otherwise_keeps_that_to_itself(tmp_path: Path, first: str) -> None:
    names = [first, *({"packet-count-lost", "packet-count-sent", "throughput"} - {first})]
    renamed = replace(series(site="here").metadata, source="Berkeley", parameters={"key": "a1", "site": "there"})
    each = {name: series(name, site="here") for name in names}
    each["packet-count-lost"] = each["packet-count-lost"].replace(metadata=renamed)
    said = dict.fromkeys(names, ("192.0.2.1", "here")) | {"packet-count-lost": ("Berkeley", "there")}
    with opened(tmp_path) as sink:
        deliver(sink, {of: [(START, 1.0)] for of in each.values()}, ONE_DAY)
    assert described(tmp_path) == said
    assert said_in_rows(tmp_path, "packet-count-lost") == {("Berkeley", '{"key":"a1","site":"there"}')}
    assert said_in_rows(tmp_path, "packet-count-sent") == {("192.0.2.1", '{"key":"a1","site":"here"}')}

    later = Interval(START + DAY, START + 2 * DAY)
    with opened(tmp_path) as sink:
        deliver(sink, {each["packet-count-lost"]: [(START + DAY, 1.0)]}, later)
    assert described(tmp_path) == said
    with opened(tmp_path) as sink:
        deliver(sink, {each["throughput"].replace(metadata=renamed): [(START + DAY, 1.0)]}, later)
    assert described(tmp_path) == said | {"throughput": ("Berkeley", "there")}


def test_a_table_of_metadata_of_an_older_version_is_read(tmp_path: Path) -> None:
    with opened(tmp_path) as sink:
        deliver(sink, {series(site="here"): [(START, 1.0)]}, ONE_DAY)
    file = tmp_path / "metadata/_table.pq"
    pq.write_table(pq.ParquetFile(file).read().drop_columns(["others", "delivered"]), file)
    assert described(tmp_path) == {"throughput": ("192.0.2.1", "here")}


def test_a_load_of_many_days_keeps_few_files_open_and_every_row(tmp_path: Path) -> None:
    days, keys = 150, ("k1", "k2", "k3")
    interval = Interval(START, START + days * DAY)
    text = json.dumps({"error": os.urandom(600).hex()}).encode()
    seconds = array("q", range(START, START + days * DAY, DAY // 96))
    before = len(list(Path("/proc/self/fd").iterdir()))
    most = 0
    with opened(tmp_path) as sink:
        load = sink.begin(Task(tuple(series("failures", key=key) for key in keys), interval, DAY))
        for key in keys:
            of = series("failures", key=key)
            for start in range(0, len(seconds), 2000):
                part = seconds[start : start + 2000]
                load.write(Batch.of(of, ts_column(part), json_column([text] * len(part))))
                most = max(most, len(list(Path("/proc/self/fd").iterdir())))
            load.end(of)
        assert load.commit().written == len(keys) * len(seconds)
        for key in keys:
            found = list(sink.read(series("failures", key=key), interval))
            assert [second for batch in found for second in batch.seconds] == list(seconds)
            assert {text for batch in found for text in set(batch.val.to_pylist())} == {text.decode()}
    assert most - before < 60
    sizes = [pq.ParquetFile(file).metadata.num_row_groups for file in tmp_path.glob("**/*.parquet")]
    assert sizes == [1] * days


MEMORY = """
import resource, sys
from array import array
from esmond_etl import Batch, Context, Interval, Task
from esmond_etl.model.columns import json_column, number_column, ts_column
from esmond_etl.testing import DAY, START, series
from esmond_etl_parquet.sink import ParquetSink

path, pages = sys.argv[1], int(sys.argv[2])
sink = ParquetSink(path=path)
sink.open(Context())
numbers, texts = series("throughput"), series("histogram-owdelay")
load = sink.begin(Task((numbers, texts), Interval(START, START + 400 * DAY), DAY))
body = ("{" + ", ".join(f'"{bucket / 10}": {bucket}' for bucket in range(50)) + "}").encode()
for page in range(pages):
    start = START + page * 10_000 * 60
    seconds = array("q", range(start, start + 10_000 * 60, 60))
    load.write(Batch.of(numbers, ts_column(seconds), number_column(array("d", map(float, seconds)))))
    load.write(Batch.of(texts, ts_column(seconds[:2000]), json_column([body] * 2000)))
load.end(numbers)
load.end(texts)
load.commit()
sink.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "pandas" in sys.modules)
"""


def memory(path: Path, pages: int, extra: str = "") -> tuple[int, bool]:
    """The peak memory of a load of so many pages, MB, and whether pandas was imported."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in (extra, *sys.path) if each)}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(pages)], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    size, pandas = done.stdout.split()
    return int(size), pandas == "True"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    small, large = memory(tmp_path / "small", 5)[0], memory(tmp_path / "large", 50)[0]
    assert large < small * 1.5, f"{large} MB for ten times as much as {small} MB"


def test_pandas_is_not_imported_where_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "pandas").mkdir()
    (tmp_path / "pandas" / "__init__.py").write_text(
        f'open({str(tmp_path / "imported")!r}, "w").close()\nraise ImportError("no")\n'
    )
    memory(tmp_path / "out", 1, str(tmp_path))
    assert not (tmp_path / "imported").exists()


def test_the_json_text_of_a_batch_is_what_arrives(tmp_path: Path) -> None:
    of = series("pscheduler-raw")
    text = '{"b":  1, "a": "é\\u00e9", "a": 2.50}'
    with opened(tmp_path) as sink:
        commit(sink, batch_of(of, pa.array([text], JSON_TEXT)))
        assert [batch.val.to_pylist() for batch in sink.read(of, ONE_DAY)] == [[text]]
