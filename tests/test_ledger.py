"""The ledger knows what is done, whatever comes in whatever order, and lets one run go at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmond_etl import Interval, IntervalSet, LockedError, Metadata, Reject, Series, SeriesId
from esmond_etl.engine.files import lock
from esmond_etl.engine.ledger import Failure, Ledger
from esmond_etl.model.errors import ConfigError, EsmondEtlError

ONE, OTHER = SeriesId("k", "throughput"), SeriesId("k", "throughput", "average/86400")
spans = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda pair: Interval(min(pair), max(pair) + 1))


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    opened = Ledger(tmp_path / "x" / "p.ledger")
    yield opened
    opened.close()


@settings(max_examples=150)
@given(st.lists(st.tuples(st.booleans(), spans), max_size=12))
def test_done_is_the_union_of_what_was_recorded_less_what_was_forgotten(steps: list[tuple[bool, Interval]]) -> None:
    ledger, seconds = Ledger(Path(":memory:")), set[int]()
    for recorded, span in steps:
        if recorded:
            ledger.record([ONE], span)
            seconds |= set(range(*span))
        else:
            ledger.forget(span, [ONE])
            seconds -= set(range(*span))
    assert ledger.done("k").get(("throughput", "base"), ()) == IntervalSet.of((each, each + 1) for each in seconds)
    ledger.close()


def test_series_are_told_apart(ledger: Ledger) -> None:
    ledger.record([ONE], Interval(0, 10))
    ledger.record([OTHER], Interval(5, 20))
    assert ledger.done("k") == {("throughput", "base"): ((0, 10),), ("throughput", "average/86400"): ((5, 20),)}
    assert dict(ledger.all_done()) == {ONE: ((0, 10),), OTHER: ((5, 20),)}


def test_what_is_recorded_is_there_after_a_kill(tmp_path: Path) -> None:
    def child() -> None:
        Ledger(tmp_path / "p.ledger").record([ONE], Interval(0, 10))
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert Ledger(tmp_path / "p.ledger").done("k") == {("throughput", "base"): ((0, 10),)}


def test_a_failure_is_kept_until_the_series_is_delivered(ledger: Ledger) -> None:
    ledger.record([], Interval(0, 10), failures={ONE: "status 500"})
    failure = ledger.failures()[ONE]
    assert failure == Failure(ONE, Interval(0, 10), "status 500", failure.at)
    ledger.record([ONE], Interval(0, 10))
    assert ledger.failures() == {}


def test_rejected_datapoints_are_kept_until_their_time_is_delivered_again(ledger: Ledger) -> None:
    series = next(Metadata("k", event_types={"throughput": {}}).series(), None) or Series(Metadata("k"), "throughput")
    rejects = [Reject(series, ts, "1.0", "no") for ts in (3, 13)]
    ledger.record([ONE], Interval(0, 20), rejected={"sink[0]": rejects})
    assert [(each.sink, each.series, each.ts, each.val, each.reason) for each in ledger.rejected()] == [
        ("sink[0]", ONE, 3, "1.0", "no"),
        ("sink[0]", ONE, 13, "1.0", "no"),
    ]
    ledger.record([ONE], Interval(0, 10))
    assert [each.ts for each in ledger.rejected()] == [13]
    assert ledger.drop_rejected() == 1
    assert list(ledger.rejected()) == []


def test_a_sinks_memory_is_a_mapping_that_lasts(tmp_path: Path) -> None:
    memory = Ledger(tmp_path / "p.ledger").memory("sink[0]")
    memory["a"] = "1"
    memory["b"] = "2"
    del memory["a"]
    again = Ledger(tmp_path / "p.ledger")
    assert dict(again.memory("sink[0]")) == {"b": "2"}
    assert dict(again.memory("sink[1]")) == {}
    with pytest.raises(KeyError):
        again.memory("sink[0]")["a"]


def test_the_second_to_lock_is_told_who_was_first(tmp_path: Path) -> None:
    path = tmp_path / "p.lock"
    with lock(path), pytest.raises(LockedError, match=f"process {os.getpid()} on .*, since 20"), lock(path):
        pass
    with lock(path):
        pass


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.ledger").write_text("no database, but a text that is long enough to be taken for a damaged one" * 20)
    with pytest.raises(ConfigError, match=r"p\.ledger: cannot be used as a ledger"):
        Ledger(tmp_path / "p.ledger")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_ledger_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with lock(tmp_path / "p.lock"):
            opened = Ledger(tmp_path / "p.ledger")
            opened.record([ONE], Interval(0, 10))
            assert {path.name: mode(path) for path in tmp_path.iterdir()} == dict.fromkeys(
                ("p.lock", "p.ledger", "p.ledger-wal", "p.ledger-shm"), 0o600
            )
            opened.close()
    finally:
        os.umask(before)


def test_a_full_disk_is_one_sentence_and_leaves_the_ledger_as_it_was(ledger: Ledger) -> None:
    ledger.record([ONE], Interval(0, 10))
    ledger._db.execute("pragma max_page_count = 1")  # SQLite then says what it says of a full disk
    many = [SeriesId(f"{number:06}", "throughput") for number in range(5000)]
    with pytest.raises(EsmondEtlError, match=r"p\.ledger: the ledger cannot be .*full; free some space"):
        ledger.record(many, Interval(0, 10))
    assert dict(ledger.all_done()) == {ONE: ((0, 10),)}
    ledger._db.execute("pragma max_page_count = 100000")
    ledger.record(many, Interval(0, 10))
    assert len(dict(ledger.all_done())) == 5001


def test_a_ledger_on_a_full_disk_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=256k"):
        opened = Ledger(tmp_path / "disk" / "p.ledger")
        opened.record([ONE], Interval(0, 10))
        with pytest.raises(EsmondEtlError, match=r"p\.ledger: .*; free some space"):
            for number in range(100):
                opened.record([SeriesId(f"{number}-{each:06}", "throughput") for each in range(500)], Interval(0, 10))
        opened.close()
        assert dict(Ledger(tmp_path / "disk" / "p.ledger").all_done())[ONE] == ((0, 10),)


def test_a_read_only_folder_is_one_sentence(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro"):
        with pytest.raises(ConfigError, match=r"p\.ledger: .*; make the folder writable"):
            Ledger(tmp_path / "disk" / "p.ledger")
        with pytest.raises(ConfigError, match=r"p\.lock: .*; make the folder writable"), lock(tmp_path / "disk" / "p.lock"):
            pass


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small disk, mounted at `folder`; skips the test where that is not allowed."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_damaged_ledger_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "p.ledger"
    opened = Ledger(path)
    opened.record([SeriesId(f"{number:06}", "throughput") for number in range(2000)], Interval(0, 10))
    opened.close()
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xa5" * 8192 + content[16384:])
    with pytest.raises(ConfigError, match=r"p\.ledger: cannot be used as a ledger: .*; restore the file from a backup"):
        Ledger(path)


@given(spans, spans)
def test_intervals_that_touch_or_overlap_become_one_row(first: Interval, second: Interval) -> None:
    ledger = Ledger(Path(":memory:"))
    ledger.record([ONE], first)
    ledger.record([ONE], second)
    rows = ledger._rows("select start, end from done order by start")
    assert rows == [tuple(each) for each in IntervalSet.of([first, second])]
    ledger.close()


@given(spans, spans)
def test_a_failure_goes_where_what_is_delivered_overlaps_it(failed: Interval, delivered: Interval) -> None:
    ledger = Ledger(Path(":memory:"))
    ledger.record([], failed, failures={ONE: "status 500"})
    ledger.record([ONE], delivered)
    assert bool(ledger.failures()) == (not set(range(*failed)) & set(range(*delivered)))
    ledger.close()


def test_rejected_datapoints_go_from_the_start_of_what_is_delivered_up_to_its_end(ledger: Ledger) -> None:
    series = Series(Metadata("k"), "throughput")
    ledger.record([], Interval(0, 20), rejected={"sink[0]": [Reject(series, ts, "1.0", "no") for ts in (4, 5, 9, 10)]})
    ledger.record([ONE], Interval(5, 10))
    assert [each.ts for each in ledger.rejected()] == [4, 10]
