"""The Parquet sink and source in an object store: a real S3 server in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from esmond_etl_parquet.compact import compact
from esmond_etl_parquet.sink import ParquetSink
from esmond_etl_parquet.source import ParquetSource
from esmond_etl_parquet.tree import Tree
from esmond_etl_parquet.turns import LEASE, clear_dead

from esmond_etl import Context, Interval, Series, Sink, SinkError, Source
from esmond_etl.testing import DAY, START, Points, SinkSuite, SourceSuite, deliver, points_of, series

pytestmark = pytest.mark.slow

SERIES = [series(name, key=key) for key in ("k1", "k2", "k3", "k4") for name in ("throughput", "histogram-owdelay")]
DAYS = Interval(START, START + 2 * DAY)
HALF = Interval(START + DAY // 2, START + DAY + DAY // 2)


class TestSinkInS3(SinkSuite):
    kills = 3

    @pytest.fixture(autouse=True)
    def bucket(self, s3: str) -> None:
        self.url = s3

    def sink(self, tmp_path: Path) -> Sink:
        return ParquetSink(path=self.url)


class TestSourceInS3(SourceSuite):
    interval = DAYS

    @pytest.fixture(autouse=True)
    def exported(self, s3: str) -> None:
        self.url = s3
        with opened(s3) as sink:
            deliver(sink, points(1), DAYS)

    def source(self, tmp_path: Path) -> Source:
        return ParquetSource(path=self.url)

    def expected(self) -> Mapping[str, Points]:
        return {str(each): held for each, held in points(1).items()}


@contextmanager
def opened(url: str) -> Iterator[ParquetSink]:
    sink = ParquetSink(path=url)
    sink.open(Context())
    try:
        yield sink
    finally:
        sink.close()


def points(number: int, chosen: list[Series] = SERIES, interval: Interval = DAYS, step: int = 3600) -> dict[Series, Points]:
    """A datapoint an hour of each series, with values that tell one delivery from another."""
    moments = range(interval.start, interval.end, step)
    return {each: [(ts, float(number) if each.holds_numbers else {"1": number}) for ts in moments] for each in chosen}


def replaced(old: dict[Series, Points], new: dict[Series, Points], interval: Interval) -> dict[Series, Points]:
    """What is held once `new` has come for `interval`."""
    return {
        each: sorted([*(point for point in held if each not in new or point[0] not in range(*interval)), *new.get(each, [])])
        for each, held in old.items()
    }


def objects(url: str) -> list[str]:
    """What is in the bucket, but for what stands for a folder."""
    fs, root = pafs.FileSystem.from_uri(url)
    infos = fs.get_file_info(pafs.FileSelector(root, recursive=True))
    return sorted(info.path.removeprefix(f"{root}/") for info in infos if info.type == pafs.FileType.File)


def seen_by_a_reader(url: str) -> Counter[tuple[str, str, int, str]]:
    """Every row of every file that a listing shows; raises FileNotFoundError if one of them has gone by then."""
    fs, root = pafs.FileSystem.from_uri(url)
    found: Counter[tuple[str, str, int, str]] = Counter()
    for path in objects(url):
        if path.startswith("event_type="):
            table = pq.read_table(f"{root}/{path}", filesystem=fs, columns=["metadata_key", "ts", "val"], partitioning=None)
            ts = table.column("ts").cast(pa.timestamp("s", "UTC")).cast(pa.int64()).to_pylist()
            rows = zip(table.column("metadata_key").to_pylist(), ts, map(str, table.column("val").to_pylist()), strict=True)
            found.update((path.split("/")[0], *row) for row in rows)
    return found


def twice(rows: Counter[tuple[str, str, int, str]]) -> list[Any]:
    moments = Counter(row[:3] for row in rows.elements())
    return [each for each in moments.items() if each[1] > 1]


def held_by_source(url: str) -> dict[Series, Points]:
    """What the source reads, which finishes what was begun."""
    source = ParquetSource(path=url)
    source.open(Context())
    return {each: [tuple(point) for point in points_of(source.read(each, DAYS))] for each in SERIES}


#: Deliver half of everything anew, killed at a call inside the commit of what speaks with the store; prints how many calls that made.
DELIVER = """
import json, sys
from esmond_etl import Context, Interval, Task
from esmond_etl.testing import DAY, START, series
from esmond_etl.testing.crash import kill
from esmond_etl.testing.datapoints import write
from esmond_etl_parquet.sink import ParquetSink
url, keys, start, end, number, moment = json.loads(sys.argv[1])
sink = ParquetSink(path=url)
sink.open(Context())
given = {
    series(name, key=key): [(ts, float(number) if name == "throughput" else {"1": number}) for ts in range(start, end, 3600)]
    for key in keys for name in ("throughput", "histogram-owdelay")
}
load = sink.begin(Task(tuple(given), Interval(start, end), 3600))
for each, points in given.items():
    write(load, each, points)
    load.end(each)
calls = 0
def watch(frame, event, argument):
    global calls
    if event == "call" and frame.f_code.co_filename.endswith(("tree.py", "turns.py")):
        calls += 1
        if calls == moment:
            kill()
sys.setprofile(watch)
load.commit()
sys.setprofile(None)
sink.close()
print(calls)
"""


def process(url: str, keys: list[str], interval: Interval, number: int, moment: int = -1) -> subprocess.Popen[str]:
    argument = json.dumps([url, keys, *interval, number, moment])
    return subprocess.Popen([sys.executable, "-c", DELIVER, argument], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(child: subprocess.Popen[str]) -> tuple[int, str]:
    out, error = child.communicate(timeout=120)
    assert child.returncode in (0, -signal.SIGKILL), error
    return child.returncode, out


def test_nothing_but_data_is_left_behind_and_secrets_are_nowhere(s3: str) -> None:
    with opened(s3) as sink:
        deliver(sink, points(1), DAYS)
        deliver(sink, points(2, SERIES[:3], HALF), HALF)
    found = objects(s3)
    assert {path.split("/")[0] for path in found} == {"metadata", *(f"event_type={each.event_type}" for each in SERIES)}
    assert seen_by_a_reader(s3).total() == len(SERIES) * 48
    assert not [path for path in found if "secret" in path]


@pytest.mark.timeout(600)
def test_a_kill_at_any_moment_of_a_commit_leaves_all_of_a_task_or_nothing(s3: str) -> None:
    old, keys = points(0), ["k1", "k2"]
    new = replaced(old, points(1, [each for each in SERIES if each.metadata.key in keys], HALF), HALF)

    def held_after_a_kill(place: str, moment: int) -> tuple[int, str, dict[Series, Points]]:
        url = s3.replace("/out?", f"/{place}?")
        with opened(url) as sink:
            for group in (SERIES[:3], SERIES[3:]):
                deliver(sink, {each: old[each] for each in group}, DAYS)
        code, said = ended(process(url, keys, HALF, 1, moment))
        assert twice(seen_by_a_reader(url)) == [], f"killed at call {moment}"
        held = held_by_source(url)
        rows = seen_by_a_reader(url)
        assert (twice(rows), rows.total()) == ([], len(SERIES) * 48)
        with opened(url):
            pass
        assert not [path for path in objects(url) if path.startswith("_staging")]
        return code, said, held

    code, said, held = held_after_a_kill("counted", -1)
    assert (code, held) == (0, new)
    calls, outcomes = int(said), Counter[str]()
    for moment in [*range(1, calls, calls // 2), *range(calls // 2, calls, calls // 7)]:
        code, _, held = held_after_a_kill(str(moment), moment)
        assert (code, held in (old, new)) == (-signal.SIGKILL, True), f"killed at call {moment} of {calls}"
        outcomes["new" if held == new else "old"] += 1
    assert min(outcomes["new"], outcomes["old"]) > 0, outcomes


def test_processes_that_write_to_one_path_at_once_lose_nothing(s3: str) -> None:
    with opened(s3) as sink:
        deliver(sink, points(0), DAYS)  # every file is about every series: each process takes its own out of them
    children = [process(s3, [key], HALF, number) for number, key in enumerate(("k1", "k2", "k3", "k4"), 1)]
    assert [ended(child)[0] for child in children] == [0] * 4
    expected = points(0)
    for each in SERIES:
        expected = replaced(expected, points(int(each.metadata.key[1]), [each], HALF), HALF)
    assert held_by_source(s3) == expected
    rows = seen_by_a_reader(s3)
    assert (twice(rows), rows.total()) == ([], len(SERIES) * 48)


def test_one_that_was_killed_in_its_turn_holds_nobody_up(s3: str) -> None:
    with opened(s3) as sink:
        moment = 0
        while not [path for path in objects(s3) if path.endswith(".turn")]:
            moment += 4
            assert ended(process(s3, ["k1"], HALF, 1, moment))[0] == -signal.SIGKILL
        with opened(s3.replace("/out?", "/elsewhere?")):  # what it clears must not hide that the ticket's owner is dead
            pass
        deliver(sink, points(2), DAYS)
        assert not [path for path in objects(s3) if path.startswith("_staging")]
    assert held_by_source(s3) == points(2)


def test_the_folder_of_a_dead_process_stays_for_a_lease_after_it_was_found(tmp_path: Path) -> None:
    folder = tmp_path / "dead"
    folder.mkdir()
    (folder / "upload").touch()
    os.utime(folder, (0, 0))  # the process did nothing for a long time before it died
    for _ in range(2):
        clear_dead([folder], kept=LEASE)
        (found,) = folder.iterdir()
    os.utime(found, (time.time() - LEASE, time.time() - LEASE))
    clear_dead([folder], kept=LEASE)
    assert not folder.exists()


def test_hourly_loads_are_merged(s3: str) -> None:
    with opened(s3) as sink:
        for hour in range(5):
            interval = Interval(START + hour * 3600, START + (hour + 1) * 3600)
            deliver(sink, points(1, interval=interval), interval, 3600)
    before = seen_by_a_reader(s3)
    assert len(objects(s3)) == 5 * 2 + 1
    tree = Tree(s3)
    tree.open()
    try:
        assert [(each.before, each.after) for each in compact(tree)] == [(5, 1)] * 2
    finally:
        tree.close()
    assert seen_by_a_reader(s3) == before
    assert len(objects(s3)) == 2 + 1


def test_a_bucket_that_there_is_not_cannot_be_reached(s3: str) -> None:
    ParquetSink(path=s3).reach(Context())
    with pytest.raises(SinkError, match="there is no bucket 'bucket-nobody-made': make it, or check `path`"):
        ParquetSink(path=re.sub(r"@bucket\w+", "@bucket-nobody-made", s3)).reach(Context())
