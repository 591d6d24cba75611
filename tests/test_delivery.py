"""One task, from a source to sinks in memory: what each of them has afterwards, and what the outcome says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from esmond_etl import BASE, Batch, Fault, Interval, Load, Metadata, Reject, Series, Served, SinkError, Task
from esmond_etl.engine import delivery as deliveries
from esmond_etl.engine.delivery import Delivery, Outcome
from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.stream import Stream
from esmond_etl.pipeline.definition import Definition
from esmond_etl.pipeline.settings import Settings
from esmond_etl.testing import CollectedSink, RecordedSource

DAY = 86400
TASK = Interval(0, 4 * DAY)


class Choosy(CollectedSink):
    """Does not take some series, or does not answer at all."""

    refused: Any = Field(default_factory=set, description="ids of series")
    closed: bool = Field(False, description="whether it cannot be opened")
    silent: bool = Field(False, description="whether it does not answer")

    def open(self, context: Any) -> None:
        if self.closed:
            raise SinkError("told not to open")

    def ready(self) -> None:
        if self.silent:
            raise SinkError("told to be silent")

    def begin(self, task: Task) -> Load:
        load = super().begin(task)
        take = load.write

        def write(batch: Batch) -> None:
            if batch.series.id in self.refused:
                raise SinkError(f"not {batch.series.metadata.key}")
            take(batch)

        load.write = write  # type: ignore[method-assign]
        return load


class Faulty(RecordedSource):
    """Its pages have a fault each, without a time."""

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        for batch in super().read(series, interval):
            yield Batch(batch.series, batch.points, True, (Fault(None, "x", "no time"),))


def some(*keys: str, event_types: tuple[str, ...] = ("throughput",)) -> list[Series]:
    served = {name: {BASE: Served("")} for name in event_types}
    return [each for key in keys for each in Metadata(key, event_types=served).series()]


def pages(*days: int) -> list[list[tuple[int, float]]]:
    """A page with four datapoints for each of some days."""
    return [[(day * DAY + each, 1.0 * each) for each in range(4)] for day in days]


Deliver = Callable[..., Outcome]


@pytest.fixture
def deliver() -> Iterator[Deliver]:
    """Delivers one task in one thread, series after series."""
    opened: list[Any] = []

    def delivered(source: RecordedSource, *sinks: CollectedSink, task: Interval = TASK, stop: bool = False) -> Outcome:
        labels = tuple(f"sink[{number}]" for number in range(len(sinks)))
        settings = Settings.model_validate({"from": 0, "parallel": 1})
        stream = Stream(Definition("p.toml", settings, source, (), sinks, labels))
        ledger = Ledger(Path(":memory:"))
        opened.extend((stream, closing(ledger)))
        with Delivery(stream, ledger) as delivery:
            if stop:
                stream.stop.set()
            return delivery.deliver(Task(tuple(source.recorded), task, DAY))

    yield delivered
    for each in opened:
        with each:
            pass


def test_a_task_is_counted_and_its_windows_have_digests(deliver: Deliver) -> None:
    (one,) = some("a")
    sink = CollectedSink()
    outcome = deliver(RecordedSource(recorded={one: pages(0, 1)}), sink)
    assert (outcome.read, outcome.stopped, outcome.left, outcome.failures) == (8, False, (), {})
    assert 8 * 16 <= outcome.size < 9 * 16
    assert outcome.taken == {"sink[0]": [one.id]} == {"sink[0]": outcome.done(["sink[0]"])}
    assert [(each.start, each.number) for each in outcome.digests[one.id]] == [(0, 4), (DAY, 4)]
    assert outcome.receipts["sink[0]"].written == len(sink.points(one)) == 8
    assert outcome.traffic == (os.getpid(), 0, 0)


def test_faults_of_the_source_are_rejects_and_the_rest_is_delivered(deliver: Deliver) -> None:
    (one,) = some("a")
    outcome = deliver(Faulty(recorded={one: pages(0, 1)}), CollectedSink())
    assert outcome.faults == [Reject(one, 0, "x", "no time")] * 2
    assert outcome.read == 8


@pytest.mark.parametrize("after", [0, 1])
def test_a_series_that_cannot_be_read_to_its_end_does_not_keep_the_others(deliver: Deliver, after: int) -> None:
    first, broken, last = some("a", "b", "c")
    sink = CollectedSink()
    recorded = {each: pages(0, 1) for each in (first, broken, last)}
    outcome = deliver(RecordedSource(recorded=recorded, failures={broken: after}), sink)
    assert list(outcome.failures) == [broken.id]
    assert f"told to fail after {after} pages" in outcome.failures[broken.id]
    assert set(outcome.taken["sink[0]"]) == set(sink.held) & {first.id, last.id} == {first.id, last.id}
    assert sink.points(broken) == []
    assert outcome.read == 16


def test_a_series_that_one_sink_refuses_goes_to_the_other(deliver: Deliver) -> None:
    series = some("a", "b", "c")
    choosy, other = Choosy(refused={series[1].id}), CollectedSink()
    outcome = deliver(RecordedSource(recorded={each: pages(0) for each in series}), choosy, other)
    assert outcome.refused == {"sink[0]": {series[1].id: "not b"}}
    assert outcome.done(["sink[0]", "sink[1]"]) == [series[0].id, series[2].id]
    assert set(outcome.taken["sink[1]"]) == {each.id for each in series}
    assert outcome.why(["sink[0]", "sink[1]"]) == {series[1].id: "sink[0]: not b"}
    assert outcome.sinks_failed == {}
    assert outcome.read == 12, "once, however many sinks there are"


def test_a_sink_that_refuses_many_series_takes_nothing_of_the_task(deliver: Deliver) -> None:
    series = some(*"abcdefg")
    enough = series[: deliveries.ENOUGH]
    choosy, other = Choosy(refused={each.id for each in enough}), CollectedSink()
    outcome = deliver(RecordedSource(recorded={each: pages(0) for each in series}), choosy, other)
    assert outcome.sinks_failed == {"sink[0]": "not e"}
    assert (choosy.held, len(other.held)) == ({}, 7)
    assert set(outcome.why(["sink[0]", "sink[1]"])) == {each.id for each in series}


def test_one_series_fewer_and_the_sink_takes_the_others(deliver: Deliver) -> None:
    series = some(*"abcdefg")
    choosy = Choosy(refused={each.id for each in series[: deliveries.ENOUGH - 1]})
    outcome = deliver(RecordedSource(recorded={each: pages(0) for each in series}), choosy)
    assert (outcome.sinks_failed, len(choosy.held)) == ({}, 3)
    assert set(outcome.why(["sink[0]"]).values()) == {"not a", "not b", "not c", "not d"}, "one sink needs no label"


def test_no_more_is_read_of_a_series_that_no_sink_takes(deliver: Deliver) -> None:
    (one,) = some("a")
    source = RecordedSource(recorded={one: pages(0, 1)}, failures={one: 1})
    outcome = deliver(source, Choosy(refused={one.id}))
    assert (outcome.failures, outcome.refused) == ({}, {"sink[0]": {one.id: "not a"}})


@pytest.mark.parametrize("how", ["closed", "silent"])
def test_a_sink_that_is_not_there_does_not_hold_the_other_up(deliver: Deliver, how: str) -> None:
    (one,) = some("a")
    dead, alive = Choosy(closed=how == "closed", silent=how == "silent"), CollectedSink()
    outcome = deliver(RecordedSource(recorded={one: pages(0)}), dead, alive)
    assert list(outcome.sinks_failed) == ["sink[0]"]
    assert outcome.why(["sink[0]", "sink[1]"])[one.id].startswith("sink[0]: told ")
    assert len(alive.points(one)) == 4


def test_if_no_sink_can_be_opened_that_is_an_error_and_one_is_if_all_are_needed(deliver: Deliver) -> None:
    (one,) = some("a")
    with pytest.raises(SinkError, match="told not to open"):
        deliver(RecordedSource(recorded={one: pages(0)}), Choosy(closed=True), Choosy(closed=True))
    settings = Settings.model_validate({"from": 0})
    definition = Definition("p.toml", settings, RecordedSource(recorded={}), (), (Choosy(closed=True), CollectedSink()), ("a", "b"))
    with Stream(definition) as stream, closing(Ledger(Path(":memory:"))) as ledger, pytest.raises(SinkError, match="told not"):
        Delivery(stream, ledger, needs_all=True)


@pytest.mark.parametrize("moment", ["begin", "write", "commit"])
def test_a_sink_that_fails_has_nothing_of_the_task(deliver: Deliver, moment: str) -> None:
    (one,) = some("a")
    failing, other = CollectedSink(failing=moment), CollectedSink()
    outcome = deliver(RecordedSource(recorded={one: pages(0)}), failing, other)
    assert "told to fail" in outcome.why(["sink[0]", "sink[1]"])[one.id]
    assert (failing.points(one), len(other.points(one))) == ([], 4)
    assert outcome.done(["sink[0]", "sink[1]"]) == []


def test_a_run_that_is_told_to_stop_delivers_nothing_more(deliver: Deliver) -> None:
    (one,) = some("a")
    sink = CollectedSink()
    outcome = deliver(RecordedSource(recorded={one: pages(0)}), sink, stop=True)
    assert (outcome.stopped, outcome.taken, sink.held) == (True, {}, {})


def test_what_is_too_much_for_a_task_is_left_but_not_half_a_metadata(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    series = some("a", "b", "c", event_types=("throughput", "packet-rtt"))
    recorded = {each: pages(0, 1) for each in series}  # 128 bytes each
    monkeypatch.setattr(deliveries, "FULL", 127)
    sink = CollectedSink()
    outcome = deliver(RecordedSource(recorded=recorded), sink)
    assert [each.metadata.key for each in outcome.left] == ["b", "b", "c", "c"]
    assert {key.metadata_key for key in sink.held} == {"a"}
    assert (len(outcome.taken["sink[0]"]), outcome.read) == (2, 16)
    assert set(outcome.why(["sink[0]"])) == set(), "what is left has not failed"


def test_a_task_that_is_far_too_large_delivers_nothing(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    series = some("a", "b")
    monkeypatch.setattr(deliveries, "TOO_LARGE", 127)
    sink = CollectedSink()
    outcome = deliver(RecordedSource(recorded={each: pages(0, 1) for each in series}), sink)
    assert (list(outcome.left), outcome.taken, sink.held, outcome.failures) == (series, {}, {}, {})


def test_a_task_of_one_window_is_never_too_large(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    series = some("a", "b")
    monkeypatch.setattr(deliveries, "FULL", 1)
    monkeypatch.setattr(deliveries, "TOO_LARGE", 1)
    sink = CollectedSink()
    outcome = deliver(RecordedSource(recorded={each: pages(0) for each in series}), sink, task=Interval(0, DAY))
    assert (outcome.left, len(sink.held)) == ((), 2)


def test_the_bounds_of_a_task_are_a_few_tasks_of_the_size_that_is_aimed_at() -> None:
    assert (deliveries.FULL, deliveries.TOO_LARGE) == (128_000_000, 256_000_000)
