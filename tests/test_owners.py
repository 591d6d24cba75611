"""Two pipelines that deliver to one place: refused, unless they share it, and then no series is delivered by both."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest

from esmond_etl.cli.group import run as command

START, DAY = 1388534400, 86400  # 2014-01-01

SINKS = {
    "parquet": 'type = "parquet"\npath = "out"',
    "sqlite": 'type = "sql"\nurl = "sqlite:w.db"',
    "duckdb": 'type = "sql"\nurl = "duckdb:w.duck"',
    "delta": 'type = "delta"\npath = "lake"',
}

Etl = Callable[..., tuple[int, str]]


@pytest.fixture
def filled(archive: Any) -> Any:
    """An archive with a series of throughput and one of loss."""
    for name in ("throughput", "packet-count-sent"):
        entry = {"source": "192.0.2.1", "destination": "192.0.2.2", "measurement-agent": "192.0.2.1", "tool-name": name}
        types = [{"event-type": name}]
        points = [[START + each * DAY, 5] for each in range(3)]
        record = {"metadata": {**entry, "subject-type": "point-to-point", "event-types": types}, "datapoints": {name: points}}
        esmond_etl_archive.load(archive.archive, [record])
    return archive


@pytest.fixture
def etl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Etl:
    """Runs a command in an empty folder, and returns its exit code and what it prints."""
    monkeypatch.chdir(tmp_path)

    def said(*arguments: str) -> tuple[int, str]:
        code = command(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return said


def write(name: str, url: str, sink: str, event_type: str = "", more: str = "") -> str:
    chosen = f'event_types = ["{event_type}"]' if event_type else ""
    Path(f"{name}.toml").write_text(f"""
from = 2014-01-01
to = 2014-01-05
[source]
type = "esmond"
url = "{url}"
{chosen}
[[sink]]
{SINKS[sink]}
{more}
""")
    return f"{name}.toml"


@pytest.mark.parametrize("sink", SINKS)
def test_a_place_that_belongs_to_another_pipeline_is_refused(etl: Etl, filled: Any, sink: str) -> None:
    first, second = (write(name, filled.url, sink) for name in ("first", "second"))
    assert (etl("check", second)[0], etl("check", "--connect", second)[0]) == (0, 0)
    assert etl("run", first)[0] == 0
    for arguments in (("run", second), ("check", second), ("check", "--connect", second)):
        code, said = etl(*arguments)
        said = " ".join(said.split())
        assert code == 2
        assert "second.toml:8:1: sink[0]: this place" in said or arguments[0] == "run"
        assert "this place belongs to the pipeline first (" in said
        assert "first.toml), since 20" in said
        assert "two pipelines would overwrite each other" in said
    assert [etl(*arguments)[0] for arguments in (("run", first), ("check", first), ("check", "--connect", first))] == [0, 0, 0]
    assert not Path(".esmond-etl/second.ledger").exists() or json.loads(etl("status", second, "--json")[1])["series"] == []


@pytest.mark.parametrize("sink", SINKS)
def test_a_pipeline_whose_file_has_moved_keeps_its_place(etl: Etl, filled: Any, sink: str) -> None:
    before = Path(write("before", filled.url, sink))
    before.write_text('name = "mine"\n' + before.read_text())
    assert etl("run", "before.toml")[0] == 0
    before.rename("after.toml")
    for arguments in (("check",), ("check", "--connect"), ("run",), ("check", "--connect")):
        assert etl(*arguments, "after.toml")[0] == 0


@pytest.mark.parametrize("sink", SINKS)
def test_it_can_be_taken_over_and_then_the_other_is_refused(etl: Etl, filled: Any, sink: str) -> None:
    first, second = (write(name, filled.url, sink) for name in ("first", "second"))
    assert etl("run", first)[0] == 0
    assert etl("run", second, "--take-over")[0] == 0
    code, said = etl("run", first)
    assert code == 2
    assert "belongs to the pipeline second" in said


@pytest.mark.parametrize("sink", SINKS)
def test_pipelines_share_a_place_if_both_say_so_and_their_series_differ(etl: Etl, filled: Any, sink: str) -> None:
    alone = write("first", filled.url, sink, "throughput")
    assert etl("run", alone)[0] == 0
    second = write("second", filled.url, sink, "packet-count-sent", "shared = true")
    assert "write `shared = true` there too" in " ".join(etl("run", second)[1].split())
    first = write("first", filled.url, sink, "throughput", "shared = true")
    assert [etl("run", each)[0] for each in (first, second, first, second)] == [0, 0, 0, 0]
    wider = write("second", filled.url, sink, "", "shared = true")
    code, said = etl("run", wider)
    assert code == 1
    assert "the pipeline first (" in said
    assert "throughput/base to the same place" in " ".join(said.split())
    assert etl("verify", first)[0] == 0


def test_a_damaged_note_is_named(etl: Etl, filled: Any) -> None:
    first = write("first", filled.url, "parquet")
    assert etl("run", first)[0] == 0
    for note in Path("out/_owners").iterdir():
        note.write_text("{")
    code, said = etl("run", first)
    assert code != 0
    assert "a note of an owner in the target is damaged" in " ".join(said.split())


@pytest.fixture
def influx(serve: Any, answer: Any) -> Any:
    """A server that takes all lines."""
    taken: list[bytes] = []

    def respond(asked: Any) -> Any:
        taken.extend(asked.body.splitlines() if asked.method == "POST" else ())
        return answer(status=204)

    server = serve(respond)
    server.taken = taken
    return server


def into_influxdb(name: str, filled: Any, influx: Any, event_type: str = "", prefix: str = "") -> str:
    SINKS["influxdb"] = f'type = "influxdb"\nurl = "{influx.url}"\nbucket = "b"\ntoken = "t"\nprefix = "{prefix}"'
    return write(name, filled.url, "influxdb", event_type)


def test_influxdb_takes_a_series_from_one_pipeline_alone(etl: Etl, filled: Any, influx: Any) -> None:
    first = into_influxdb("first", filled, influx, "throughput")
    second = into_influxdb("second", filled, influx)
    assert etl("run", first)[0] == 0
    code, said = etl("run", second)
    assert code == 1
    assert "first.toml delivers" in (said := " ".join(said.split()))
    assert "throughput/base to the same place: leave it out here, choose another place, or add --take-over to the run" in said
    assert len(influx.taken) == len(set(influx.taken)) == 6, "the other series is delivered"
    code, said = etl("check", "--connect", second)
    assert (code, "delivers" in said and "(1 series in all)" in said) == (1, True)
    assert [etl("run", first)[0], etl("check", "--connect", first)[0]] == [0, 0]


def test_a_neighbour_of_an_older_version_is_read_and_not_changed(etl: Etl, filled: Any, influx: Any) -> None:
    first, second = into_influxdb("first", filled, influx), into_influxdb("second", filled, influx)
    assert etl("run", first)[0] == 0
    ledger = Path(".esmond-etl/first.ledger")
    with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
        db.execute("update about set value = '1' where name = 'version'")
        db.execute("drop table partly")
        db.execute("pragma wal_checkpoint(truncate)")
    before = ledger.read_bytes()
    code, said = etl("check", "--connect", second)
    assert (code, "delivers" in said) == (1, True)
    assert ledger.read_bytes() == before


def test_other_series_and_other_places_in_influxdb_are_no_matter(etl: Etl, filled: Any, influx: Any) -> None:
    files = [
        into_influxdb("first", filled, influx, "throughput"),
        into_influxdb("second", filled, influx, "packet-count-sent"),
        into_influxdb("third", filled, influx, "", "x_"),
    ]
    assert [etl("run", each)[0] for each in files * 2] == [0] * 6


def test_a_series_in_influxdb_can_be_taken_over(etl: Etl, filled: Any, influx: Any) -> None:
    first, second = into_influxdb("first", filled, influx), into_influxdb("second", filled, influx)
    assert etl("run", first)[0] == 0
    assert [etl("run", second, "--take-over")[0], etl("run", second)[0]] == [0, 0]
    assert etl("run", first)[0] == 1
    Path(first).unlink()
    third = into_influxdb("third", filled, influx)
    Path(second).unlink()
    assert etl("run", third)[0] == 0, "whose pipeline files are gone"
