"""The read half: what a source and transforms do wrong, and what closing leaves undone."""

from __future__ import annotations

import threading

from esmond_etl import Interval, Metadata, Series, SourceError
from esmond_etl.engine.stream import Stream
from esmond_etl.pipeline.definition import Definition
from esmond_etl.pipeline.settings import Settings
from esmond_etl.testing import CollectedSink, RecordedSource

ALWAYS = Interval(0, 100)


class Failing(RecordedSource):
    """A source that cannot tell where some series begin."""

    def first(self, series: Series, interval: Interval) -> int:
        """Where `ok` begins."""
        if series.metadata.key != "ok":
            raise SourceError("no answer")
        return 7


def pipeline() -> Definition:
    settings = Settings.model_validate({"from": 0, "to": 100, "window": "1s", "parallel": 1})
    return Definition("p.toml", settings, Failing(recorded=[]), (), (CollectedSink(),), ("sink[0] (collected)",))


def test_a_beginning_that_a_source_cannot_tell_is_not_known() -> None:
    ok, broken = (Series(Metadata(key), "throughput") for key in ("ok", "broken"))
    with Stream(pipeline()) as stream:
        assert stream.firsts([ok, broken], ALWAYS) == [7, None]


def test_closing_drops_what_has_not_begun() -> None:
    going_on, may_end = threading.Event(), threading.Event()
    stream = Stream(pipeline())

    def work() -> None:
        going_on.set()
        may_end.wait(60)

    first = stream.pool.submit(work)
    queued = [stream.pool.submit(work) for _ in range(100)]
    going_on.wait(60)
    closing = threading.Thread(target=stream.close)
    closing.start()
    while not any(each.cancelled() for each in queued):
        pass
    may_end.set()
    closing.join(60)
    assert first.result() is None
    assert any(each.cancelled() for each in queued)
