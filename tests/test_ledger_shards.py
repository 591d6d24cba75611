"""Several ledgers together, the parts that single sinks have taken, and what a new definition makes of what is done."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from esmond_etl import Interval, Metadata, Reject, Series, SeriesId
from esmond_etl.engine.ledger import Ledger, Totals
from esmond_etl.model.digest import Window

ONE, OTHER = SeriesId("k", "throughput"), SeriesId("l", "throughput")
WHOLE = Interval(0, 100)


def window(start: int, number: int) -> Window:
    return Window(start, number, bytes([start]) * 16)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Ledger, Ledger]]:
    """The ledgers of two shards: the second one has a failure, a rejected datapoint, a note of a sink, and a run as well."""
    first, second = Ledger(tmp_path / "1.ledger"), Ledger(tmp_path / "2.ledger")
    first.record([ONE], Interval(0, 50), [Metadata("k", source="a")], digests={ONE: [window(0, 3), window(10, 4)]})
    second.record([ONE], Interval(50, 60), digests={ONE: [window(50, 5)]})
    second.record([OTHER], Interval(0, 10), partly={"sink[0]": [SeriesId("m", "failures")]})
    series = Series(Metadata("l"), "failures")
    second.record([], WHOLE, rejected={"sink[0]": [Reject(series, 7, "1", "no")]}, failures={OTHER: "broken"})
    second.memory("sink[0]")["a"] = "b"
    second.add_run(5, {"read": 9})
    second.redefine("new", keep=True)
    with closing(first), closing(second):
        yield first, second


def test_the_ledgers_of_shards_together_say_what_each_of_them_says(two: tuple[Ledger, Ledger]) -> None:
    with closing(Ledger.of_all([each.path for each in two])) as together:
        assert together.done("k") == {("throughput", "base"): ((0, 60),)}
        assert together.proven(ONE) == ((0, 60),)
        assert together.digests(ONE, WHOLE) == [window(0, 3), window(10, 4), window(50, 5)]
        assert together.totals() == {ONE: Totals(0, 50, 12)}
        assert (together.newest(ONE), together.newest(OTHER)) == (50, None)
        assert together.partly("m") == {("failures", "base"): {"sink[0]": ((0, 10),)}}
        assert [each.message for each in together.failures().values()] == ["broken"]
        assert [(each.ts, each.reason) for each in together.rejected()] == [(7, "no")]
        assert together.count_rejected() == 1
        assert together.subjects() == {"k": ("a", None, None)}
        assert dict(together.memory("sink[0]")) == {"a": "b"}
        assert [each["read"] for each in together.runs()] == [9]
        assert together.about("delivery") == "new"
    assert two[0].done("k") == {("throughput", "base"): ((0, 50),)}, "the files stay as they are"


def test_one_ledger_alone_is_itself(two: tuple[Ledger, Ledger]) -> None:
    with closing(Ledger.of_all([two[0].path])) as alone:
        assert alone.path == two[0].path


def test_what_other_shards_have_done_counts(two: tuple[Ledger, Ledger]) -> None:
    first, second = two
    first.beside([first.path, second.path])
    assert first.done("k") == {("throughput", "base"): ((0, 60),)}
    assert first.done("l") == {}, "it has failed since"
    assert first.partly("m") == {("failures", "base"): {"sink[0]": ((0, 10),)}}
    assert first.newest(ONE) == 50
    second.note_read(1000)
    assert first.last_read() == 1000, "it has not run yet itself"
    first.note_read(2000)
    assert first.last_read() == 2000


def test_the_files_of_other_shards_are_closed_with_it(two: tuple[Ledger, Ledger]) -> None:
    first, second = two
    first.beside([second.path])
    other: Any = first._others[0]
    first.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        other._db.execute("select 1")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "p.ledger")) as opened:
        opened.redefine("first", keep=False)
        opened.record([ONE], Interval(0, 50), partly={"sink[0]": [OTHER]})
        yield opened


def test_a_new_definition_makes_all_of_it_former_what_single_sinks_have_too(ledger: Ledger) -> None:
    ledger.record([], WHOLE, failures={OTHER: "broken"})
    ledger.record([], Interval(0, 30), partly={"sink[0]": [OTHER]})
    ledger.redefine("second", keep=False)
    assert ledger.former() == {ONE: ((0, 50),), OTHER: ((0, 30),)}
    assert (ledger.done("k"), ledger.partly("l"), ledger.failures()) == ({}, {}, {})
    assert ledger.replaces
    ledger.record([ONE], Interval(0, 20))
    assert ledger.former()[ONE] == ((20, 50),)


def test_a_new_definition_can_keep_what_is_done(ledger: Ledger) -> None:
    ledger.redefine("second", keep=True)
    assert ledger.done("k") == {("throughput", "base"): ((0, 50),)}
    assert ledger.partly("l") == {("throughput", "base"): {"sink[0]": ((0, 50),)}}
    assert not ledger.replaces


def test_forgetting_says_how_many_series_it_changed(ledger: Ledger) -> None:
    assert ledger.forget(Interval(60, 70)) == 0
    assert ledger.forget(Interval(0, 10)) == 2
    assert (ledger.done("k"), ledger.partly("l")["throughput", "base"]) == (
        {("throughput", "base"): ((10, 50),)},
        {"sink[0]": ((10, 50),)},
    )
    assert ledger.forget(Interval(0, 20), [OTHER]) == 1
    assert ledger.done("k") == {("throughput", "base"): ((10, 50),)}
    assert ledger.forget() == 2
    assert (ledger.done("k"), ledger.partly("l")) == ({}, {})


def test_forgetting_all_forgets_failures_and_forgetting_some_does_not(ledger: Ledger) -> None:
    ledger.note_failures({OTHER: "broken"}, WHOLE)
    ledger.forget(None, [ONE])
    ledger.forget(WHOLE)
    assert list(ledger.failures()) == [OTHER]
    ledger.forget()
    assert ledger.failures() == {}


def test_reading_a_ledger_that_is_not_there_makes_no_file(ledger: Ledger, tmp_path: Path) -> None:
    with closing(Ledger.to_read(tmp_path / "none.ledger")) as empty:
        assert dict(empty.all_done()) == {}
    assert not (tmp_path / "none.ledger").exists()
    with closing(Ledger.to_read(ledger.path)) as known:
        assert known.done("k") == {("throughput", "base"): ((0, 50),)}


def test_the_last_run_is_the_newest(ledger: Ledger) -> None:
    assert ledger.last_run() is None
    for started in (10, 30, 20):
        ledger.add_run(started, {"read": started})
    newest = ledger.last_run()
    assert newest is not None
    assert (newest["started"], newest["read"], len(ledger.runs())) == (30, 30, 3)
