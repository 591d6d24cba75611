"""Delta tables that several processes write to at once, and that are killed; on a disk and in an object store."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from esmond_etl_archive.samples import START
from esmond_etl_delta.sink import DeltaSink
from esmond_etl_delta.source import DeltaSource

from esmond_etl import Context, Interval, Sink, Source
from esmond_etl.testing import DAY, SinkSuite, points_of
from esmond_etl.testing import START as FIRST

pytestmark = pytest.mark.slow

WRITERS = 4
KILLS = int(os.environ.get("ESMOND_ETL_KILLS", "6"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An archive with samples of two days."""
    store = esmond_etl_archive.Archive(tmp_path_factory.mktemp("source") / "source.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=2, hosts=3))
    with esmond_etl_archive.serve(store) as running:
        yield running


def pipeline(folder: Path, url: str, sink: str) -> Path:
    file = folder / "to-delta.toml"
    times = f'from = {START}\nto = {START + 2 * DAY}\nwindow = "3h"\n'
    file.write_text(f'{times}[source]\ntype = "esmond"\nurl = "{url}"\n[[sink]]\ntype = "delta"\n{sink}\n')
    return file


def started(file: Path, number: int, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "esmond_etl", "run", str(file), "--shard", f"{number}/{WRITERS}", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def twice(table: Path) -> list[Any]:
    """What is in a table more than once, by summary, key and time."""
    columns = DeltaTable(table).to_pyarrow_table(columns=["summary", "metadata_key", "ts"])
    rows = zip(*(column.cast(pa.string()).to_pylist() for column in columns.columns), strict=True)
    return [row for row, times in Counter(rows).items() if times > 1]


def test_writers_that_are_killed_leave_each_row_once(filled: Any, tmp_path: Path) -> None:
    file = pipeline(tmp_path, filled.url, 'path = "lake"')
    rnd, killed = random.Random(1), 0
    running = {number: started(file, number) for number in range(1, WRITERS + 1)}
    while killed < KILLS:
        victim = rnd.choice(sorted(running))
        try:
            running[victim].wait(rnd.uniform(0.4, 1.2))
        except subprocess.TimeoutExpired:
            running[victim].kill()
        killed += running[victim].wait() == -signal.SIGKILL
        anew = ["--reload"] if running[victim].returncode == 0 else []  # it is done: there must be something to kill
        running[victim] = started(file, victim, *anew)
    codes = [process.wait(120) for process in running.values()]
    codes = [started(file, number).wait(120) for number in range(1, WRITERS + 1)]
    assert codes == [0] * WRITERS
    done = subprocess.run(
        [sys.executable, "-m", "esmond_etl", "verify", str(file), "--json"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, json.loads(done.stdout)["differing"]) == (0, [])
    tables = [path for path in (tmp_path / "lake").iterdir() if path.name not in ("metadata", "owners")]
    assert len(tables) > 3
    assert [twice(table) for table in tables] == [[]] * len(tables)


@pytest.fixture
def storage(s3: str, s3_server: str) -> tuple[str, dict[str, str]]:
    """The URL of an empty bucket, and how to reach it."""
    storage = {
        "AWS_ENDPOINT_URL": f"http://{s3_server}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "geheim",
    }
    return s3.partition("?")[0], storage


class TestSinkInS3(SinkSuite):
    forks = False

    @pytest.fixture(autouse=True)
    def bucket(self, storage: tuple[str, dict[str, str]]) -> None:
        self.url, self.storage = storage

    def sink(self, tmp_path: Path) -> Sink:
        return DeltaSink(path=self.url, storage=self.storage)


RACER = """
import json, sys
from esmond_etl import Context, Interval
from esmond_etl.testing import DAY, START, deliver, series
from esmond_etl_delta.sink import DeltaSink
url, storage, number = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
sink = DeltaSink(path=url, storage=storage)
sink.open(Context())
print("ready", flush=True)
sys.stdin.readline()
for turn in range(4):
    moments = [(START + hour * 3600, number * 100.0 + turn) for hour in range(24)]
    given = {series("throughput", key=key): moments for key in ("same", f"own{number}")}
    deliver(sink, given, Interval(START, START + DAY))
"""


def test_processes_that_race_for_one_object_store_lose_nothing(storage: tuple[str, dict[str, str]]) -> None:
    url, how = storage
    command = [sys.executable, "-c", RACER, url, json.dumps(how)]
    pipe: Any = subprocess.PIPE
    racers = [subprocess.Popen([*command, str(number)], stdin=pipe, stdout=pipe, stderr=pipe, text=True) for number in range(3)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    said = [racer.communicate("go\n", timeout=200)[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 3, said
    source: Source = DeltaSource(path=url, storage=how)
    source.open(Context())
    day = Interval(FIRST, FIRST + DAY)
    held = {each.metadata.key: points_of(source.read(each, day)) for each in source.series(day)}
    assert {key: {val for _, val in points} for key, points in held.items() if key != "same"} == {
        f"own{number}": {number * 100.0 + 3} for number in range(3)
    }
    assert [len(points) for points in held.values()] == [24] * 4
    assert len({val for _, val in held["same"]}) == 1
    table = DeltaTable(f"{url}/throughput", storage_options=how)
    assert sum("esmond_etl.tasks" in commit for commit in table.history()) == 12


def test_secrets_of_a_store_are_not_printed(tmp_path: Path, storage: tuple[str, dict[str, str]]) -> None:
    url, how = storage
    sink = DeltaSink(path=url, storage={**how, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert "geheim" not in repr(sink)
