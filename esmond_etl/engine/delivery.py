"""The write half of a pipeline: every series of a task is read and written to the sinks, several at a time, then committed as one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Self

from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.plan import BYTES
from esmond_etl.engine.stream import Stream
from esmond_etl.model import profile
from esmond_etl.model.batch import Batch
from esmond_etl.model.digest import Digester, Window
from esmond_etl.model.errors import SinkError, StoppedError, described
from esmond_etl.model.series import Series, SeriesId
from esmond_etl.plugin.sink import Load, Receipt, Reject, Sink, Task
from esmond_etl.plugin.stage import Context

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
    faults: list[Reject] = field(default_factory=list)  #: datapoints of the source that are not valid, and were left out
    digests: dict[SeriesId, list[Window]] = field(default_factory=dict)  #: of what the sinks were given of `done`
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
    faults: list[Reject] = field(default_factory=list)
    digests: list[Window] = field(default_factory=list)
    error: str = ""
    of_sink: bool = False
    touched: bool = False  #: something of it has been written
    left: bool = False  #: it has not been begun

    def blame(self, error: Exception, of_sink: bool) -> None:
        """The series failed: because of a sink, or of the source and the transforms."""
        self.error, self.of_sink = described(error), of_sink


@dataclass
class _Attempt:
    """One try to deliver a task; shared by the threads that read its series."""

    task: Task
    targets: dict[Series, Series]  #: what the sinks receive each series as
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


class Delivery:
    """A stream and the sinks that it goes to, open. Use it in a `with`: it closes the sinks in the end, and leaves the stream open."""

    def __init__(self, stream: Stream, ledger: Ledger, waiting: Callable[[str], None] = lambda _: None) -> None:
        """Open the sinks; raises EsmondEtlError, saying which cannot be opened and why. `waiting` is told what a sink waits for."""
        self.stream, self.definition, self.stop = stream, stream.definition, stream.stop
        self._unready = list(self._sinks())
        self._looking = threading.Lock()
        settings, source = self.definition.settings, self.definition.source
        with ExitStack() as opened:
            for label, sink in self._sinks():
                memory = ledger.memory(label)
                sink.open(Context(self.definition.name, settings.requests, memory, source, waiting, self.stop, settings.most))
                opened.callback(sink.close)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _sinks(self) -> Iterable[tuple[str, Sink]]:
        return zip(self.definition.labels, self.definition.sinks, strict=True)

    def refusal(self, target: Series) -> str | None:
        """Why one of the sinks can never take `target`, as a stream returns it; None if all can."""
        return next((reason for sink in self.definition.sinks if (reason := sink.refusal(target))), None)

    def deliver(self, task: Task) -> Outcome:
        """Deliver `task` to every sink; what failed is in the outcome, nothing is raised for it."""
        outcome = Outcome(task)
        targets = {series: self.stream.becomes(series) or series for series in task.series}
        left = list(task.series)
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
        traffic = [stage.traffic for stage in (*self.stream.stages, *self.definition.sinks)]
        return os.getpid(), sum(each.requests for each in traffic), sum(each.received for each in traffic)

    def _attempt(self, outcome: Outcome, series: list[Series], targets: dict[Series, Series]) -> bool:
        """Try to deliver `series`; False if some failed halfway, so that the rest must be delivered without them."""
        attempt = _Attempt(outcome.task, targets)
        ends = tuple(dict.fromkeys(targets[each] for each in series))
        try:
            self._look_at_sinks()
            attempt.loads += [sink.begin(replace(outcome.task, series=ends)) for sink in self.definition.sinks]
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

    def _look_at_sinks(self) -> None:
        """Raise SinkError if a sink that has not answered yet does not answer; nothing should be read for it."""
        with self._looking:
            while self._unready:
                label, sink = self._unready[-1]
                try:
                    sink.ready()
                except SinkError as error:
                    raise SinkError(f"{label}: {error}") from error
                self._unready.pop()

    def _conclude(self, outcome: Outcome, attempt: _Attempt, moved: list[_Moved]) -> bool:
        if attempt.too_large:
            attempt.roll_back()
            outcome.left = tuple(each.series for each in moved)
            return True
        outcome.failures.update({each.series.id: each.error for each in moved if each.error})
        if any(each.error and each.touched for each in moved):
            attempt.roll_back()
            return self._give_up(outcome, moved)
        outcome.receipts = [self._commit(load, label) for load, label in zip(attempt.loads, self.definition.labels, strict=True)]
        outcome.left = tuple(each.series for each in moved if each.left)
        outcome.done += [each.series.id for each in moved if not (each.error or each.left)]
        outcome.faults = [fault for each in moved if not (each.error or each.left) for fault in each.faults]
        outcome.digests = {each.series.id: each.digests for each in moved if not (each.error or each.left)}
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
        outcome.sink_failed = described(error)
        outcome.receipts = []
        outcome.failures.update({each.id: outcome.sink_failed for each in series})
        return True

    def _all(self, series: list[Series], attempt: _Attempt) -> list[_Moved]:
        """How it went with each of `series`: as many threads as there may be take the next one, until none is left."""
        left = iter(series)  # threads may share it: `next` of a list's iterator is one step

        def work() -> list[_Moved]:
            return [self._series(each, attempt) for each in left]

        workers = [self.stream.pool.submit(work) for _ in range(min(len(series), self.definition.settings.threads))]
        return [moved for worker in workers for moved in worker.result()]

    def _series(self, series: Series, attempt: _Attempt) -> _Moved:
        moved = _Moved(series, left=attempt.leaves(series))
        if moved.left:
            return moved

        def tally(batch: Batch) -> None:
            moved.read += len(batch)
            moved.faults += [Reject(series, fault.ts or 0, fault.text, fault.reason) for fault in batch.faults]
            moved.size += batch.points.nbytes
            attempt.size += batch.points.nbytes

        batches = self.stream.read(series, attempt.task.interval, tally)
        digester = Digester(attempt.task.window)
        while not (self.stop.is_set() or attempt.too_large):
            try:
                batch = next(batches, None)
            except Exception as error:  # whatever a source or a transform raises
                moved.blame(error, of_sink=False)
                break
            try:
                moved.touched = True
                self._write(attempt, series, batch)
                with profile.part("digest"):
                    moved.digests += digester.end() if batch is None else digester.add(batch)
            except Exception as error:  # whatever a sink raises
                moved.blame(error, of_sink=True)
                break
            if batch is None:
                break
        return moved

    def _write(self, attempt: _Attempt, series: Series, batch: Batch | None) -> None:
        """Give `batch` to every sink, or say that the series has ended."""
        for load, label in zip(attempt.loads, self.definition.labels, strict=True):
            with profile.part(label, whole=True):
                load.end(attempt.targets[series]) if batch is None else load.write(batch)
