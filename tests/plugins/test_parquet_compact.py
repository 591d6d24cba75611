"""Small files are merged into few: no row is lost, doubled or altered, whatever happens meanwhile."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import uniform
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from esmond_etl_parquet.compact import compact
from esmond_etl_parquet.sink import ParquetSink
from esmond_etl_parquet.tree import Tree

from esmond_etl import ConfigError, Context, Interval, Series
from esmond_etl.cli.compact import command
from esmond_etl.testing import DAY, START, deliver, points_of, series
from esmond_etl.testing.crash import in_child, kill, watched

pytestmark = pytest.mark.slow

GROUPS = [
    [series(name, key=f"{group}{number}") for number in range(3) for name in ("throughput", "histogram-owdelay")] for group in "ab"
]
SERIES = [each for group in GROUPS for each in group]
HOURS = 30
Rows = Counter[tuple[str, str, Any, str]]


@contextmanager
def opened(path: Path) -> Iterator[ParquetSink]:
    sink = ParquetSink(path=str(path))
    sink.open(Context())
    try:
        yield sink
    finally:
        sink.close()


def value(of: Series, hour: int) -> Any:
    return {"1": hour} if of.event_type == "histogram-owdelay" else float(hour)


def deliver_hour(sink: ParquetSink, hour: int, shift: int = 0) -> None:
    start = START + hour * 3600
    for group in GROUPS:
        deliver(sink, {each: [(start + 60, value(each, hour + shift))] for each in group}, Interval(start, start + 3600), 3600)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A day and a quarter, loaded hour by hour and group by group."""
    with opened(tmp_path / "out") as sink:
        for hour in range(HOURS):
            deliver_hour(sink, hour)
    return tmp_path / "out"


def rows(path: Path) -> Rows:
    """Every row of every file that a glob finds; raises FileNotFoundError if one of them has gone by then."""
    found: Rows = Counter()
    for file in sorted(path.glob("**/*.parquet")):
        table = pq.ParquetFile(file).read()
        event_type = file.relative_to(path).parts[0]
        found.update((event_type, row["metadata_key"], row["ts"], str(row)) for row in table.to_pylist())
    return found


def files_by_folder(path: Path) -> dict[str, int]:
    return dict(Counter(str(file.parent.relative_to(path)) for file in path.glob("**/*.parquet")))


def compact_all(path: Path, at: Callable[[int], object] | None = None) -> None:
    tree = Tree(str(path))
    tree.open()
    try:
        if at is None:
            list(compact(tree))
        else:
            with watched(at):
                list(compact(tree))
    finally:
        tree.close()


def test_no_day_has_more_than_two_files_and_the_rows_are_the_same(tree: Path) -> None:
    before = rows(tree)
    assert set(files_by_folder(tree).values()) == {48, 12}
    compact_all(tree)
    assert set(files_by_folder(tree).values()) == {1}
    assert rows(tree) == before
    assert before.total() == HOURS * len(SERIES)


def test_what_is_merged_can_be_delivered_again(tree: Path) -> None:
    compact_all(tree)
    with opened(tree) as sink:
        deliver_hour(sink, 5, shift=100)
        deliver_hour(sink, HOURS)
        held = {each: points_of(sink.read(each, Interval(START, START + 2 * DAY))) for each in SERIES}
    shifts = {5: 105}
    assert held == {
        each: [(START + hour * 3600 + 60, value(each, shifts.get(hour, hour))) for hour in range(HOURS + 1)] for each in SERIES
    }
    compact_all(tree)
    assert max(files_by_folder(tree).values()) <= 2


def test_a_large_file_is_not_written_again_for_a_few_small_ones(tmp_path: Path) -> None:
    path = tmp_path / "out"
    of = series("throughput", key="k1")
    with opened(path) as sink:
        whole = Interval(START, START + DAY // 2)
        deliver(sink, {of: [(ts, uniform(0, 1)) for ts in range(whole.start, whole.end, 2)]}, whole)
        large = next(path.glob("**/*.parquet"))
        for hour in range(12, 18):
            start = START + hour * 3600
            deliver(sink, {of: [(start, float(hour))]}, Interval(start, start + 3600), 3600)
    identity, before = large.stat(), rows(path)
    compact_all(path)
    assert list(files_by_folder(path).values()) == [2]
    assert (large.stat().st_ino, large.stat().st_mtime_ns) == (identity.st_ino, identity.st_mtime_ns)
    assert rows(path) == before


def test_a_kill_at_any_moment_loses_and_doubles_nothing(tree: Path) -> None:
    before = rows(tree)
    copies = tree.parent / "copies"
    calls = [0]
    counted = Path(f"{copies}-counted")
    _copy(tree, counted)
    compact_all(counted, calls.append)
    total = max(calls)
    codes = Counter[int]()
    for number in range(7):
        path = Path(f"{copies}-{number}")
        _copy(tree, path)
        moment = 1 + number * total // 7
        codes[in_child(lambda path=path, moment=moment: compact_all(path, lambda count: kill() if count == moment else None))] += 1  # type: ignore[misc]
        assert rows(path) == before, f"killed at call {moment} of {total}"
        with opened(path):
            assert rows(path) == before
        compact_all(path)
        assert (rows(path), set(files_by_folder(path).values())) == (before, {1})
    assert codes[-signal.SIGKILL] >= 6
    assert not list(tree.parent.glob(".*"))


def _copy(tree: Path, target: Path) -> None:
    for file in tree.glob("**/*.p*q*"):
        (target / file.relative_to(tree)).parent.mkdir(parents=True, exist_ok=True)
        os.link(file, target / file.relative_to(tree))


def test_readers_and_a_sink_may_be_at_work_meanwhile(tree: Path) -> None:
    before = rows(tree)

    def work() -> None:
        with opened(tree) as sink:
            for hour in range(HOURS, HOURS + 12):
                deliver_hour(sink, hour)
                deliver_hour(sink, hour - 6)
                compact_all(tree)

    child = os.fork()
    if child == 0:
        os._exit(in_child(work, 120))
    looks = done = 0
    while not done:
        done, status = os.waitpid(child, os.WNOHANG)
        try:
            found = rows(tree)
        except FileNotFoundError:  # replaced since the reader listed it: it must list again
            continue
        looks += 1
        moments = Counter((event_type, key, ts) for event_type, key, ts, _ in found.elements())
        assert max(moments.values()) == 1
        assert found >= before
        compact_all(tree)
    assert (os.waitstatus_to_exitcode(status), looks > 3) == (0, True)
    assert rows(tree).total() == (HOURS + 12) * len(SERIES)
    assert max(files_by_folder(tree).values()) <= 2


def test_the_command_takes_paths_and_pipeline_files(tree: Path, tmp_path: Path) -> None:
    pipeline = tmp_path / "p.toml"
    pipeline.write_text(
        f'from = 2014-01-01\nwindow = "1h"\n[source]\ntype = "parquet"\npath = "elsewhere"\n[[sink]]\ntype = "parquet"\npath = "{tree}"\n'
    )
    result = CliRunner().invoke(command, [str(pipeline)], catch_exceptions=False)
    assert (result.exit_code, result.output) == (0, f"{tree}: 120 files in 4 folders merged into 4\n")
    result = CliRunner().invoke(command, [str(tree)], catch_exceptions=False)
    assert (result.exit_code, result.output) == (0, f"{tree}: 0 files in 0 folders merged into 0\n")
    with pytest.raises(ConfigError, match=f"^{tmp_path}/nowhere: nothing to compact there$"):
        CliRunner().invoke(command, [f"{tmp_path}/nowhere"], catch_exceptions=False)
    assert not (tmp_path / "nowhere").exists()
