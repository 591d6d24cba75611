"""What Delta tables hold, who reads them, and what they refuse."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partialmethod
from pathlib import Path
from typing import Any

import duckdb
import esmond_etl_archive
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from esmond_etl_archive.samples import START as SAMPLED
from esmond_etl_delta import files, reading
from esmond_etl_delta.sink import DeltaSink
from esmond_etl_delta.source import DeltaSource
from esmond_etl_delta.tables import Tables
from esmond_etl_parquet.source import ParquetSource

import esmond_etl
from esmond_etl import Batch, ConfigError, Context, Interval, Series, SinkError, SourceError, Task
from esmond_etl.cli.compact import command as compact
from esmond_etl.cli.group import run as command
from esmond_etl.model.columns import number_column, ts_column
from esmond_etl.testing import DAY, START, Points, deliver, points_of, series

THREE_DAYS = Interval(START, START + 3 * DAY)


@contextmanager
def opened(path: Any, **options: Any) -> Iterator[DeltaSink]:
    sink = DeltaSink(path=str(path), **options)
    sink.open(Context())
    try:
        yield sink
    finally:
        sink.close()


def hourly(value: float, *keys: str, event_type: str = "throughput") -> dict[Series, Points]:
    """A datapoint an hour of three days, of a series of each key."""
    moments = range(THREE_DAYS.start, THREE_DAYS.end, 3600)
    return {series(event_type, key=key): [(ts, value) for ts in moments] for key in keys}


def rows(path: Path, name: str = "throughput") -> Counter[tuple[Any, ...]]:
    """The key, the hour and the value of every row."""
    table = DeltaTable(path / name).to_pyarrow_table(columns=["metadata_key", "ts", "val"])
    ts = table.column("ts").cast(pa.timestamp("s", "UTC")).cast(pa.int64()).to_pylist()
    return Counter(zip(table.column("metadata_key").to_pylist(), ts, table.column("val").to_pylist(), strict=True))


def test_an_archive_goes_there_and_back_value_for_value(tmp_path: Path, capsys: Any) -> None:
    store = esmond_etl_archive.Archive(tmp_path / "source.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=2, hosts=2))
    times = f"from = {SAMPLED}\nto = {SAMPLED + 2 * DAY}\n"
    with esmond_etl_archive.serve(store) as archive, esmond_etl_archive.serve(tmp_path / "back.db", token="t") as back:
        source = f'{times}[source]\ntype = "esmond"\nurl = "{archive.url}"\nsummaries = ["all"]\n'
        (tmp_path / "there.toml").write_text(
            f'{source}[[sink]]\ntype = "delta"\npath = "lake"\n[[sink]]\ntype = "parquet"\npath = "p"\n'
        )
        there = esmond_etl.load(tmp_path / "there.toml")
        result = there.run()
        assert result.complete
        found = list(there.verify())
        assert [each for each in found if not each.same] == []
        assert sum(each.equal for each in found) == 2 * result.read
        assert there.run().read == 0
        sink = f'[[sink]]\ntype = "esmond"\nurl = "{back.url}"\nusername = "u"\napi_key = "t"\n'
        (tmp_path / "back.toml").write_text(f'{times}[source]\ntype = "delta"\npath = "lake"\nsummaries = ["base"]\n{sink}')
        again = esmond_etl.load(tmp_path / "back.toml")
        assert again.run().complete
        assert all(each.same for each in again.verify())
    assert command(["compare", str(tmp_path / "lake"), str(tmp_path / "p"), "--summaries"]) == 0
    assert f"(0 in A alone, 0 in B alone), {result.read:,} datapoints the same" in capsys.readouterr().out
    assert listed(DeltaSource(path=str(tmp_path / "lake"))) == listed(ParquetSource(path=str(tmp_path / "p")))


def test_status_names_the_versions_after_each_run(tmp_path: Path, capsys: Any) -> None:
    store = esmond_etl_archive.Archive(tmp_path / "source.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=2, hosts=2))
    path = tmp_path / "p.toml"
    held = []
    with esmond_etl_archive.serve(store) as archive:
        source = f'[source]\ntype = "esmond"\nurl = "{archive.url}"\nevent_types = ["throughput", "failures"]\n'
        for days in (1, 2):
            times = f"from = {SAMPLED}\nto = {SAMPLED + days * DAY}\n"
            path.write_text(f'{times}{source}[[sink]]\ntype = "delta"\npath = "lake"\n')
            assert esmond_etl.load(path).run().complete
            held.append({name: DeltaTable(tmp_path / "lake" / name).version() for name in ("throughput", "metadata")})
    assert command(["status", str(path), "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    named = [run["sinks"]["sink[0] (delta)"]["versions"] for run in runs]
    assert [{name: each[name] for name in ("throughput", "metadata")} for each in named] == held
    assert held[0]["throughput"] < held[1]["throughput"]
    assert command(["status", str(path)]) == 0
    assert f"throughput {held[1]['throughput']}" in capsys.readouterr().out


def listed(source: Any) -> dict[str, Any]:
    """Every series of a source with what is said of it."""
    source.open(Context())
    return {str(each): each.metadata.to_json() for each in source.series(Interval(0, 2**33))}


def test_duckdb_polars_and_arrow_read_the_same(tmp_path: Path) -> None:
    with opened(tmp_path) as sink:
        deliver(sink, {**hourly(1.0, "a"), **hourly(3.0, "b")}, THREE_DAYS)
        deliver(sink, {series("histogram-rtt", key="a"): [(START, {"38.5": 2, "39": 5})]}, THREE_DAYS)
    throughput = DeltaTable(tmp_path / "throughput").to_pyarrow_dataset()  # noqa: F841 - DuckDB finds it by its name
    expected = [(datetime.fromtimestamp(START + day * DAY, UTC).date(), 24 * 4.0) for day in range(3)]
    assert duckdb.sql("select date, sum(val) from throughput group by date order by date").fetchall() == expected
    lazy = polars.scan_delta(str(tmp_path / "throughput")).group_by("date").agg(polars.col("val").sum()).sort("date")
    assert lazy.collect().rows() == expected
    histograms = DeltaTable(tmp_path / "histogram-rtt").to_pyarrow_dataset()
    assert duckdb.sql("select d.bucket_ms, d.count from (select unnest(delays) as d from histograms)").fetchall() == [
        (38.5, 2),
        (39.0, 5),
    ]
    assert histograms.schema.field("val").type == pa.map_(pa.string(), pa.int64())


def test_a_large_day_is_read_for_one_series_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as sink:
        deliver(sink, hourly(1.0, "a") | hourly(2.0, "b", "c"), THREE_DAYS)
        deliver(sink, hourly(3.0, "d"), THREE_DAYS)
    for module in (files, reading):
        monkeypatch.setattr(module, "LARGE", 0)
    source = DeltaSource(path=str(tmp_path))
    source.open(Context())
    read = {each.metadata.key: dict(points_of(source.read(each, THREE_DAYS))) for each in source.series(THREE_DAYS)}
    moments = range(THREE_DAYS.start, THREE_DAYS.end, 3600)
    assert read == {key: dict.fromkeys(moments, value) for key, value in (("a", 1.0), ("b", 2.0), ("c", 2.0), ("d", 3.0))}


def test_a_commit_names_its_tasks(tmp_path: Path) -> None:
    with opened(tmp_path) as sink:
        deliver(sink, hourly(1.0, "a"), THREE_DAYS)
    task = Task((series("throughput", key="a"),), THREE_DAYS, DAY)
    assert DeltaTable(tmp_path / "throughput").history(1)[0]["esmond_etl.tasks"] == task.id


def test_deliveries_that_wait_for_each_other_share_a_commit(tmp_path: Path) -> None:
    keys = [f"k{number:02}" for number in range(24)]
    with opened(tmp_path) as sink, ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda key: deliver(sink, hourly(1.0, key), THREE_DAYS), keys))
    table = DeltaTable(tmp_path / "throughput")
    tasks = [task for commit in table.history() for task in commit.get("esmond_etl.tasks", "").split()]
    assert len(set(tasks)) == len(tasks) == len(keys)
    assert table.version() < len(keys)
    assert rows(tmp_path) == Counter((key, ts, 1.0) for key in keys for ts in range(*THREE_DAYS, 3600))


def test_two_that_replace_the_same_at_once_leave_one_of_them(tmp_path: Path) -> None:
    with opened(tmp_path) as first, opened(tmp_path) as second, ThreadPoolExecutor(2) as pool:
        for turn in range(10):
            given = [(first, hourly(float(turn), "a")), (second, hourly(turn + 0.5, "a"))]
            list(pool.map(lambda each: deliver(each[0], each[1], THREE_DAYS), given))
            values = Counter(value for _, _, value in rows(tmp_path).elements())
            assert values in (Counter({float(turn): 72}), Counter({turn + 0.5: 72}))


def test_two_that_create_one_table_at_the_same_moment_share_it(tmp_path: Path) -> None:
    folders = [tmp_path / str(turn) for turn in range(25)]
    with ThreadPoolExecutor(2) as pool:
        for folder in folders:
            tables = [Tables(str(folder), {}) for _ in range(2)]
            both = threading.Barrier(2)

            def note(each: tuple[str, Tables], both: threading.Barrier = both) -> None:
                both.wait()
                each[1].set_note(each[0], "{}")

            list(pool.map(note, zip("ab", tables, strict=True)))
            assert tables[0].notes() == {"a": "{}", "b": "{}"}


def test_a_reader_never_sees_a_part_of_a_commit(tmp_path: Path) -> None:
    with opened(tmp_path) as sink, ThreadPoolExecutor(1) as pool:
        deliver(sink, hourly(0.0, "a", "b"), THREE_DAYS)
        writing = pool.submit(lambda: [deliver(sink, hourly(float(turn), "a", "b"), THREE_DAYS) for turn in range(1, 15)])
        seen = set()
        while not writing.done():
            values = Counter(value for _, _, value in rows(tmp_path).elements())
            assert list(values.values()) == [2 * 72]
            seen |= set(values)
        writing.result()
    assert len(seen) > 2


def test_names_that_folders_and_predicates_must_not_take_literally(tmp_path: Path) -> None:
    odd = "k'1 %2F\"/=é"
    given: dict[Series, Points] = {
        series("made-up/type=1%", key=odd): [(START, {"a": 1})],
        series("throughput", "average/86400", key=odd): [(START, 1.5)],
        series("throughput", key="k"): [(START, 2.5)],
    }
    folder = tmp_path / "a b c"
    with opened(folder) as sink:
        for _ in range(2):
            deliver(sink, given, THREE_DAYS)
        assert {each: points_of(sink.read(each, THREE_DAYS)) for each in given} == given
    assert sorted(path.name for path in folder.iterdir()) == ["made-up_2ftype_3d1_25", "metadata", "throughput"]
    assert rows(folder) == Counter({(odd, START, 1.5): 1, ("k", START, 2.5): 1})


def test_a_path_that_the_library_would_read_as_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose a path without it"):
        DeltaSink(path=str(tmp_path / "a%20b"))


def lost_answer(table: DeltaTable, *args: Any, error: Exception, **options: Any) -> None:
    """A commit that the store carried out, and whose answer got lost."""
    made(table, *args, **options)
    raise error


made = DeltaTable.create_write_transaction


@pytest.mark.parametrize("error", [CommitFailedError("already exists"), OSError("time-out")])
def test_a_commit_whose_answer_got_lost_leaves_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with opened(tmp_path) as sink:
        deliver(sink, hourly(1.0, "b"), THREE_DAYS)
        with monkeypatch.context() as patched:
            patched.setattr(DeltaTable, "create_write_transaction", partialmethod(lost_answer, error=error))
            if isinstance(error, CommitFailedError):
                deliver(sink, hourly(1.0, "a"), THREE_DAYS)
            else:
                with pytest.raises(SinkError, match="time-out"):
                    deliver(sink, hourly(1.0, "a"), THREE_DAYS)
        assert rows(tmp_path).total() == 2 * 72  # the files that it names are there
        deliver(sink, hourly(2.0, "a"), THREE_DAYS)
    moments = range(THREE_DAYS.start, THREE_DAYS.end, 3600)
    assert rows(tmp_path) == Counter((key, ts, value) for key, value in (("a", 2.0), ("b", 1.0)) for ts in moments)


def test_commits_that_know_nothing_of_each_other_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as first, opened(tmp_path) as second:
        for turn in range(3):
            deliver(first, hourly(float(turn), "a"), THREE_DAYS)
            deliver(second, hourly(turn + 0.5, "a"), THREE_DAYS)
            assert Counter(value for _, _, value in rows(tmp_path).elements()) == {turn + 0.5: 72}


def test_what_is_replaced_while_files_are_merged_is_there_once(tmp_path: Path) -> None:
    hours = [Interval(START + hour * 3600, START + (hour + 1) * 3600) for hour in range(4)]

    def write(key: str) -> None:
        with opened(tmp_path) as sink:
            for turn in range(5):
                for hour in hours:
                    deliver(sink, {series("throughput", key=key): [(ts, float(turn)) for ts in range(*hour, 60)]}, hour)

    with opened(tmp_path) as sink, ThreadPoolExecutor(2) as pool:
        deliver(sink, {series("throughput", key="a"): [(START, 0.0)]}, hours[0])
        writing = [pool.submit(write, key) for key in "ab"]
        while not all(each.done() for each in writing):
            sink.compact()
        for each in writing:
            each.result()
    assert rows(tmp_path) == Counter((key, ts, 4.0) for key in "ab" for hour in hours for ts in range(*hour, 60))


def test_a_commit_after_another_program_has_merged_files_is_made_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as sink:
        for key in "abc":
            deliver(sink, hourly(1.0, key), THREE_DAYS)
        DeltaTable(tmp_path / "throughput").optimize.compact()
        deliver(sink, hourly(2.0, "a"), THREE_DAYS)  # the sink knows the table as it was before
    assert Counter((key, value) for key, _, value in rows(tmp_path).elements()) == {("a", 2.0): 72, ("b", 1.0): 72, ("c", 1.0): 72}


def test_a_table_of_metadata_of_an_older_version_gets_the_new_column(tmp_path: Path) -> None:
    with opened(tmp_path) as sink:
        deliver(sink, hourly(1.0, "a"), THREE_DAYS)
    held = DeltaTable(tmp_path / "metadata").to_pyarrow_table().drop_columns(["delivered"])
    shutil.rmtree(tmp_path / "metadata")
    write_deltalake(tmp_path / "metadata", held)
    with opened(tmp_path) as sink:
        assert sink.delivered() == {}
        deliver(sink, hourly(1.0, "b"), THREE_DAYS)
        assert sink.delivered() == {series("throughput", key="b").id: (THREE_DAYS,)}
        assert {key for key, *_ in rows(tmp_path)} == {"a", "b"}


def test_a_rollback_leaves_no_file(tmp_path: Path) -> None:
    with opened(tmp_path) as sink:
        each = series("throughput", key="a")
        load = sink.begin(Task((each,), THREE_DAYS, DAY))
        for start in (START, START + 40_000):  # more than a row group
            moments = ts_column(array("q", range(start, start + 40_000)))
            load.write(Batch.of(each, moments, number_column(array("d", bytes(8 * len(moments))))))
        assert list(tmp_path.rglob("*.parquet"))
        load.rollback()
        assert not list(tmp_path.rglob("*.parquet"))


def test_files_of_killed_processes_are_removed_when_no_process_can_need_them(tmp_path: Path) -> None:
    with opened(tmp_path) as sink:
        deliver(sink, hourly(1.0, "a"), THREE_DAYS)
        folder = next(tmp_path.glob("throughput/summary=base/date=*"))
        for name, age in (("old", 8 * DAY), ("young", 6 * DAY)):
            (folder / f"{name}.parquet").touch()
            os.utime(folder / f"{name}.parquet", (time.time() - age,) * 2)
        assert sink.compact().endswith(", 1 of old versions removed")
        assert (folder / "young.parquet").exists()
    assert rows(tmp_path).total() == 72


def test_commits_tell_readers_which_files_they_need_not_open(tmp_path: Path) -> None:
    with opened(tmp_path) as sink:
        deliver(sink, hourly(1.0, "a", "b"), THREE_DAYS)
        deliver(sink, hourly(1.0, "c"), THREE_DAYS)
        deliver(sink, {each: points[:7] for each, points in hourly(1.0, "a").items()}, Interval(START, START + DAY))
    table = DeltaTable(tmp_path / "throughput")
    for file in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        held = pq.ParquetFile(tmp_path / "throughput" / file["path"])
        columns = held.read()
        assert file["num_records"] == len(columns)
        for name in ("ts", "metadata_key"):
            assert pc.min_max(columns.column(name)).as_py() == {"min": file[f"min.{name}"], "max": file[f"max.{name}"]}
        assert columns.schema.field("ts").type == pa.timestamp("us", "UTC")


def test_statistics_have_a_table_of_their_own(tmp_path: Path) -> None:
    made = series("histogram-rtt", "statistics/86400", key="a")
    given: dict[Series, Points] = {made: [(START, {"mean": 1.5})], series("histogram-rtt", key="a"): [(START, {"1": 2})]}
    with opened(tmp_path) as sink:
        deliver(sink, given, THREE_DAYS)
        assert {each: points_of(sink.read(each, THREE_DAYS)) for each in given} == given
    assert (tmp_path / "histogram-rtt-statistics" / "_delta_log").is_dir()


def test_a_table_keeps_the_type_that_it_began_with(tmp_path: Path) -> None:
    made = series("histogram-rtt", key="a")
    with opened(tmp_path, histograms="json") as sink:
        deliver(sink, {made: [(START, {"1": 2})]}, THREE_DAYS)
    with (
        opened(tmp_path) as sink,
        pytest.raises(SinkError, match=r"holds JSON text, and this would be histograms as maps: write to"),
    ):
        deliver(sink, {made: [(START, {"1": 2})]}, THREE_DAYS)


def test_an_event_type_that_has_the_name_of_another_table_is_refused(tmp_path: Path) -> None:
    assert "is for something else" in str(DeltaSink(path=str(tmp_path)).refusal(series("metadata", key="a")))
    assert DeltaSink(path=str(tmp_path)).refusal(series("throughput", key="a")) is None


def test_the_tables_are_read_as_they_were(tmp_path: Path) -> None:
    with opened(tmp_path) as sink:
        deliver(sink, hourly(1.0, "a"), THREE_DAYS)
        between = DeltaTable(tmp_path / "metadata").history(1)[0]["timestamp"]
        while time.time() * 1000 < between + 1100:
            time.sleep(0.05)
        deliver(sink, hourly(2.0, "a"), THREE_DAYS)
        deliver(sink, hourly(3.0, "b", event_type="packet-loss-rate"), THREE_DAYS)
    moment = datetime.fromtimestamp(between / 1000 + 1, UTC).isoformat()
    found = {}
    for as_of in (moment, None):
        source = DeltaSource(path=str(tmp_path), as_of=as_of)
        source.open(Context())
        found[as_of] = {
            str(each): {val for _, val in points_of(source.read(each, THREE_DAYS))} for each in source.series(THREE_DAYS)
        }
    assert found == {moment: {"a/throughput/base": {1.0}}, None: {"a/throughput/base": {2.0}, "b/packet-loss-rate/base": {3.0}}}
    with pytest.raises(SourceError, match=r"there are no tables at 2014.*check `path` and `as_of`"):
        DeltaSource(path=str(tmp_path), as_of="2014-01-01").open(Context())


def test_small_files_are_merged_and_rows_stay(tmp_path: Path) -> None:
    with opened(tmp_path) as sink:
        for hour in range(8):
            interval = Interval(START + hour * 3600, START + hour * 3600 + 3600)
            deliver(sink, {each: [points[hour]] for each, points in hourly(1.0, "a", "b").items()}, interval)
    before = rows(tmp_path)
    assert len(DeltaTable(tmp_path / "throughput").file_uris()) == 8
    result = CliRunner().invoke(compact, [str(tmp_path)], catch_exceptions=False)
    assert (result.exit_code, result.output) == (0, f"{tmp_path}: 8 files of 2 tables merged into 1, 0 of old versions removed\n")
    assert len(DeltaTable(tmp_path / "throughput").file_uris()) == 1
    assert rows(tmp_path) == before
    with opened(tmp_path) as sink:  # what was merged is replaced as before
        deliver(sink, {each: [] for each in hourly(1.0, "a")}, Interval(START, START + 4 * 3600))
    assert rows(tmp_path) == Counter({row: 1 for row in before if row[0] == "b" or row[1] >= START + 4 * 3600})


def test_a_place_without_files_is_not_compacted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to compact there"):
        CliRunner().invoke(compact, [str(tmp_path)], catch_exceptions=False)


def test_what_is_broken_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as sink:
        deliver(sink, hourly(1.0, "a"), THREE_DAYS)
        (tmp_path / "throughput" / "_delta_log" / f"{2:020}.json").write_text("no JSON")
        with pytest.raises(SinkError, match=str(tmp_path)):
            deliver(sink, hourly(2.0, "a"), THREE_DAYS)
    with pytest.raises(SourceError, match="there are no tables: check `path`"):
        DeltaSource(path=str(tmp_path / "nowhere")).open(Context())


def test_the_programs_in_the_docs_read_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    text = (Path(__file__).parents[2] / "docs" / "delta.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    with opened(tmp_path / "lake") as sink:
        deliver(sink, hourly(3e9, "a"), THREE_DAYS)
        deliver(sink, hourly(0.25, "a", event_type="packet-loss-rate"), THREE_DAYS)
        deliver(sink, {series("histogram-owdelay", key="a"): [(START, {"38.5": 2})]}, THREE_DAYS)
    monkeypatch.chdir(tmp_path)
    said = []
    for program in programs:
        exec(compile(program, "docs/delta.md", "exec"), {})
        said.append(capsys.readouterr().out)
    assert len(said) == 3
    for printed, expected in zip(said, ("3.0", "0.25", "38.5"), strict=True):
        assert expected in printed


class Panic(BaseException):
    """What the library raises when it breaks down: no Exception."""


def test_no_delivery_of_a_commit_that_breaks_off_is_taken_for_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as sink, ThreadPoolExecutor(6) as pool:

        def broken(*_: Any) -> None:
            raise Panic

        monkeypatch.setattr(sink._tables, "change", broken)
        with sink._commits._turn:  # until all of them wait: they become one commit
            delivered = [pool.submit(deliver, sink, hourly(1.0, key), THREE_DAYS) for key in "abcdef"]
            while len(sink._commits._waiting) < 6:
                time.sleep(0.01)
        for each in delivered:
            with pytest.raises(SinkError, match="the commit broke off: Panic"):
                each.result(60)
