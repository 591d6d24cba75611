"""The read half of a pipeline: its source and its transforms, open. No sink is needed for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self

from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import ConfigError, SourceError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Series
from esmond_etl.pipeline.definition import Definition
from esmond_etl.plugin.chain import Chain
from esmond_etl.plugin.stage import Context, Stage


class Stream:
    """The series and datapoints that the sinks of a pipeline receive. Use it in a `with`: it closes the stages in the end."""

    def __init__(self, definition: Definition, stop: threading.Event | None = None) -> None:
        """Open the source and the transforms; raises EsmondEtlError, saying which stage cannot be opened and why."""
        self.definition = definition
        self.stop = stop or threading.Event()
        self.source, self.chain = definition.source, Chain(definition.transforms)
        self.stages: list[Stage] = []
        settings = definition.settings
        with ExitStack() as opened:
            for stage in (definition.source, *definition.transforms):
                stage.open(Context(definition.name, settings.requests, stop=self.stop, most=settings.most))
                opened.callback(stage.close)
                self.stages.append(stage)
            self.pool = ThreadPoolExecutor(settings.threads, "read")
            opened.callback(self.pool.shutdown, cancel_futures=True)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stages."""
        self._opened.close()

    def series(self, interval: Interval, some: bool = False) -> Iterator[Series]:
        """The series that the source offers in `interval`, of the pipeline's shard if it has one; none if `interval` is empty.

        Raises SourceError if one of several archives cannot be listed; not with `some`: then the source's `absent` names it. Raises
        ConfigError if the source has nothing at any time that its filters match.
        """
        shard, is_empty = self.definition.shard, bool(interval.seconds)
        for each in self.source.series(interval) if interval.seconds else ():
            is_empty = False
            if shard is None or shard.has(each.metadata.key):
                yield each
        if not some and (absent := self.source.absent()):
            raise SourceError("; ".join(f"{name}: {reason}" for name, reason in absent.items()))
        if is_empty and (reason := self.source.unmatched()):
            raise ConfigError(reason)

    def becomes(self, series: Series) -> Series | None:
        """The series that sinks receive the datapoints of `series` as; None if the transforms leave it out."""
        return self.chain.becomes(series)

    def read(self, series: Series, interval: Interval, tally: Callable[[Batch], None] | None = None) -> Iterator[Batch]:
        """The datapoints of `series` in `interval` as sinks receive them, oldest first; `tally` is called with each batch of the source.

        Raises what the source and the transforms raise, and SourceError if they do not keep the datapoints in order and in place.
        """
        batches = self.source.read(series, interval)
        return self.chain.apply(series, batches if tally is None else _tallied(batches, tally), interval)

    def first(self, series: Series, interval: Interval) -> int | None:
        """A time (Unix time) before or at the first datapoint of `series` in `interval`; None if the source cannot tell."""
        try:
            return self.source.first(series, interval)
        except Exception:  # a source may raise anything; reading the series will raise it again, and report it
            return None

    def firsts(self, series: Iterable[Series], interval: Interval) -> list[int | None]:
        """The result of `first` for each of `series`, several at a time."""
        return list(self.pool.map(lambda each: self.first(each, interval), series))


def _tallied(batches: Iterable[Batch], tally: Callable[[Batch], None]) -> Iterator[Batch]:
    for batch in batches:
        tally(batch)
        yield batch
