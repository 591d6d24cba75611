"""The suites that plugins are tested with: right stages pass them, wrong ones do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from esmond_etl_parquet.sink import ParquetSink
from esmond_etl_transforms.scale import Scale

from esmond_etl import Batch, DataPoint, Interval, Series, Sink, SinkError, Source, SourceError
from esmond_etl.testing import (
    DAY,
    START,
    CollectedSink,
    RecordedSource,
    SinkSuite,
    SourceSuite,
    deliver,
    points_of,
    series,
    through,
)

pytestmark = pytest.mark.slow

THROUGHPUT = series()
HISTOGRAM = series("histogram-owdelay")
PAGES: dict[Series, list[list[tuple[int, Any]]]] = {
    THROUGHPUT: [[(START, 1.0), (START + 60, 2.0)], [(START + 120, 3.0)]],
    HISTOGRAM: [[(START, {"10": 2})], [(START + 60, {"11": 1})]],
}


class TestRecordedSource(SourceSuite):
    """The recorded source is a source."""

    interval = Interval(START, START + DAY)

    def source(self, tmp_path: Path) -> Source:
        return RecordedSource(recorded=PAGES)

    def broken(self, tmp_path: Path) -> Source:
        return RecordedSource(recorded=PAGES, failures={HISTOGRAM: 1})

    def expected(self) -> dict[str, list[tuple[int, Any]]]:
        return {
            "a1/throughput/base": [(START, 1.0), (START + 60, 2.0), (START + 120, 3.0)],
            "a1/histogram-owdelay/base": [(START, {"10": 2}), (START + 60, {"11": 1})],
        }


class TestCollectedSink(SinkSuite):
    """The collecting sink is a sink."""

    def sink(self, tmp_path: Path) -> Sink:
        self.memory: dict[Any, Any] = getattr(self, "memory", {})
        return CollectedSink(held=self.memory)


class TestParquetSink(SinkSuite):
    """A sink that leads to files."""

    def sink(self, tmp_path: Path) -> Sink:
        return ParquetSink(path=str(tmp_path / "out"))


def test_a_recorded_source_fails_after_as_many_pages_as_it_is_told_until_that_is_taken_back() -> None:
    source = RecordedSource(recorded=PAGES, failures={THROUGHPUT: 1})
    interval = Interval(START, START + DAY)
    read: list[Batch] = []
    with pytest.raises(SourceError, match="a1/throughput/base: told to fail after 1 pages"):
        read.extend(source.read(THROUGHPUT, interval))
    source.failures.clear()
    assert points_of(source.read(THROUGHPUT, interval)) == [(START, 1.0), (START + 60, 2.0), (START + 120, 3.0)]
    assert source.asked == [(THROUGHPUT, interval)] * 2


def test_a_collecting_sink_fails_where_it_is_told_to_and_keeps_nothing_of_it() -> None:
    given: dict[Series, list[DataPoint]] = {THROUGHPUT: [DataPoint(START, 1.0)]}
    for moment in ("begin", "write", "commit"):
        sink = CollectedSink(failing=moment)
        with pytest.raises(SinkError, match=f"told to fail at {moment}"):
            deliver(sink, given, Interval(START, START + DAY))
        assert sink.points(THROUGHPUT) == []


def test_a_transform_is_tried_on_pages_of_a_series() -> None:
    assert through(Scale(factor=2.0), THROUGHPUT, *PAGES[THROUGHPUT]) == [(START, 2.0), (START + 60, 4.0), (START + 120, 6.0)]


WRONG = """
    import json, os
    from pathlib import Path
    from esmond_etl import Batch, DataPoint, Load, Receipt, Sink
    from esmond_etl.testing import SinkSuite

    class Wrong(Load):
        def __init__(self, sink, task):
            self.sink, self.task, self.points, self.ended = sink, task, {}, set()
        def write(self, batch):
            held = self.points.setdefault(str(batch.series), [])
            held.extend(map(list, batch.to_points()))
        def end(self, series):
            self.ended.add(str(series))
        def commit(self):
            count = 0
            with self.sink.file() as file:
                held = json.loads(file.read_text()) if file.exists() else {}
                CHANGE
                text = json.dumps(held)
                SAVE
            return Receipt(count)
        def rollback(self):
            self.points.clear()

    class WrongSink(Sink):
        path: str
        def file(self):
            from contextlib import contextmanager
            import fcntl
            @contextmanager
            def locked():
                with open(self.path + ".lock", "w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    yield Path(self.path)
            return locked()
        def begin(self, task):
            return Wrong(self, task)

    class TestWrong(SinkSuite):
        def sink(self, tmp_path):
            return WrongSink(path=str(tmp_path / "file"))
        def delivered(self, sink, series):
            path = Path(sink.path)
            held = json.loads(path.read_text()) if path.exists() else {}
            return [DataPoint(*point) for point in sorted(held.get(str(series), []))]
"""
REPLACE = """for name in self.ended:
                    points = self.points.get(name, [])
                    start, end = self.task.interval
                    kept = [point for point in held.get(name, []) if not start <= point[0] < end]
                    held[name] = kept + points
                    count += len(points)"""
ATOMIC = """aside = file.with_suffix(".new"); aside.write_text(text); os.replace(aside, file)"""


def _failures(tmp_path: Path, change: str, save: str = ATOMIC) -> list[str]:
    """The tests of the suite that a sink fails whose commit changes and saves its file like this."""
    test = tmp_path / "test_wrong.py"
    test.write_text(dedent(WRONG).replace("CHANGE", change).replace("SAVE", save))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=no",
        "-rf",
        "--rootdir",
        str(tmp_path),
        str(test),
    ]
    out = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False).stdout
    assert " passed" in out, out
    failed = [line.split("::")[-1].split(" - ")[0] for line in out.splitlines() if line.startswith("FAILED")]
    return sorted(name.removeprefix("test_") for name in failed)


def test_a_sink_that_keeps_everything_in_one_file_passes(tmp_path: Path) -> None:
    assert _failures(tmp_path, REPLACE) == []


def test_the_suite_finds_a_sink_that_appends(tmp_path: Path) -> None:
    change = REPLACE.replace("if not start <= point[0] < end", "")
    found = _failures(tmp_path, change)
    assert {"delivering_twice_is_delivering_once", "a_part_of_the_time_is_replaced_alone"} <= set(found)


def test_the_suite_finds_a_sink_that_replaces_a_whole_series(tmp_path: Path) -> None:
    change = REPLACE.replace("kept + points", "points")
    assert _failures(tmp_path, change) == [
        "a_part_of_the_time_is_replaced_alone",
        "days_that_are_added_leave_the_others_as_they_are",
    ]


def test_the_suite_finds_a_sink_that_never_clears_what_is_gone(tmp_path: Path) -> None:
    change = REPLACE.replace("if not start <= point[0] < end", "if point[0] not in {ts for ts, _ in points}")
    assert _failures(tmp_path, change) == [
        "a_part_of_the_time_is_replaced_alone",
        "a_series_without_datapoints_leaves_none",
    ]


def test_the_suite_finds_a_sink_that_commits_what_did_not_end(tmp_path: Path) -> None:
    change = REPLACE.replace("in self.ended", "in self.points")
    assert "a_series_that_broke_off_stays_as_it_was" in _failures(tmp_path, change)


def test_the_suite_finds_a_sink_that_a_kill_leaves_half_a_file_of(tmp_path: Path) -> None:
    save = "parts = [text[i:i+99] for i in range(0, len(text), 99)]; out = open(file, 'w'); "
    save += "[(out.write(part), out.flush()) for part in parts]; out.close()"
    assert _failures(tmp_path, REPLACE, save) == ["a_kill_at_any_moment_of_a_commit_harms_nothing"]


def test_pytest_is_needed_by_the_suites_alone() -> None:
    code = "import esmond_etl.testing, sys; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
