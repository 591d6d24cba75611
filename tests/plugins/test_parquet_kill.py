"""The Parquet sink killed at any moment, beside readers, and beside others of its kind."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from esmond_etl_parquet.sink import ParquetSink

from esmond_etl import Context, Interval, Series, Task
from esmond_etl.testing import DAY, START, deliver, points_of, series
from esmond_etl.testing.crash import in_child, kill, watched
from esmond_etl.testing.datapoints import write

pytestmark = pytest.mark.slow

KEYS = ("k1", "k2", "k3", "k4")
SERIES = [series(name, key=key) for key in KEYS for name in ("throughput", "packet-count-sent")]
TWO_DAYS = Interval(START, START + 2 * DAY)
MIDDLE = Interval(START + DAY // 2, START + DAY + DAY // 2)

Held = dict[Series, dict[int, float]]


@contextmanager
def opened(path: Path) -> Iterator[ParquetSink]:
    sink = ParquetSink(path=str(path))
    sink.open(Context())
    try:
        yield sink
    finally:
        sink.close()


def every_hour(all_series: list[Series], interval: Interval, val: float) -> Held:
    return {each: dict.fromkeys(range(interval.start, interval.end, 3600), val) for each in all_series}


OLD = every_hour(SERIES, TWO_DAYS, 1.0)
TASK = every_hour(SERIES[:6], MIDDLE, 2.0) | {SERIES[6]: {}}  # the last has lost its datapoints
NEW = {
    each: {ts: val for ts, val in points.items() if each not in TASK or not MIDDLE.start <= ts < MIDDLE.end} | TASK.get(each, {})
    for each, points in OLD.items()
}


def points(held: Held) -> dict[Series, list[tuple[int, float]]]:
    return {each: sorted(points.items()) for each, points in held.items()}


def deliver_old(path: Path) -> None:
    with opened(path) as sink:
        for group in (SERIES[:3], SERIES[3:]):
            deliver(sink, {each: list(OLD[each].items()) for each in group}, TWO_DAYS)


def deliver_task(path: Path, moment: int = -1) -> None:
    """Deliver `TASK`, killed at a call inside commit."""
    with opened(path) as sink:
        load = sink.begin(Task(tuple(TASK), MIDDLE, DAY // 2))
        for each, held in TASK.items():
            write(load, each, sorted(held.items()))
            load.end(each)
        with watched(lambda count: kill() if count == moment else None):
            load.commit()


def seen_by_a_reader(path: Path) -> Counter[tuple[str, str, int, float]]:
    """Every row of every file that a glob finds; raises FileNotFoundError if one of them has gone by then."""
    found: Counter[tuple[str, str, int, float]] = Counter()
    for file in sorted(path.glob("**/*.parquet")):
        table = pq.ParquetFile(file).read(["metadata_key", "ts", "val"])
        event_type = file.relative_to(path).parts[0].removeprefix("event_type=")
        moments = table.column("ts").cast(pa.timestamp("s", "UTC")).cast(pa.int64()).to_pylist()
        rows = zip(table.column("metadata_key").to_pylist(), moments, table.column("val").to_pylist(), strict=True)
        found.update((event_type, key, ts, val) for key, ts, val in rows)
    return found


def twice(rows: Counter[tuple[str, str, int, float]]) -> list[tuple[tuple[str, str, int], int]]:
    """The series and moments that a reader sees more than once."""
    moments = Counter((event_type, key, ts) for event_type, key, ts, _ in rows.elements())
    return [each for each in moments.items() if each[1] > 1]


def held_by(sink: ParquetSink) -> dict[Series, list[tuple[int, float]]]:
    return {each: [tuple(point) for point in points_of(sink.read(each, TWO_DAYS))] for each in SERIES}


def calls_of_a_commit(path: Path) -> int:
    reader, writer = os.pipe()

    def count() -> None:
        seen = [0]
        with opened(path) as sink:
            load = sink.begin(Task(tuple(TASK), MIDDLE, DAY // 2))
            for each, held in TASK.items():
                write(load, each, sorted(held.items()))
                load.end(each)
            with watched(seen.append):
                load.commit()
        os.write(writer, str(max(seen)).encode())

    assert in_child(count) == 0
    os.close(writer)
    with os.fdopen(reader) as pipe:
        return int(pipe.read())


def test_a_kill_at_any_moment_of_a_commit_leaves_all_of_a_task_or_nothing(tmp_path: Path) -> None:
    deliver_old(tmp_path / "counted")
    calls = calls_of_a_commit(tmp_path / "counted")
    outcomes = Counter[str]()
    for moment in [*range(1, calls, calls // 8), *range(calls - calls // 8, calls, calls // 100)]:  # the journal comes late
        path = tmp_path / str(moment)
        deliver_old(path)
        code = in_child(lambda path=path, moment=moment: deliver_task(path, moment))  # type: ignore[misc]
        assert code in (-signal.SIGKILL, 0)  # the last of the counted calls may not come
        assert twice(seen_by_a_reader(path)) == [], f"killed at call {moment} of {calls}"
        with opened(path) as sink:
            held = held_by(sink)
            assert held in (points(OLD), points(NEW)), f"killed at call {moment} of {calls}"
            outcomes["unharmed" if code == 0 else "new" if held == points(NEW) else "old"] += 1
            assert twice(seen_by_a_reader(path)) == []
        assert not list(path.glob("_staging/*"))
        deliver_task(path)
        with opened(path) as sink:
            assert held_by(sink) == points(NEW)
        assert not list(tmp_path.glob(".*"))  # beside the tree folders are staged
    assert min(outcomes["new"], outcomes["old"]) > 3


def test_the_next_commit_finishes_what_a_killed_one_had_begun(tmp_path: Path) -> None:
    deliver_old(tmp_path / "counted")
    calls = calls_of_a_commit(tmp_path / "counted")
    other = series("throughput", key="k9")
    for number in range(6):
        path = tmp_path / str(number)
        deliver_old(path)
        with opened(path) as sink:  # it was open before, and stays open
            assert in_child(lambda path=path, moment=calls * (52 + number * 2) // 64: deliver_task(path, moment)) == -signal.SIGKILL  # type: ignore[misc]
            deliver(sink, {other: [(START, 1.0)]}, TWO_DAYS)
            assert held_by(sink) in (points(OLD), points(NEW))
            assert points_of(sink.read(other, TWO_DAYS)) == [(START, 1.0)]


def test_a_reader_beside_a_writer_sees_no_point_twice_none_too_few_and_no_half_file(tmp_path: Path) -> None:
    deliver_old(tmp_path)
    child = os.fork()
    if child == 0:
        try:
            for _ in range(12):
                deliver_task(tmp_path)
                deliver_old(tmp_path)
        except BaseException:
            os._exit(70)
        os._exit(0)
    lasting = {(each.event_type, each.metadata.key, ts) for each in SERIES if each != SERIES[6] for ts in OLD[each]}
    looks = 0
    done = 0
    while not done:
        done, status = os.waitpid(child, os.WNOHANG)
        try:
            found = seen_by_a_reader(tmp_path)
            assert twice(found) == []
            assert {(event_type, key, ts) for event_type, key, ts, _ in found} >= lasting
            looks += 1
        except FileNotFoundError:  # replaced since the reader listed it: it must list again
            continue
    assert os.waitstatus_to_exitcode(status) == 0
    assert looks > 5


def test_processes_that_write_to_one_path_at_once_lose_nothing(tmp_path: Path) -> None:
    hours = range(0, 48, 6)

    def write_alone(key: str) -> None:
        mine = [each for each in SERIES if each.metadata.key == key]
        for hour in hours:
            interval = Interval(START + hour * 3600, START + (hour + 6) * 3600)
            with opened(tmp_path) as sink:
                deliver(sink, {each: [(interval.start, float(hour))] for each in mine}, interval, 3600)

    children = []
    for key in KEYS:
        child = os.fork()
        if child == 0:
            try:
                write_alone(key)
            except BaseException:
                os._exit(70)
            os._exit(0)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * len(KEYS)
    with opened(tmp_path) as sink:
        assert held_by(sink) == {each: [(START + hour * 3600, float(hour)) for hour in hours] for each in SERIES}
    assert sorted(pq.ParquetFile(tmp_path / "metadata/_table.pq").read().column("metadata_key").to_pylist()) == list(KEYS)


@pytest.mark.parametrize("moment", ["before the commit", "never begun"])
def test_what_a_killed_run_left_is_cleared_away_but_not_what_a_living_one_is_writing(tmp_path: Path, moment: str) -> None:
    def die() -> None:
        sink = ParquetSink(path=str(tmp_path))
        sink.open(Context())
        if moment == "before the commit":
            load = sink.begin(Task(tuple(TASK), MIDDLE, DAY))
            write(load, SERIES[0], [(MIDDLE.start, 1.0)])
        kill()

    with opened(tmp_path):
        mine = set(tmp_path.glob("_staging/*"))
        assert in_child(die) == -signal.SIGKILL
        assert len(set(tmp_path.glob("_staging/*"))) == 2
        with opened(tmp_path):
            assert len(set(tmp_path.glob("_staging/*"))) == 2
            assert mine < set(tmp_path.glob("_staging/*"))
        assert set(tmp_path.glob("_staging/*")) == mine
    assert not list(tmp_path.glob("_staging/*"))
