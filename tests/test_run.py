"""Runs of whole pipelines: real processes, a real archive, real files; killed, interrupted, lied to, and whole in the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import esmond_etl_archive
import polars
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from esmond_etl.cli import show
from esmond_etl.engine import delivery
from esmond_etl.engine.run import run
from esmond_etl.pipeline import file as config

pytestmark = pytest.mark.slow

#: How often a run is killed in a test of that; more in a night's run.
KILLS = int(os.environ.get("ESMOND_ETL_KILLS", "6"))

FROM, TO = 1709510400, 1709510400 + 12 * 86400

Rows = list[tuple[str, str, int, Any]]


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An archive with twelve days of sample measurements between two hosts."""
    store = esmond_etl_archive.Archive(tmp_path_factory.mktemp("sampled") / "archive.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=12, hosts=2))
    with esmond_etl_archive.serve(store, token="secret") as running:
        yield running
    store.close()


def write(folder: Path, url: str, name: str = "p", head: str = "", source: str = "", more: str = "") -> Path:
    """A pipeline file that exports an archive to Parquet beside it."""
    path = folder / f"{name}.toml"
    path.write_text(f"""
from = 2024-03-04
to = 2024-03-16
window = "1d"
{head}
[source]
type = "esmond"
url = "{url}"
retries = 3
backoff = 0.01
{source}
{more}
[[sink]]
type = "parquet"
path = "{folder / name}"
""")
    return path


def etl(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "esmond_etl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)


def rows(folder: Path) -> Rows:
    """All datapoints in a folder of Parquet files; a value that is no number as its JSON."""
    found: Rows = []
    for part in sorted(folder.glob("event_type=*")):
        table = ds.dataset(part, format="parquet", partitioning="hive").to_table(columns=["metadata_key", "ts", "val"])
        seconds = table["ts"].cast(pa.timestamp("s", "UTC")).cast("int64").to_pylist()
        values = [dict(val) if isinstance(val, list) else val for val in table["val"].to_pylist()]
        name = part.name.removeprefix("event_type=")
        found += [(key, name, ts, val) for key, ts, val in zip(table["metadata_key"].to_pylist(), seconds, values, strict=True)]
    return sorted(found, key=lambda row: row[:3])


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(sampled: Any, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What an undisturbed run leaves."""
    folder = tmp_path_factory.mktemp("whole")
    done = etl("run", write(folder, sampled.url))
    assert done.returncode == 0, done.stderr
    return rows(folder / "p")


def test_real_measurements_come_out_exactly(esnet: Path, tmp_path: Path) -> None:
    store = esmond_etl_archive.Archive(tmp_path / "a.db")
    esmond_etl_archive.load(store, esmond_etl_archive.records(esnet))
    with esmond_etl_archive.serve(store, token="x") as running:
        path = write(tmp_path, running.url)
        path.write_text(path.read_text().replace("2024-03-04", "2013-10-01").replace("2024-03-16", "2014-03-01"))
        assert etl("run", path).returncode == 0
    store.close()
    expected = [
        (name, ts, {bucket: int(count) for bucket, count in val.items()} if isinstance(val, dict) else float(val))
        for record in json.loads(esnet.read_text())
        for name, points in record["datapoints"].items()
        for ts, val in points
    ]
    found = [row[1:] for row in rows(tmp_path / "p")]
    assert sorted(found, key=itemgetter(0, 1)) == sorted(expected, key=itemgetter(0, 1))


def test_every_reader_counts_the_same(sampled: Any, whole: Rows, tmp_path: Path) -> None:
    assert etl("run", write(tmp_path, sampled.url)).returncode == 0
    pattern = f"{tmp_path}/p/event_type=throughput/**/*.parquet"
    expected = sum(row[1] == "throughput" for row in whole)
    by_duckdb = duckdb.sql(f"select count(*) from read_parquet('{pattern}')").fetchall()
    by_polars = polars.scan_parquet(pattern).select(polars.len()).collect().item()
    by_arrow = ds.dataset(tmp_path / "p" / "event_type=throughput", format="parquet", partitioning="hive").count_rows()
    assert (by_duckdb, by_polars, by_arrow) == ([(expected,)], expected, expected)


def test_a_second_run_reads_nothing_and_changes_no_file(sampled: Any, tmp_path: Path) -> None:
    path = write(tmp_path, sampled.url)
    assert etl("run", path).returncode == 0
    before = files(tmp_path / "p")
    again = etl("run", path, "--json")
    facts = json.loads(again.stdout)
    assert (again.returncode, facts["read"], facts["series"], facts["complete"]) == (0, 0, 0, True)
    assert facts["requests"] == 1  # the list
    assert files(tmp_path / "p") == before


def test_killed_at_many_moments_the_next_run_makes_it_whole(sampled: Any, whole: Rows, tmp_path: Path, proxy: Any) -> None:
    victim: list[subprocess.Popen[str] | None] = [None]
    fatal = [10**9]

    def meddle(asked: Any, real: Any) -> Any:
        fatal[0] -= 1
        if fatal[0] == 0 and victim[0]:
            victim[0].kill()
        return real

    server = proxy(sampled.url, meddle)
    undisturbed = write(tmp_path, server.url, "undisturbed")
    assert etl("run", undisturbed).returncode == 0
    total = len(server.asked)
    for moment in range(KILLS):
        path = write(tmp_path, server.url, f"p{moment}")
        fatal[0] = 1 + moment * (total - 1) // (KILLS - 1)
        process = victim[0] = subprocess.Popen([sys.executable, "-m", "esmond_etl", "run", path], stdout=subprocess.PIPE, text=True)
        process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGKILL, 0)  # the last request may be answered after all is done
        fatal[0] = 10**9
        again = etl("run", path)
        assert (again.returncode, again.stderr) == (0, "")
        assert rows(tmp_path / f"p{moment}") == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_the_next_goes_on(
    sampled: Any, whole: Rows, tmp_path: Path, proxy: Any, number: signal.Signals
) -> None:
    victim: list[Any] = []

    def meddle(asked: Any, real: Any) -> Any:
        if victim and "/throughput/" in asked.path:
            victim.pop().send_signal(number)
        return real

    path = write(tmp_path, proxy(sampled.url, meddle).url, head="parallel = 2")
    process = subprocess.Popen(
        [sys.executable, "-m", "esmond_etl", "run", path], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    victim.append(process)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopping: what is in flight is finished or rolled back" in said
    assert "p: stopped; what was in flight is rolled back, the next run goes on from here" in said
    assert etl("run", path).returncode == 0
    assert rows(tmp_path / "p") == whole


def test_the_second_of_two_runs_is_told_who_holds_the_lock(sampled: Any, tmp_path: Path, serve: Any, answer: Any) -> None:
    second: list[subprocess.CompletedProcess[str]] = []

    def respond(asked: Any) -> Any:
        if not second:
            second.append(etl("run", path))
        return answer(200, b"[]")

    path = write(tmp_path, serve(respond).url)
    first = subprocess.Popen([sys.executable, "-m", "esmond_etl", "run", path], stdout=subprocess.PIPE, text=True)
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert second[0].returncode == 3
    assert f"another run is under way: process {first.pid} on " in second[0].stderr


def test_late_datapoints_inside_lookback_are_found(archive: Any, tmp_path: Path) -> None:
    day = time.time() // 86400 * 86400
    record = next(iter(esmond_etl_archive.sample(days=1, hosts=2)))
    path = write(tmp_path, archive.url)
    path.write_text(path.read_text().replace("2024-03-04", '"3d"').replace("to = 2024-03-16", 'settle = "0s"\nlookback = "36h"'))
    for late, expected in ((int(day) - 9000, 1), (int(day) - 7000, 2)):
        esmond_etl_archive.load(archive.archive, [{**record, "datapoints": {"throughput": [(late, 5)]}}])
        assert etl("run", path).returncode == 0
        assert len(rows(tmp_path / "p")) == expected


def test_late_datapoints_before_lookback_are_found_by_recheck(archive: Any, tmp_path: Path) -> None:
    day = time.time() // 86400 * 86400
    record = next(iter(esmond_etl_archive.sample(days=1, hosts=2)))
    path = write(tmp_path, archive.url)
    path.write_text(path.read_text().replace("2024-03-04", '"90d"').replace("to = 2024-03-16", 'settle = "0s"\nlookback = "6h"'))
    for late, more, expected in ((9000, [], 1), (40 * 86400, [], 1), (0, ["--recheck", "30d"], 1), (0, ["--recheck", "50d"], 2)):
        if late:
            esmond_etl_archive.load(archive.archive, [{**record, "datapoints": {"throughput": [(int(day) - late, 5)]}}])
        assert etl("run", path, *more).returncode == 0
        assert len(rows(tmp_path / "p")) == expected


def test_overlapping_runs_leave_no_datapoint_twice(sampled: Any, whole: Rows, tmp_path: Path) -> None:
    path = write(tmp_path, sampled.url)
    for bounds in (("2024-03-04", "2024-03-11"), ("2024-03-08", "2024-03-16"), ("2024-03-06", "2024-03-13")):
        assert etl("run", path, "--reload", "--from", bounds[0], "--to", bounds[1]).returncode == 0
    assert rows(tmp_path / "p") == whole
    assert etl("run", path, "--reload").returncode == 0
    assert rows(tmp_path / "p") == whole


def faulty(answer: Any) -> Callable[[Any, Any], Any]:
    """Every third answer is wrong in one way or another."""
    count = iter(range(10**9))

    def meddle(asked: Any, real: Any) -> Any:
        number = next(count)
        if number % 3 or not real.body:
            return real
        half = real.body[: len(real.body) // 2]
        wrong = [answer(500), answer(429), answer(200, b"<html>It works!</html>"), answer(close=True)]
        wrong += [answer(200, half, length=len(real.body)), answer(200, half)]
        return wrong[number // 3 % len(wrong)]

    return meddle


def test_an_archive_that_fails_now_and_then_leaves_no_trace(
    sampled: Any, whole: Rows, tmp_path: Path, proxy: Any, answer: Any
) -> None:
    server = proxy(sampled.url, faulty(answer))
    path = write(tmp_path, server.url, source="page = 200")
    for _ in range(5):  # more often in a row than a request is tried, one may meet a fault: then the run says so
        done = etl("run", path)
        assert (done.returncode == 0) == ("not done: " not in done.stderr)
        if done.returncode == 0:
            break
    assert rows(tmp_path / "p") == whole


def test_one_bad_series_is_listed_and_does_not_stop_the_others(
    sampled: Any, whole: Rows, tmp_path: Path, proxy: Any, answer: Any
) -> None:
    broken = [True]

    def meddle(asked: Any, real: Any) -> Any:
        return answer(500, b'{"detail": "no such luck"}') if broken[0] and "/histogram-ttl/" in asked.path else real

    server = proxy(sampled.url, meddle)
    path = write(tmp_path, server.url)
    done = etl("run", path)
    assert done.returncode == 1
    assert "/histogram-ttl/base: GET http" in done.stderr
    assert "no such luck" in done.stderr
    assert rows(tmp_path / "p") == [row for row in whole if row[1] != "histogram-ttl"]
    failed = json.loads(etl("status", path, "--failed", "--json").stdout)["series"]
    assert {row["series"].split("/")[1] for row in failed} == {"histogram-ttl"}
    broken[0] = False
    asked = len(server.asked)
    assert etl("run", path).returncode == 0
    assert rows(tmp_path / "p") == whole
    assert {"/histogram-ttl/" in each.path for each in server.asked[asked + 1 :]} == {True}


def test_a_series_that_breaks_in_the_middle_is_left_out_whole(
    sampled: Any, whole: Rows, tmp_path: Path, proxy: Any, answer: Any
) -> None:
    def meddle(asked: Any, real: Any) -> Any:
        late = int(asked.query.get("time-start", 0)) > FROM + 9 * 86400
        return answer(400, b'{"detail": "halfway"}') if late and "/path-mtu/" in asked.path else real

    done = etl("run", write(tmp_path, proxy(sampled.url, meddle).url, source="page = 50"))
    assert done.returncode == 1
    found = rows(tmp_path / "p")
    assert [row for row in found if row[1] != "path-mtu"] == [row for row in whole if row[1] != "path-mtu"]
    kept = [row for row in found if row[1] == "path-mtu"]
    assert kept == [row for row in whole if row[1] == "path-mtu"][: len(kept)]


def test_changed_transforms_deliver_everything_again(sampled: Any, whole: Rows, tmp_path: Path) -> None:
    assert etl("run", write(tmp_path, sampled.url)).returncode == 0
    scale = '[[transform]]\ntype = "scale"\nevent_types = ["throughput"]\nfactor = 2.0'
    again = etl("run", write(tmp_path, sampled.url, more=scale))
    assert "have changed: everything is delivered again" in again.stdout
    doubled = [(*row[:3], row[3] * 2) if row[1] == "throughput" else row for row in whole]
    assert rows(tmp_path / "p") == doubled


def test_processes_leave_what_threads_leave(sampled: Any, whole: Rows, tmp_path: Path) -> None:
    done = etl("run", write(tmp_path, sampled.url), "--executor", "processes")
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(tmp_path / "p") == whole


def test_plan_says_what_a_run_would_read_and_reads_nothing(sampled: Any, tmp_path: Path) -> None:
    before = sampled.requests["GET"]
    planned = json.loads(etl("plan", write(tmp_path, sampled.url), "--json").stdout)
    assert sampled.requests["GET"] == before + 1
    assert {row["windows"] // row["series"] for row in planned["series"]} == {12}
    assert not (tmp_path / "p" / "event_type=throughput").exists()


def test_preview_shows_datapoints_after_the_transforms(sampled: Any, whole: Rows, tmp_path: Path) -> None:
    scale = '[[transform]]\ntype = "scale"\nevent_types = ["throughput"]\nfactor = 1e-9'
    path = write(tmp_path, sampled.url, source='event_types = ["throughput"]', more=scale)
    shown = [json.loads(line) for line in etl("preview", path, "-n", "2", "--json").stdout.splitlines()]
    keys = sorted({row[0] for row in whole if row[1] == "throughput"})
    expected = [row for key in keys for row in [each for each in whole if each[:2] == (key, "throughput")][:2]]
    assert sorted((row["ts"], row["val"]) for row in shown) == sorted((row[2], row[3] * 1e-9) for row in expected)
    assert not list((tmp_path / "p").rglob("*.parquet"))


def test_reset_forgets_and_the_next_run_delivers_again(sampled: Any, whole: Rows, tmp_path: Path) -> None:
    path = write(tmp_path, sampled.url)
    assert etl("run", path).returncode == 0
    assert "will be delivered again" in etl("reset", path, "--yes").stdout
    again = json.loads(etl("run", path, "--json").stdout)
    assert (again["read"], again["written"]) == (len(whole), len(whole))
    assert rows(tmp_path / "p") == whole


def test_verify_finds_the_one_datapoint_that_was_altered(sampled: Any, tmp_path: Path) -> None:
    path = write(tmp_path, sampled.url)
    assert etl("run", path).returncode == 0
    assert etl("verify", path).stdout.strip().endswith("all the same")
    file = next((tmp_path / "p" / "event_type=throughput").rglob("*.parquet"))
    table = pq.ParquetFile(file).read()
    values = table["val"].to_pylist()
    changed = table.set_column(table.schema.get_field_index("val"), "val", pa.array([values[0] + 1, *values[1:]]))
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), file)
    found = etl("verify", path, "--json")
    facts = json.loads(found.stdout)
    assert found.returncode == 1
    assert [(each["different"], each["missing"], each["extra"]) for each in facts["differing"]] == [(1, 0, 0)]
    assert facts["differing"][0]["first"][0]["sink"] == values[0] + 1


def test_a_wrong_command_line_and_a_dead_archive_are_told_apart(tmp_path: Path) -> None:
    assert etl("run", tmp_path / "missing.toml").returncode == 2
    dead = etl("run", write(tmp_path, "http://127.0.0.1:1/"))
    assert dead.returncode == 1
    assert "http://127.0.0.1:1/esmond/perfsonar/archive/" in dead.stderr
    assert "Traceback" not in dead.stderr


def test_the_demo_moves_everything_and_leaves_nothing_running(tmp_path: Path) -> None:
    done = etl("demo", "--days", "1", "--with", "delta,sql", cwd=tmp_path, env={**os.environ, "COLUMNS": "100"})
    assert done.returncode == 0, done.stderr
    [head] = [line for line in done.stdout.splitlines() if line.startswith("event type")]
    assert re.split(r"  +", head) == ["event type", "series", "mirrored", "in Parquet", "in Delta", "in SQL", "not the same"]
    [numbers] = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("all ")]
    assert (len(set(numbers[1:5])), numbers[5]) == (1, "0")
    again = etl("demo", "--days", "1", cwd=tmp_path)  # in the same place
    assert [line.split()[-1] for line in again.stdout.splitlines() if line.startswith("all ")] == ["0"]
    wrong = etl("demo", "--with", "lake", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr) == (2, "esmond-etl: --with lake: the demo knows delta, sql, influxdb\n")


def test_years_before_the_first_datapoint_cost_a_request_a_series(sampled: Any, whole: Rows, tmp_path: Path, proxy: Any) -> None:
    server = proxy(sampled.url, lambda asked, real: real)
    path = write(tmp_path, server.url, source='event_types = ["throughput"]')
    path.write_text(path.read_text().replace("from = 2024-03-04", "from = 1990-01-01"))
    assert etl("run", path).returncode == 0
    assert rows(tmp_path / "p") == [row for row in whole if row[1] == "throughput"]
    series = len({row[0] for row in whole if row[1] == "throughput"})
    assert server.count("GET", "/throughput/") <= 4 * series
    done = json.loads(etl("status", path, "--json").stdout)["series"]
    assert [(row["done_to"], row["gaps"]) for row in done] == [("2024-03-16", [])] * series


def failures_of(archive: Any, per_day: int, metadata: int = 1) -> list[tuple[int, Any]]:
    """What failures an archive has of each of some metadata in twelve days, 10 kB each."""
    record = next(iter(esmond_etl_archive.sample(days=1, hosts=2)))
    moments = range(FROM, TO, 86400 // per_day)
    points = [(ts, {"error": f"{ts}" + "x" * 10_000}) for ts in moments]
    for number in range(metadata):
        described = {**record["metadata"], "input-source": f"h{number}.example.net"}
        esmond_etl_archive.load(archive.archive, [{"metadata": described, "datapoints": {"failures": list(map(list, points))}}])
    return points


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are full, and too large, a thousand times as soon as they are."""
    monkeypatch.setattr(delivery, "FULL", delivery.FULL // 1000)
    monkeypatch.setattr(delivery, "TOO_LARGE", delivery.TOO_LARGE // 1000)


@pytest.mark.usefixtures("small_tasks")
def test_a_task_that_is_too_large_is_cut(archive: Any, tmp_path: Path) -> None:
    points = failures_of(archive, per_day=24)
    with show.watching("p", quiet=True) as watch:
        result = run(config.load(write(tmp_path, archive.url, source="page = 20")), watch)
    assert (result.sinks["sink[0] (parquet)"].written, result.complete) == (288, True)
    assert result.tasks > 4
    assert [(row[2], row[3]) for row in rows(tmp_path / "p")] == [
        (ts, json.dumps(val, separators=(",", ":"))) for ts, val in points
    ]


@pytest.mark.usefixtures("small_tasks")
def test_what_has_been_read_of_a_task_that_gets_too_large_is_delivered(archive: Any, tmp_path: Path) -> None:
    failures_of(archive, per_day=1, metadata=8)
    path = write(tmp_path, archive.url, head="parallel = 1", source='event_types = ["failures"]')
    with show.watching("p", quiet=True) as watch:
        result = run(config.load(path), watch)
    assert (result.read, result.complete, len(rows(tmp_path / "p"))) == (96, True, 96)
    assert result.tasks > 2
    assert result.received < 1.1 * 96 * 10_000  # nothing was read twice


def test_series_that_the_transforms_would_mix_are_told_and_kept_apart(sampled: Any, whole: Rows, tmp_path: Path) -> None:
    (tmp_path / "mixing.py").write_text(
        """
import esmond_etl


class Mix(esmond_etl.BatchTransform):
    def becomes(self, series):
        return series.replace(event_type="throughput")

    def apply_batch(self, batch):
        return batch.with_series(self.becomes(batch.series))


@esmond_etl.hookimpl
def esmond_etl_transforms():
    return {"mix": Mix}
"""
    )
    plugin = tmp_path / "mixing-1.dist-info"
    plugin.mkdir()
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: mixing\nVersion: 1\n")
    (plugin / "entry_points.txt").write_text("[esmond_etl]\nmixing = mixing\n")
    kinds = 'event_types = ["throughput", "packet-retransmits"]'
    path = write(tmp_path, sampled.url, source=kinds, more='[[transform]]\ntype = "mix"')
    done = etl("run", path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "the transforms make the same series of it" in done.stderr
    expected = {kind: [row[2:] for row in whole if row[1] == kind] for kind in ("throughput", "packet-retransmits")}
    assert sorted(row[2:] for row in rows(tmp_path / "p")) in [sorted(each) for each in expected.values()]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("backwards", "returned datapoints out of order"),
        ("in_pairs", "returned datapoints out of order"),
        ("pages_to_one_place", "returned datapoints out of order"),
        ("a_day_back", "returned a datapoint outside the task's interval"),
        ("a_day_on", "returned a datapoint outside the task's interval"),
    ],
)
def test_what_a_transform_moves_out_of_its_place_is_refused(sampled: Any, tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / f"moving_{name}.py").write_text(
        f"""
from array import array
from esmond_etl import Batch
from esmond_etl.model.columns import ts_column
START, DAY = {FROM}, 86400
def backwards(p): return p._replace(ts=2 * START + 2 * DAY - 300 - p.ts)
def in_pairs(p): return p._replace(ts=p.ts - 300 if p.ts // 300 % 2 else p.ts + 300)
def a_day_back(p): return p._replace(ts=p.ts - DAY)
def a_day_on(p): return p._replace(ts=p.ts + 2 * DAY)
def pages_to_one_place(batch: Batch):
    first = batch.moments[0]
    return Batch.of(batch.series, ts_column(array("q", [START + ts - first for ts in batch.moments])), batch.val)
"""
    )
    transform = f'[[transform]]\ntype = "python"\ncall = "moving_{name}:{name}"\npath = "{tmp_path}"'
    path = write(tmp_path, sampled.url, source='event_types = ["packet-count-sent"]\npage = 100', more=transform)
    done = etl("run", path, "--to", "2024-03-06")
    assert done.returncode == 1
    assert re.search(rf"/packet-count-sent/base( at \d+)?: transform\[0\] \(Python\) {sentence}", done.stderr)
    assert rows(tmp_path / "p") == []


def test_datapoints_on_stdout_stand_alone_there(sampled: Any, whole: Rows, tmp_path: Path) -> None:
    path = write(tmp_path, sampled.url, source='event_types = ["throughput"]')
    text = path.read_text()
    path.write_text(text[: text.index("[[sink]]")] + '[[sink]]\ntype = "stdout"\nformat = "jsonl"\n')
    done = etl("run", path)
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted((row["ts"], row["val"]) for row in printed) == sorted(row[2:] for row in whole if row[1] == "throughput")
    assert "datapoints read" in done.stderr


def test_what_went_wrong_is_json_for_programs_that_ask_for_it(tmp_path: Path, serve: Any, answer: Any) -> None:
    entry = {"metadata-key": "k", "event-types": [{"event-type": "throughput", "base-uri": "/k/throughput/base", "summaries": []}]}

    def respond(asked: Any) -> Any:
        return answer(400, b'{"detail": "no"}') if "throughput" in asked.path else answer(200, json.dumps([entry]).encode())

    path = write(tmp_path, serve(respond).url)
    said = [json.loads(line) for line in etl("run", path, env={**os.environ, "ESMOND_ETL_LOG": "json"}).stderr.splitlines()]
    assert [(line["series"], line["reason"].split(": ")[-2:]) for line in said] == [("k/throughput/base", ["status 400", "no"])]


def descendants(pid: int) -> list[int]:
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(each for child in children for each in descendants(child))]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_signal_from_the_terminal_ends_all_processes_without_a_traceback(sampled: Any, whole: Rows, tmp_path: Path) -> None:
    path = write(tmp_path, sampled.url)
    command = [sys.executable, "-m", "esmond_etl", "run", str(path), "--executor", "processes"]
    for count in (2, 4):  # while the first of them imports; when all are there
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        deadline = time.monotonic() + 20
        while len(descendants(process.pid)) < count and process.poll() is None:
            assert time.monotonic() < deadline
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode in (0, 1)
        assert "Traceback" not in output
    assert etl("run", path).returncode == 0
    assert rows(tmp_path / "p") == whole


def test_processes_end_with_the_one_that_started_them(sampled: Any, whole: Rows, tmp_path: Path, proxy: Any) -> None:
    victim: list[subprocess.Popen[str]] = []
    children: list[int] = []

    def meddle(asked: Any, real: Any) -> Any:
        if (
            victim and "time-end" in asked.query and asked.query["limit"] != "1"
        ):  # a page: asked for by one of the processes that move
            pid = victim.pop().pid
            children.extend(descendants(pid))
            os.kill(pid, signal.SIGKILL)
        return real

    path = write(tmp_path, proxy(sampled.url, meddle).url)
    process = subprocess.Popen(
        [sys.executable, "-m", "esmond_etl", "run", path, "--executor", "processes"], stdout=subprocess.PIPE, text=True
    )
    victim.append(process)
    process.wait(60)
    assert process.returncode == -signal.SIGKILL
    assert len(children) >= 4  # two that move, what they are forked from, what minds their semaphores
    deadline = time.monotonic() + 20
    while [pid for pid in children if is_alive(pid)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert etl("run", path).returncode == 0
    assert rows(tmp_path / "p") == whole
