"""One task moved: every series of it read, transformed and written, several at a time, then committed as one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.plan import BYTES
from esmond_etl.model import profile
from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import EsmondEtlError, SourceError, StoppedError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Series, SeriesId
from esmond_etl.pipeline.file import Pipeline
from esmond_etl.plugin.sink import Load, Receipt, Task
from esmond_etl.plugin.stage import Context
from esmond_etl.plugin.transform import Transform

#: Once a task holds so many bytes of columns, no further metadata is begun, unless it is one window: smaller tasks do the others.
FULL = 4 * BYTES

#: Should those that had been begun be so large, nothing of the task is delivered.
TOO_LARGE = 2 * FULL

#: As many series that a sink would not take end a task: the fault lies with the sink.
ENOUGH = 5


@dataclass
class Outcome:
    """What became of a task; plain data."""

    task: Task
    done: list[SeriesId] = field(default_factory=list)  #: every sink has taken them
    failures: dict[SeriesId, str] = field(default_factory=dict)
    receipts: list[Receipt] = field(default_factory=list)  #: one a sink; empty if the task was not committed
    read: int = 0  #: datapoints
    size: int = 0  #: bytes of columns
    left: tuple[Series, ...] = ()  #: not delivered, as there was too much of them: smaller tasks must do that
    sink_failed: str = ""  #: why the task as a whole failed
    stopped: bool = False
    traffic: tuple[int, int, int] = (0, 0, 0)  #: process, and its requests and bytes received so far, of all stages
    spent: dict[str, float] = field(default_factory=dict)  #: CPU seconds of that process so far, by part, if they are measured


@dataclass
class _Moved:
    """How it went with one series."""

    series: Series
    read: int = 0
    size: int = 0
    error: str = ""
    of_sink: bool = False
    touched: bool = False  #: something of it has been written
    left: bool = False  #: it has not been begun

    def blame(self, error: Exception, of_sink: bool) -> None:
        text = str(error) if isinstance(error, EsmondEtlError) else f"{type(error).__name__}: {error}"
        self.error, self.of_sink = text or type(error).__name__, of_sink


@dataclass
class _Attempt:
    """One try to deliver a task; shared by the threads that read its series."""

    task: Task
    loads: list[Load] = field(default_factory=list)
    size: int = 0  #: bytes of columns so far; about
    begun: set[str] = field(default_factory=set)  #: keys of metadata

    def leaves(self, series: Series) -> bool:
        """Whether `series` is left to smaller tasks; what has the same metadata stays together."""
        if self._exceeds(FULL) and series.metadata.key not in self.begun:
            return True
        self.begun.add(series.metadata.key)
        return False

    @property
    def too_large(self) -> bool:
        return self._exceeds(TOO_LARGE)

    def _exceeds(self, size: int) -> bool:
        return self.size > size and self.task.interval.seconds > self.task.window

    def roll_back(self) -> None:
        for load in self.loads:
            load.rollback()


class Mover:
    """A pipeline with its stages open: moves tasks."""

    def __init__(self, pipeline: Pipeline, ledger: Ledger, stop: threading.Event) -> None:
        """Open all stages; raises EsmondEtlError, saying which cannot be opened and why."""
        self.pipeline, self.stop = pipeline, stop
        self._stages = [pipeline.source, *pipeline.transforms, *pipeline.sinks]
        parallel = pipeline.settings.parallel
        context = Context(pipeline.name, parallel, stop=stop)
        for stage in (pipeline.source, *pipeline.transforms):
            stage.open(context)
        for label, sink in zip(pipeline.labels, pipeline.sinks, strict=True):
            memory = ledger.memory(label)
            sink.open(Context(pipeline.name, parallel, memory, pipeline.source, stop))
        self._pool = ThreadPoolExecutor(parallel, "read")

    def close(self) -> None:
        """Close all stages."""
        self._pool.shutdown(cancel_futures=True)
        for stage in self._stages:
            stage.close()

    def becomes(self, series: Series) -> Series | None:
        """The series that sinks are given the datapoints of `series` as; None if nothing of it goes through."""
        target: Series | None = series
        for transform in self.pipeline.transforms:
            target = _becomes(target, transform)
        return target

    def move(self, task: Task) -> Outcome:
        """Deliver `task` to every sink; what failed is in the outcome, nothing is raised for it."""
        outcome = Outcome(task)
        targets = {series: self.becomes(series) for series in task.series}
        outcome.done = [series.id for series, target in targets.items() if target is None]
        left = self._deliverable(outcome, targets)
        try:
            while left and not self._attempt(outcome, left, targets):
                left = [series for series in left if series.id not in outcome.failures]
        except StoppedError:
            outcome.stopped = True
        outcome.traffic, outcome.spent = self.traffic, profile.snapshot()
        return outcome

    @property
    def traffic(self) -> tuple[int, int, int]:
        """This process, and the requests and bytes received of all its stages so far."""
        traffic = [stage.traffic for stage in self._stages]
        return os.getpid(), sum(each.requests for each in traffic), sum(each.received for each in traffic)

    def _deliverable(self, outcome: Outcome, targets: dict[Series, Series | None]) -> list[Series]:
        """The series that have something to deliver, and that no sink refuses."""
        for series, target in targets.items():
            refusals = (sink.refusal(target) for sink in self.pipeline.sinks if target is not None)
            if reason := next((refusal for refusal in refusals if refusal), None):
                outcome.failures[series.id] = reason
        return [series for series, target in targets.items() if target is not None and series.id not in outcome.failures]

    def _attempt(self, outcome: Outcome, series: list[Series], targets: dict[Series, Series | None]) -> bool:
        """Try to deliver `series`; False if some failed halfway, so that the rest must be delivered without them."""
        attempt = _Attempt(outcome.task)
        ends = tuple(dict.fromkeys(target for each in series if (target := targets[each])))
        try:
            attempt.loads += [sink.begin(replace(outcome.task, series=ends)) for sink in self.pipeline.sinks]
            moved = self._all(series, attempt)
            if self.stop.is_set():
                raise StoppedError("told to stop")
            return self._conclude(outcome, attempt, moved)
        except StoppedError:
            attempt.roll_back()
            raise
        except Exception as error:  # whatever a sink raises; the next run delivers the task again
            attempt.roll_back()
            return self._fail(outcome, series, error)

    def _conclude(self, outcome: Outcome, attempt: _Attempt, moved: list[_Moved]) -> bool:
        if attempt.too_large:
            attempt.roll_back()
            outcome.left = tuple(each.series for each in moved)
            return True
        outcome.failures.update({each.series.id: each.error for each in moved if each.error})
        if any(each.error and each.touched for each in moved):
            attempt.roll_back()
            return self._give_up(outcome, moved)
        outcome.receipts = [self._commit(load, label) for load, label in zip(attempt.loads, self.pipeline.labels, strict=True)]
        outcome.left = tuple(each.series for each in moved if each.left)
        outcome.done += [each.series.id for each in moved if not (each.error or each.left)]
        outcome.read, outcome.size = sum(each.read for each in moved), sum(each.size for each in moved)
        return True

    def _commit(self, load: Load, label: str) -> Receipt:
        with profile.part(label, whole=True):
            return load.commit()

    def _give_up(self, outcome: Outcome, moved: list[_Moved]) -> bool:
        blamed = [each for each in moved if each.of_sink]
        if len(blamed) < ENOUGH:
            return False
        outcome.sink_failed = blamed[-1].error
        outcome.failures.update({each.series.id: each.error or blamed[-1].error for each in moved})
        return True

    def _fail(self, outcome: Outcome, series: Iterable[Series], error: Exception) -> bool:
        outcome.sink_failed = str(error) if isinstance(error, EsmondEtlError) else f"{type(error).__name__}: {error}"
        outcome.receipts = []
        outcome.failures.update({each.id: outcome.sink_failed for each in series})
        return True

    def _all(self, series: list[Series], attempt: _Attempt) -> list[_Moved]:
        """How it went with each of `series`: as many threads as there may be take the next one, until none is left."""
        left = iter(series)  # threads may share it: `next` of a list's iterator is one step

        def work() -> list[_Moved]:
            return [self._series(each, attempt) for each in left]

        workers = [self._pool.submit(work) for _ in range(min(len(series), self.pipeline.settings.parallel))]
        return [moved for worker in workers for moved in worker.result()]

    def _series(self, series: Series, attempt: _Attempt) -> _Moved:
        moved = _Moved(series, left=attempt.leaves(series))
        if moved.left:
            return moved
        batches = self.transformed(series, attempt.task, moved)
        target = self.becomes(series) or series
        while not (self.stop.is_set() or attempt.too_large):
            try:
                before = moved.size
                batch = next(batches, None)
                attempt.size += moved.size - before
            except Exception as error:  # whatever a source or a transform raises
                moved.blame(error, of_sink=False)
                break
            try:
                moved.touched = True
                for load, label in zip(attempt.loads, self.pipeline.labels, strict=True):
                    with profile.part(label, whole=True):
                        load.end(target) if batch is None else load.write(batch)
                if batch is None:
                    break
            except Exception as error:  # whatever a sink raises
                moved.blame(error, of_sink=True)
                break
        return moved

    def transformed(self, series: Series, task: Task, moved: _Moved | None = None) -> Iterator[Batch]:
        """What the sinks should be given of `series` in the task's interval, oldest first.

        Raises what the source and the transforms raise, and SourceError if they do not keep the datapoints in order and in place.
        """
        batches: Any = _counted(profile.through("source", self.pipeline.source.read(series, task.interval)), moved)
        stage_series: Series | None = series
        for index, transform in enumerate(self.pipeline.transforms):
            if stage_series is not None and transform.concerns(stage_series):
                batches = profile.through(f"transform[{index}] ({type(transform).__name__})", transform.apply(batches))
            stage_series = _becomes(stage_series, transform)
        yield from _fit(batches, task.interval)

    def first(self, series: Series, interval: Interval) -> int | None:
        """A moment that no datapoint of `series` in `interval` lies before; None if that cannot be found out."""
        try:
            return self.pipeline.source.first(series, interval)
        except Exception:  # whatever a source raises; reading the series will raise it again, and report it
            return None

    def firsts(self, series: Iterable[Series], interval: Interval) -> list[int | None]:
        """`first` of each of `series`, several at a time."""
        return list(self._pool.map(lambda each: self.first(each, interval), series))


def _becomes(series: Series | None, transform: Transform) -> Series | None:
    if series is None or not transform.concerns(series):
        return series
    return transform.becomes(series)


def _fit(batches: Iterable[Batch], interval: Interval) -> Iterator[Batch]:
    """The batches that hold something; raises SourceError if datapoints are out of order, or not in `interval`."""
    last = interval.start
    for batch in batches:
        if not len(batch):
            continue
        moments = batch.moments
        outside = next((ts for ts in (moments[0], moments[-1]) if not interval.start <= ts < interval.end), None)
        if outside is not None:
            must = "a transform must not move it out of its window"
            raise SourceError(f"{batch.series} at {outside}: not in the task's interval {interval}: {must}")
        if not batch.ascends() or moments[0] < last:
            raise SourceError(f"{batch.series}: datapoints out of order: a transform must keep them oldest first")
        last = moments[-1]
        yield batch


def _counted(batches: Iterable[Batch], moved: _Moved | None) -> Iterator[Batch]:
    for batch in batches:
        if moved:
            moved.read += len(batch)
            moved.size += batch.points.nbytes
        yield batch
