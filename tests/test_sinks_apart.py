"""A pipeline with several sinks: one that fails does not hold the others up, and gets later what it lacks, and that alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from pydantic import Field

from esmond_etl import Batch, Interval, Load, Pipeline, Result, Series, SeriesId, SinkError, Task
from esmond_etl.cli import show
from esmond_etl.cli.group import run as command
from esmond_etl.engine import run as delivery_run
from esmond_etl.engine.ledger import Ledger
from esmond_etl.testing import CollectedSink, RecordedSource, series

START, DAY = 1388534400, 86400  # 2014-01-01

SERIES = [("192.0.2.2", "throughput"), ("192.0.2.3", "throughput"), ("192.0.2.4", "throughput")]

Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def filled(archive: Any) -> Any:
    """An archive with three series, of four datapoints a day over ten days."""
    for host, name in SERIES:
        entry = {"source": "192.0.2.1", "measurement-agent": "192.0.2.1", "tool-name": "t", "subject-type": "point-to-point"}
        points = [[START + each * DAY // 4, 1e9 + each] for each in range(40)]
        record = {"metadata": {**entry, "destination": host, "event-types": [{"event-type": name}]}, "datapoints": {name: points}}
        esmond_etl_archive.load(archive.archive, [record])
    return archive


@pytest.fixture
def influx(serve: Any, answer: Any) -> Any:
    """A server that takes lines as InfluxDB does, unless its `broken` is set: then it refuses what contains that text."""
    taken: list[bytes] = []

    def respond(asked: Any) -> Any:
        if asked.method == "POST":
            if server.broken is not None and server.broken in asked.body:
                return answer(status=401, body=b'{"code":"unauthorized","message":"not you"}')
            taken.extend(asked.body.splitlines())
        return answer(status=204)

    server = serve(respond)
    server.broken, server.taken = None, taken
    return server


@pytest.fixture
def etl(tmp_path: Path, filled: Any, influx: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on a pipeline with two sinks, and returns its exit code and what it says in JSON."""
    monkeypatch.chdir(tmp_path)
    Path("p.toml").write_text(f"""
from = 2014-01-01
to = 2014-01-11
window = "1d"
parallel = 2
[source]
type = "esmond"
url = "{filled.url}"
retries = 0
[[sink]]
type = "influxdb"
url = "{influx.url}"
bucket = "b"
token = "t"
retries = 0
[[sink]]
type = "parquet"
path = "out"
""")

    def said(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = command([*arguments, "p.toml", "--json"])
        return code, json.loads(capsys.readouterr().out)

    return said


def test_a_sink_that_refuses_all_does_not_hold_the_other_up(etl: Run, influx: Any) -> None:
    influx.broken = b""
    code, facts = etl("run")
    assert (code, facts["sinks"]["sink[1] (parquet)"]["written"], facts["sinks"]["sink[0] (influxdb)"]["written"]) == (1, 120, 0)
    assert all("sink[0] (influxdb): " in reason for reason in facts["failures"].values())
    assert len(facts["failures"]) == 3
    _, status = etl("status")
    lacks = {"series": 3, "from": "2014-01-01", "to": "2014-01-11"}
    assert status["behind"] == {"sink[0] (influxdb)": lacks}
    assert [each["done_to"] for each in status["series"]] == [None] * 3


def test_it_gets_what_it_lacks_later_and_the_other_gets_nothing_twice(etl: Run, influx: Any, tmp_path: Path) -> None:
    influx.broken = b""
    etl("run")
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/**/*.parquet")}
    influx.broken = None
    code, facts = etl("run")
    assert (code, facts["sinks"]["sink[0] (influxdb)"]["written"]) == (0, 120)
    assert facts["sinks"]["sink[1] (parquet)"] == {"written": 0, "unchanged": 0, "rejected": 0}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/**/*.parquet")} == files
    assert len(set(influx.taken)) == len(influx.taken) == 120
    _, status = etl("status")
    assert (status["behind"], [each["gaps"] for each in status["series"]]) == ({}, [[]] * 3)
    code, facts = etl("run")
    assert (code, facts["read"]) == (0, 0)


class Picky(CollectedSink):
    """A sink that does not take what a series has, if its key is among those that it is told."""

    refuses: Any = Field(description="metadata keys")

    def begin(self, task: Task) -> Load:
        load = super().begin(task)
        take = load.write

        def write(batch: Batch) -> None:
            if batch.series.metadata.key in self.refuses:
                raise SinkError("not this one")
            take(batch)

        load.write = write  # type: ignore[method-assign]
        return load


DAYS = Interval(START, START + 10 * DAY)


def recorded(keys: str) -> dict[Series, list[list[tuple[int, float]]]]:
    return {series("throughput", key=key): [[(START + day * DAY, float(day)) for day in range(10)]] for key in keys}


def held(sink: CollectedSink) -> dict[str, int]:
    return {key.metadata_key: len(points) for key, points in sink.held.items()}


def test_only_the_series_that_a_sink_refuses_is_missing_there(tmp_path: Path) -> None:
    source, refused = RecordedSource(recorded=recorded("abc")), {"b"}
    sinks = [Picky(refuses=refused), CollectedSink()]
    made = Pipeline("p", source=source, sinks=sinks, from_=START, to=DAYS.end, ledger=str(tmp_path))
    result = made.run(check=False)
    assert {each.metadata_key: reason for each, reason in result.failures.items()} == {"b": "sink[0] (Picky): not this one"}
    assert (held(sinks[0]), held(sinks[1])) == ({"a": 10, "c": 10}, {"a": 10, "b": 10, "c": 10})
    refused.clear()
    again = made.run()
    assert [each[0].metadata.key for each in source.asked[-again.tasks :]] == ["b"] * again.tasks
    assert (again.sinks["sink[0] (Picky)"].written, again.sinks["sink[1] (CollectedSink)"].written) == (10, 0)
    assert held(sinks[0]) == held(sinks[1])


LONG = [START + week * 7 * DAY for week in range(200)]


def long_series() -> dict[Series, list[list[tuple[int, float]]]]:
    """Four years of a datapoint a week: many tasks."""
    return {series("throughput", key=key): [[(ts, float(ts)) for ts in LONG]] for key in "ab"}


@pytest.mark.parametrize("failing", ["begin", "write", "commit"])
def test_a_sink_that_fails_too_often_is_given_no_more_and_lacks_all_of_it_later(tmp_path: Path, failing: str) -> None:
    source, dead, alive = RecordedSource(recorded=long_series()), CollectedSink(failing=failing), CollectedSink()
    options: dict[str, Any] = {"from_": START, "to": LONG[-1] + DAY, "ledger": str(tmp_path)}
    first = Pipeline("p", source=source, sinks=[dead, alive], **options).run(check=False)
    assert first.tasks > delivery_run.ENOUGH
    assert held(alive) == {"a": 200, "b": 200}
    assert set(first.failures) == {each.id for each in source.recorded}
    mended = CollectedSink(held=dead.held)
    second = Pipeline("p", source=source, sinks=[mended, alive], **options).run()
    assert held(mended) == held(alive)
    assert (second.sinks["sink[0] (CollectedSink)"].written, second.sinks["sink[1] (CollectedSink)"].written) == (400, 0)


def test_a_sink_that_fails_where_late_data_are_read_again_gets_them_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three sinks one lacked the time, and another one fails when it is read again: what it had of it is not enough."""
    found = recorded("a")
    pages, source = next(iter(found.values())), RecordedSource(recorded=found)
    held_by: list[Any] = [{}, {}, {}]
    options: dict[str, Any] = {"from_": START, "window": "1h", "settle": "0s", "lookback": "6h", "ledger": str(tmp_path)}

    def run(now: int, *failing: str) -> None:
        at(monkeypatch, now)
        sinks = [CollectedSink(held=each, failing=when) for each, when in zip(held_by, failing, strict=True)]
        Pipeline("p", source=source, sinks=sinks, **options).run(check=False)

    run(START + 9 * DAY + 1800, "", "", "commit")
    pages[0].insert(9, (START + 9 * DAY - 3600, 77.0))
    run(START + 9 * DAY + 8 * 3600, "commit", "", "commit")
    run(START + 20 * DAY, "", "", "")
    assert [held(CollectedSink(held=each)) for each in held_by] == [{"a": 11}] * 3


def test_a_shard_that_is_new_begins_where_the_others_are(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "1.ledger")) as first, closing(Ledger(tmp_path / "2.ledger")) as second:
        first.note_read(START)
        assert second.last_read() is None
        second.beside([first.path])
        assert second.last_read() == START
        second.note_read(START + DAY)
        assert second.last_read() == START + DAY


def test_what_failed_for_the_same_reason_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = {SeriesId(str(each), "throughput"): "timed out" if each else "status 500" for each in range(9)}
    show.failures(Result("p", DAYS, failures=reasons))
    assert capsys.readouterr().err.splitlines() == [
        "  not done: 0/throughput/base: status 500",
        "  not done: 1/throughput/base and 7 more series: timed out",
    ]


class Deaf(CollectedSink):
    """A sink whose target does not answer, and that counts how often it was asked whether it does."""

    asked: Any = Field(default_factory=list, description="a place for each time")

    def ready(self) -> None:
        self.asked.append(1)
        raise SinkError("does not answer")


def test_a_target_that_does_not_answer_is_asked_once_in_a_run(tmp_path: Path) -> None:
    source, deaf, alive = RecordedSource(recorded=long_series()), Deaf(), CollectedSink()
    options: dict[str, Any] = {"from_": START, "to": LONG[-1] + DAY, "ledger": str(tmp_path)}
    result = Pipeline("p", source=source, sinks=[deaf, alive], **options).run(check=False)
    assert (held(alive), held(deaf), len(deaf.asked)) == ({"a": 200, "b": 200}, {}, 1)
    assert set(result.failures.values()) == {"sink[0] (Deaf): does not answer"}


def test_if_all_sinks_fail_too_often_the_run_ends_and_the_next_delivers_all(tmp_path: Path) -> None:
    source, dead = RecordedSource(recorded=long_series()), [CollectedSink(failing="commit"), CollectedSink(failing="begin")]
    options: dict[str, Any] = {"from_": START, "to": LONG[-1] + DAY, "ledger": str(tmp_path)}
    assert Pipeline("p", source=source, sinks=dead, **options).run(check=False).tasks < 50  # of 200: those in flight end
    whole = [CollectedSink(), CollectedSink()]
    Pipeline("p", source=source, sinks=whole, **options).run()
    assert [held(each) for each in whole] == [{"a": 200, "b": 200}] * 2


def test_a_series_that_fails_too_often_misses_no_late_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last tasks are not even tried; the time that was to be read again is read by the next run."""
    found = long_series()
    (first, *_), pages = found, next(iter(found.values()))
    options: dict[str, Any] = {"from_": START, "window": "1d", "settle": "0s", "lookback": "30d", "ledger": str(tmp_path)}
    sink, now = CollectedSink(), LONG[-1] + 2 * DAY
    at(monkeypatch, now)
    Pipeline("p", source=RecordedSource(recorded=found), sinks=[sink], **options).run()
    pages[0].insert(199, (LONG[-1] - DAY, 77.0))
    at(monkeypatch, now + 20 * DAY)
    failing = RecordedSource(recorded=found, failures={first: 0})
    Pipeline("p", source=failing, sinks=[sink], **options).run(check=False)
    at(monkeypatch, now + 400 * DAY)
    Pipeline("p", source=RecordedSource(recorded=found), sinks=[sink], **options).run()
    assert held(sink) == {"a": 201, "b": 200}


def test_what_arrived_late_while_no_run_was_made_is_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last run saw the window less than `lookback` after its time; the next one comes when that is long over."""
    found = recorded("a")
    source, sink = RecordedSource(recorded=found), CollectedSink()
    made = Pipeline("p", source=source, sinks=[sink], from_=START, window="1h", settle="0s", lookback="6h", ledger=str(tmp_path))
    pages = next(iter(found.values()))
    at(monkeypatch, START + 9 * DAY + 1800)
    made.run()
    pages[0].insert(9, (START + 9 * DAY - 3600, 77.0))
    at(monkeypatch, START + 20 * DAY)
    made.run()
    assert held(sink) == {"a": 11}


def test_what_could_not_be_read_again_for_late_data_is_read_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = recorded("a")
    source, sink = RecordedSource(recorded=found), CollectedSink()
    options: dict[str, Any] = {"from_": START, "window": "1h", "settle": "0s", "lookback": "6h", "ledger": str(tmp_path)}
    pages = next(iter(found.values()))
    at(monkeypatch, START + 9 * DAY + 1800)
    Pipeline("p", source=source, sinks=[sink], **options).run()
    pages[0].insert(9, (START + 9 * DAY - 3600, 77.0))
    at(monkeypatch, START + 9 * DAY + 8 * 3600)
    failing = RecordedSource(recorded=found, failures={next(iter(found)): 0})
    assert Pipeline("p", source=failing, sinks=[sink], **options).run(check=False).failures
    at(monkeypatch, START + 20 * DAY)
    Pipeline("p", source=source, sinks=[sink], **options).run()
    assert held(sink) == {"a": 11}


def at(monkeypatch: pytest.MonkeyPatch, now: int) -> None:
    """Let the engine take it to be `now`."""
    monkeypatch.setattr("esmond_etl.engine.run.time.time", lambda: float(now))
