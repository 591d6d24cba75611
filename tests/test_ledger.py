"""The ledger knows what is done, whatever comes in whatever order, and lets one run go at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmond_etl import Interval, IntervalSet, LockedError, Metadata, Reject, Series, SeriesId
from esmond_etl.engine.ledger import Failure, Ledger, lock
from esmond_etl.model.errors import ConfigError

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
