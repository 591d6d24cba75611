"""The write half of a pipeline: it writes every series of a task to the sinks, several at a time, then commits the task as one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
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

#: Once a task holds this many bytes of columns, smaller tasks deliver its other metadata, unless it is one window.
FULL = 4 * BYTES

#: If the metadata that were begun become this large, nothing of the task is delivered.
TOO_LARGE = 2 * FULL

#: When a sink has refused this many series, the task ends: the sink itself has a fault.
ENOUGH = 5


@dataclass
class Outcome:
    """The result of a task; plain data."""

    task: Task
    taken: dict[str, list[SeriesId]] = field(default_factory=dict)  #: by the label of the sink
    failures: dict[SeriesId, str] = field(default_factory=dict)  #: what could not be read
    refused: dict[str, dict[SeriesId, str]] = field(default_factory=dict)  #: series that a sink refused, by its label
    sinks_failed: dict[str, str] = field(default_factory=dict)  #: why a sink took nothing of the task, by its label
    receipts: dict[str, Receipt] = field(default_factory=dict)  #: of each sink that committed, by its label
    faults: list[Reject] = field(default_factory=list)  #: datapoints of the source that are not valid, and were left out
    digests: dict[SeriesId, list[Window]] = field(
        default_factory=dict
    )  #: of the datapoints that the sinks were given, of each series that a sink has taken
    read: int = 0  #: datapoints
    size: int = 0  #: bytes of columns
    left: tuple[Series, ...] = ()  #: too large to be delivered: left to smaller tasks
    stopped: bool = False
    traffic: tuple[int, int, int] = (0, 0, 0)  #: process, and its requests and bytes received so far, of all stages
    spent: dict[str, float] = field(default_factory=dict)  #: CPU seconds of that process so far, by part, if they are measured

    def done(self, labels: Sequence[str]) -> list[SeriesId]:
        """The series that each of the sinks with `labels` has taken."""
        first, *others = (self.taken.get(label, []) for label in labels)
        of_others = [set(taken) for taken in others]
        return [series for series in first if all(series in taken for taken in of_others)]

    def why(self, labels: Sequence[str]) -> dict[SeriesId, str]:
        """Each series that one of the sinks with `labels` has not taken, unless it was left, and why."""
        reasons: dict[SeriesId, str] = {}
        left = {series.id for series in self.left}
        ids = [series.id for series in self.task.series if series.id not in left]
        for label, reason in self.sinks_failed.items():
            reasons.update((series, _named(label, reason, labels)) for series in ids)
        for label, refused in self.refused.items():
            reasons.update((series, _named(label, reason, labels)) for series, reason in refused.items())
        return reasons | self.failures


def _named(label: str, reason: str, labels: Sequence[str]) -> str:
    """The reason, with the sink's label if there are several sinks and it does not say so itself."""
    return reason if len(labels) == 1 or reason.startswith(label) else f"{label}: {reason}"


@dataclass
class _Moved:
    """The result of one series."""

    series: Series
    read: int = 0
    size: int = 0
    faults: list[Reject] = field(default_factory=list)
    digests: list[Window] = field(default_factory=list)
    error: str = ""  #: why it could not be read to its end
    refused: dict[str, str] = field(default_factory=dict)  #: why a sink refused it, by the sink's label
    touched: bool = False  #: at least one batch was written
    left: bool = False  #: it was not begun


@dataclass
class _Attempt:
    """One try to deliver series of a task to some sinks; shared by the threads that read the series."""

    task: Task
    series: list[Series]
    targets: dict[Series, Series]  #: source series -> the series that the sinks receive
    loads: dict[str, Load] = field(default_factory=dict)  #: by the sink's label
    is_bounded: bool = True  #: what is too large is left to smaller tasks; false when one sink alone must catch up with the others
    size: int = 0  #: bytes of columns so far; about
    begun: set[str] = field(default_factory=set)  #: keys of metadata

    def leaves(self, series: Series) -> bool:
        """Whether `series` is left to smaller tasks; series of the same metadata stay together."""
        if self._exceeds(FULL) and series.metadata.key not in self.begun:
            return True
        self.begun.add(series.metadata.key)
        return False

    @property
    def too_large(self) -> bool:
        return self._exceeds(TOO_LARGE)

    def _exceeds(self, size: int) -> bool:
        return self.is_bounded and self.size > size and self.task.interval.seconds > self.task.window

    def roll_back(self) -> None:
        for load in self.loads.values():
            load.rollback()


class Delivery:
    """A stream and the sinks that it goes to, open. Use it in a `with`: it closes the sinks in the end, and leaves the stream open.

    A sink that fails does not hold the others up: they take what they can, and the ledger notes what each has taken.
    """

    def __init__(
        self, stream: Stream, ledger: Ledger, waiting: Callable[[str], None] = lambda _: None, needs_all: bool = False
    ) -> None:
        """Open the sinks; `waiting` is told what a sink waits for.

        Raises EsmondEtlError, saying why, if a sink cannot be opened. If only some targets do not answer, that is an error only if
        the caller `needs_all`.
        """
        self.stream, self.definition, self.stop = stream, stream.definition, stream.stop
        self._sinks = dict(zip(self.definition.labels, self.definition.sinks, strict=True))
        self._unready = set(self._sinks)
        self._closed: dict[
            str, SinkError
        ] = {}  # sinks that could not be opened, or did not answer, and the reason: they get nothing
        self._looking = {label: threading.Lock() for label in self._sinks}
        settings, source = self.definition.settings, self.definition.source
        with ExitStack() as opened:
            for label, sink in self._sinks.items():
                memory = ledger.memory(label)
                context = Context(self.definition.name, settings.requests, memory, source, waiting, self.stop, settings.most)
                try:
                    sink.open(context)
                except SinkError as error:
                    self._closed[label] = error
                else:
                    opened.callback(sink.close)
            if self._closed and (needs_all or len(self._closed) == len(self._sinks)):
                raise next(iter(self._closed.values()))
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def opened(self) -> dict[str, Sink]:
        """The sinks that could be opened, by label."""
        return {label: sink for label, sink in self._sinks.items() if label not in self._closed}

    def refusal(self, target: Series) -> str | None:
        """Why one of the sinks can never take `target`, as a stream returns it; None if all can."""
        return next((reason for sink in self.opened.values() if (reason := sink.refusal(target))), None)

    def deliver(self, task: Task) -> Outcome:
        """Deliver `task` to its sinks; failures are part of the outcome, and are not raised."""
        outcome = Outcome(task)
        targets = {series: self.stream.becomes(series) or series for series in task.series}
        todo = [(list(task.series), task.sinks or tuple(self._sinks))]
        try:
            while todo:
                series, labels = todo.pop()
                todo += self._attempt(outcome, series, labels, targets)
        except StoppedError:
            outcome.stopped = True
        outcome.traffic, outcome.spent = self.traffic, profile.snapshot()
        return outcome

    @property
    def traffic(self) -> tuple[int, int, int]:
        """This process, and the requests and bytes received of all its stages so far."""
        traffic = [stage.traffic for stage in (*self.stream.stages, *self.definition.sinks)]
        return os.getpid(), sum(each.requests for each in traffic), sum(each.received for each in traffic)

    def _attempt(self, outcome: Outcome, series: list[Series], labels: Sequence[str], targets: dict[Series, Series]) -> list[_Todo]:
        """Try to deliver `series` to the sinks with `labels`; returns what must be tried again, without what failed halfway."""
        if not series:
            return []
        attempt = _Attempt(outcome.task, series, targets, is_bounded=not outcome.receipts)
        try:
            self._begin(outcome, attempt, labels)
            moved = self._all(attempt) if attempt.loads else []
            if self.stop.is_set():
                raise StoppedError("told to stop")
            return self._conclude(outcome, attempt, moved)
        except BaseException:
            attempt.roll_back()
            raise

    def _begin(self, outcome: Outcome, attempt: _Attempt, labels: Sequence[str]) -> None:
        """Begin to load the task into the sinks that answer; note why the others do not."""
        ends = tuple(dict.fromkeys(attempt.targets[each] for each in attempt.series))
        for label in labels:
            try:
                self._look_at(label)
                attempt.loads[label] = self._sinks[label].begin(replace(outcome.task, series=ends))
            except StoppedError:
                raise
            except Exception as error:  # a sink may raise anything; the next run delivers the task again
                outcome.sinks_failed[label] = described(error)

    def _look_at(self, label: str) -> None:
        """Raise SinkError if the sink was not opened, or did not answer the first time: then nothing should be read for it."""
        with self._looking[label]:
            if label in self._unready and label not in self._closed:
                try:
                    self._sinks[label].ready()
                    self._unready.remove(label)
                except SinkError as error:
                    self._closed[label] = error
        if label in self._closed:
            raise SinkError(f"{label}: {self._closed[label]}") from self._closed[label]

    def _conclude(self, outcome: Outcome, attempt: _Attempt, moved: list[_Moved]) -> list[_Todo]:
        if attempt.too_large:
            attempt.roll_back()
            outcome.left += tuple(each.series for each in moved)
            return []
        outcome.failures.update({each.series.id: each.error for each in moved if each.error})
        outcome.left += tuple(each.series for each in moved if each.left)
        whole = [each for each in moved if not (each.error or each.left)]
        if any(each.error and each.touched for each in moved):
            attempt.roll_back()
            return [([each.series for each in whole], tuple(attempt.loads))]
        again: list[_Todo] = []
        for label in list(attempt.loads):
            load = attempt.loads.pop(label)
            again += self._finish(outcome, load, label, whole)
        _add(outcome, whole)
        return again

    def _finish(self, outcome: Outcome, load: Load, label: str, moved: list[_Moved]) -> Iterator[_Todo]:
        """Commit what the sink with `label` was given, unless it refused a series: then the others are tried again."""
        refused = {each.series.id: each.refused[label] for each in moved if label in each.refused}
        try:
            if refused:
                load.rollback()
                outcome.refused.setdefault(label, {}).update(refused)
                if len(outcome.refused[label]) >= ENOUGH:
                    outcome.sinks_failed[label] = [*refused.values()][-1]
                else:
                    yield [each.series for each in moved if label not in each.refused], (label,)
            else:
                with profile.part(label, whole=True):
                    outcome.receipts[label] = load.commit()
                outcome.taken[label] = [each.series.id for each in moved]
        except StoppedError:
            load.rollback()
            raise
        except Exception as error:  # a sink may raise anything; the next run delivers the task again
            load.rollback()
            outcome.sinks_failed[label] = described(error)

    def _all(self, attempt: _Attempt) -> list[_Moved]:
        """The result of each series: the allowed number of threads take the next series until none is left."""
        left = iter(attempt.series)  # threads may share it: `next` of a list's iterator is one step

        def work() -> list[_Moved]:
            return [self._series(each, attempt) for each in left]

        workers = [self.stream.pool.submit(work) for _ in range(min(len(attempt.series), self.definition.settings.threads))]
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
        while not (self.stop.is_set() or attempt.too_large or len(moved.refused) == len(attempt.loads)):
            try:
                batch = next(batches, None)
            except Exception as error:  # a source or a transform may raise anything
                moved.error = described(error)
                break
            moved.touched = True
            _write(attempt, moved, batch)
            with profile.part("digest"):
                moved.digests += digester.end() if batch is None else digester.add(batch)
            if batch is None:
                break
        return moved


#: Series, and the labels of the sinks that lack them.
_Todo = tuple[list[Series], tuple[str, ...]]


def _write(attempt: _Attempt, moved: _Moved, batch: Batch | None) -> None:
    """Give `batch` to every sink that has accepted the series so far; None ends the series."""
    for label, load in attempt.loads.items():
        if label not in moved.refused:
            try:
                with profile.part(label, whole=True):
                    load.end(attempt.targets[moved.series]) if batch is None else load.write(batch)
            except Exception as error:  # a sink may raise anything
                moved.refused[label] = described(error)


def _add(outcome: Outcome, moved: list[_Moved]) -> None:
    """Count, once, what at least one sink has taken."""
    taken = {series for of_sink in outcome.taken.values() for series in of_sink}
    for each in moved:
        if each.series.id in taken and each.series.id not in outcome.digests:
            outcome.digests[each.series.id] = each.digests
            outcome.faults += each.faults
            outcome.read += each.read
            outcome.size += each.size
