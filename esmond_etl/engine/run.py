"""A run of a pipeline: plan what is left, deliver it, record it."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from esmond_etl.engine import changes, files, plan, remote
from esmond_etl.engine.changes import Redeliver
from esmond_etl.engine.delivery import Delivery, Outcome
from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.neighbours import Neighbours, note_places
from esmond_etl.engine.owners import Places
from esmond_etl.engine.result import Delivered, Observer, Result
from esmond_etl.engine.stream import Stream
from esmond_etl.model import profile
from esmond_etl.model.errors import ConfigError, EsmondEtlError, described
from esmond_etl.model.interval import Interval, IntervalSet, floor
from esmond_etl.model.series import Series, SeriesId
from esmond_etl.pipeline.definition import Definition
from esmond_etl.plugin.executor import Engine
from esmond_etl.plugin.sink import Task

#: A series that has failed in this many tasks is left to the next run.
GIVEN_UP = 2

#: After a sink has refused this many tasks in a row, it gets no more in this run.
ENOUGH = 3


def run(
    definition: Definition,
    observer: Observer,
    stop: threading.Event | None = None,
    from_: object = None,
    to: object = None,
    again: bool = False,
    processes: int = 0,
    redeliver: Redeliver | None = None,
    connect: Callable[[], AbstractContextManager[Engine]] | None = None,
    take_over: bool = False,
) -> Result:
    """Deliver what has not been delivered, and return the result.

    `from_` and `to` replace the pipeline's own; with `again`, what is done already is delivered again. With `processes`, this many
    worker processes share the tasks; with `connect`, the workers of a cluster. `redeliver` says what to do with what a former definition
    delivered. With `take_over`, places that belong to other pipelines are from now on this one's.

    Raises LockedError if another run of the pipeline is under way, and EsmondEtlError if a stage cannot be opened or the source
    cannot be listed.
    """
    now = int(time.time())
    with (
        files.lock(definition.ledger_path.with_suffix(".lock")),
        closing(Ledger(definition.ledger_path)) as ledger,
        Stream(definition, stop) as stream,
        Delivery(stream, ledger, observer.waiting) as delivery,
        Neighbours(definition) as neighbours,
    ):
        places = Places(definition, delivery.opened.items())
        places.claim(take_over, _own(definition, ledger))
        if take_over:
            neighbours.take_over(ledger)
        note_places(definition, ledger)
        ledger.beside(definition.all_ledgers)
        interval, note = changes.begin(definition, ledger, definition.wanted(now, from_, to), now, redeliver)
        result = Result(definition.name, interval, note=note)
        result.sinks = {label: Delivered() for label in definition.labels}
        with _executor(delivery, processes, connect) as (executor, deliver, processes):
            listed = _Listing(delivery, places, neighbours, observer, result).series()
            this = _Run(delivery, ledger, observer, result, executor, deliver, processes)
            this.go(listed, now, again)
            if this.has_tried_all and _is_whole(definition, ledger, result, now):
                ledger.note_read(now)
        result.seconds = time.time() - now
        result.waiting = 0 if definition.settings.rejects == "accept" else ledger.count_rejected()
        ledger.add_run(now, {name: value for name, value in result.to_json().items() if name != "failures"})
    return result


def _is_whole(definition: Definition, ledger: Ledger, result: Result, now: int) -> bool:
    """Whether the time of the run covers all that the file asks for, late data included."""
    wanted = definition.wanted(now)
    due = IntervalSet([wanted]) if ledger.last_read() is None else plan.late(definition, ledger, wanted, now).within(wanted)
    return not due.minus(IntervalSet([result.interval]))


def _own(definition: Definition, ledger: Ledger) -> str | None:
    """Note which pipeline file the ledger belongs to, and return the file noted before; None if there was none.

    Raises ConfigError if that is another file that still exists: the two would undo each other's work.
    """
    other, own = ledger.about("file"), str(Path(definition.file).resolve())
    if other not in (None, own) and Path(other or "").exists():
        raise ConfigError(
            f"{definition.file}: {definition.name!r} and its ledger are also those of {other}: give each a name of its own"
        )
    ledger.set_about("file", own)
    return other


@dataclass
class _Listing:
    """The series that a run delivers, as the source lists them."""

    delivery: Delivery
    places: Places
    neighbours: Neighbours
    observer: Observer
    result: Result
    taken: dict[SeriesId, Series] = field(default_factory=dict)  #: series that sinks receive -> series that it is made of

    def series(self) -> Iterator[Series]:
        """Every series that the transforms keep and all sinks can accept; the others are failures of the run, or left out."""
        count = 0
        for each in profile.through("list", self.delivery.stream.series(self.result.interval, some=True), whole=True):
            target = self.delivery.stream.becomes(each)
            if target is not None and (reason := self._obstacle(each, target)):
                self.result.failures[each.id] = reason
            elif target is not None:
                yield each
                count += 1
                if count % 1000 == 0:
                    self.observer.listed(count)
        source = self.delivery.definition.source
        for key, reason in {**source.unusable(), **source.absent()}.items():
            self.result.failures[SeriesId(key, "*", "*")] = reason
        self.observer.listed(count)
        self.places.leave_notes()

    def _obstacle(self, series: Series, target: Series) -> str | None:
        """Why `series` cannot be delivered as `target`."""
        if self.delivery.definition.transforms:
            first = self.taken.setdefault(target.id, series)
            if first is not series:
                return f"the transforms make the same series of it ({target}) as of {first}"
        return self.delivery.refusal(target) or self.places.obstacle(target) or self.neighbours.obstacle(series)


@contextmanager
def _executor(
    delivery: Delivery, processes: int, connect: Callable[[], AbstractContextManager[Engine]] | None
) -> Iterator[tuple[Executor, Any, int]]:
    """The executor of tasks, the function that delivers one, and the number of workers beside this process."""
    definition = delivery.definition
    if connect is not None:
        with connect() as engine, _passing_on(delivery.stop, engine.stop):
            job = remote.job(definition, engine.workers, engine.stopped)
            yield engine.executor, partial(remote.deliver, job), engine.workers
        return
    if not processes:
        with ThreadPoolExecutor(definition.settings.threads, "task") as executor:
            yield executor, delivery.deliver, 0
        return
    from esmond_etl.engine import processes as workers

    with workers.executor(definition, processes, delivery.stop) as executor:
        yield executor, workers.deliver, processes


@contextmanager
def _passing_on(stop: threading.Event, tell: Callable[[], None]) -> Iterator[None]:
    """Tell the workers to stop when this process has been told to."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_OFTEN):
            if stop.is_set():
                with suppress(Exception):  # the engine may already be gone
                    tell()
                return

    threading.Thread(target=watch, name="stop", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


#: The label of the source, in the place of a sink's label.
_SOURCE: Final = "source"

#: How often the run looks whether it has been told to stop, s.
_OFTEN: Final = 0.2


#: Why a sink that failed before gets no more tasks.
_NO_MORE: Final = "it failed too often in this run, and was given no more"


class _Part(NamedTuple):
    """Series of a task, and the sinks that get them; sinks that failed too often do not."""

    task: Task
    takers: tuple[str, ...]

    @property
    def given(self) -> Task:
        """The work of a run."""
        return replace(self.task, sinks=self.takers)


@dataclass
class _Run:
    """The state of one run: tasks in flight, and the results of those that ended."""

    delivery: Delivery
    ledger: Ledger
    observer: Observer
    result: Result
    executor: Executor
    deliver: Any
    processes: int  #: workers that share the tasks; 0: this process delivers them
    failed_in_a_row: Counter[str] = field(default_factory=Counter)  #: consecutive tasks that a sink refused, by its label
    reasons: dict[str, str] = field(default_factory=dict)  #: why a sink refused a task the last time, by its label
    failed: Counter[tuple[str, SeriesId]] = field(default_factory=Counter)  #: tasks that a series has failed in, by label
    cut: deque[Task] = field(default_factory=deque)  #: tasks for what was left of tasks that were too large
    parts: deque[_Part] = field(default_factory=deque)  #: the series of the next task
    traffic: dict[int, tuple[int, int]] = field(default_factory=dict)
    spent: dict[int, dict[str, float]] = field(default_factory=dict)  #: by process

    def __post_init__(self) -> None:
        self.definition, self.stop = self.delivery.definition, self.delivery.stop
        self.pace = plan.Pace(self.definition.settings.window)
        #: tasks in flight, unless they are so small that more are needed to keep all requests busy
        self.at_once = max(self.processes * 2, 2)

    def go(self, series: Iterable[Series], now: int, again: bool) -> None:
        whole = profile.through("plan", plan.todo(self.definition, self.ledger, series, self.result.interval, now, again))
        groups = [part for group in whole for part in plan.shared(group, max(self.processes, 1))]
        self._set_aside(self.result.failures, now)
        self.result.series = len({each.id for group in groups for each in group.series})
        self.observer.planned(sum(group.intervals.seconds * len(group.series) for group in groups))
        in_flight: dict[Future[Outcome], Task] = {}
        tasks = plan.tasks(groups if again or self.ledger.replaces else map(self._from_first, groups), self.pace)
        while not (self.stop.is_set() or self._has_given_up):
            if in_flight and plan.enough(in_flight.values(), self.definition.settings.threads, self.at_once):
                self._settle(in_flight)
            elif part := self._next(tasks):
                in_flight[self.executor.submit(self.deliver, part.given)] = part.task
            elif in_flight:
                self._settle(in_flight)
            else:
                break
        while in_flight:
            self._settle(in_flight)
        self._count(self.delivery.traffic, profile.snapshot())
        self.result.remarks.update(self.definition.source.remarks())
        self.result.stopped = self.result.stopped or self.stop.is_set()

    @property
    def _has_given_up(self) -> bool:
        """Whether all sinks have failed too often."""
        return not any(self._takes(label) for label in self.definition.labels)

    @property
    def has_tried_all(self) -> bool:
        """Whether every task has been tried, or is noted as failed."""
        return not (self.result.stopped or self._has_given_up)

    def _takes(self, label: str) -> bool:
        return self.failed_in_a_row[label] < ENOUGH

    def _set_aside(self, failures: Mapping[SeriesId, str], now: int) -> None:
        """Note what cannot be delivered in this run, and mark the time of late data as not done: a later run reads it."""
        late = plan.late(self.definition, self.ledger, self.result.interval, now)
        known = [series for series, _ in self.ledger.all_done()] if failures else []
        keys = {series.metadata_key for series in failures if series.event_type == "*"}
        for interval in late:
            self.ledger.forget(interval, [each for each in known if each in failures or each.metadata_key in keys])
        self.ledger.note_failures(failures, self.result.interval)

    def _next(self, tasks: Iterator[Task]) -> _Part | None:
        """The next work, without the sinks and series that keep failing."""
        while not self.parts and (task := self.cut.popleft() if self.cut else next(tasks, None)):
            self.parts.extend(part for part in self._parts(task) if not self._skipped(part))
        return self.parts.popleft() if self.parts else None

    def _parts(self, task: Task) -> Iterator[_Part]:
        """The task in parts, each with the sinks that take all series of it."""
        labels = [each for each in task.sinks or self.definition.labels if self._takes(each)]
        groups: dict[tuple[str, ...], list[Series]] = {}
        for series in task.series:
            is_read = self.failed[_SOURCE, series.id] < GIVEN_UP
            own = tuple(each for each in labels if is_read and self.failed[each, series.id] < GIVEN_UP)
            groups.setdefault(own, []).append(series)
        for takers, group in groups.items():
            yield _Part(replace(task, series=tuple(group)), takers)

    def _skipped(self, part: _Part) -> bool:
        """Whether no sink takes the part; then it is noted as failed, and what was to be read again for late data stays not done."""
        if part.takers:
            return False
        reasons = {series.id: self.result.failures.get(series.id, _NO_MORE) for series in part.task.series}
        self.ledger.record((), part.task.interval, failures=reasons)
        self.result.failures.update(reasons)
        self.observer.moved(part.task.interval.seconds * len(part.task.series), Outcome(part.task), self.result)
        return True

    def _from_first(self, group: plan.Todo) -> plan.Todo:
        """The group without the time before the first datapoint of all its series; that time counts as done."""
        long, *rest = group.intervals
        if long.seconds < plan.LONG or self.stop.is_set():
            return group
        firsts = dict(zip(group.series, self.delivery.stream.firsts(group.series, long), strict=True))
        known = {series: first for series, first in firsts.items() if first is not None}
        start = floor(min(known.values(), default=long.start), self.definition.settings.window)
        if start > long.start:
            empty = Interval(long.start, min(start, long.end))
            self.ledger.record(
                (series.id for series in known), empty, {each.metadata.key: each.metadata for each in known}.values()
            )
            self.observer.moved(empty.seconds * len(group.series), Outcome(Task((), empty, 1)), self.result)
        return group._replace(intervals=IntervalSet.of([(max(start, long.start), long.end), *rest]))

    def _settle(self, in_flight: dict[Future[Outcome], Task]) -> None:
        """Wait until a task has ended, and record it: first comes the sinks' commit, then this."""
        # in short waits: the system may give a signal to another thread, and this one handles it only when it wakes up
        while not (ended := wait(in_flight, _OFTEN, FIRST_COMPLETED).done):
            pass
        for future in ended:
            task = in_flight.pop(future)
            outcome = _outcome(future, task, self.definition.labels)
            if outcome.left:
                self.cut.extend(plan.rest(task, outcome.left, self.pace))
            self._record(task, outcome)
            if not outcome.stopped and outcome.receipts and not outcome.left:
                self.pace.learn(outcome.size, task)
            self.observer.moved(task.interval.seconds * (len(task.series) - len(outcome.left)), outcome, self.result)

    def _record(self, task: Task, outcome: Outcome) -> None:
        """Record the result of `task`: a series is done once every sink that lacked it has taken it, in this task or earlier."""
        labels, tried = (each.sinks or self.definition.labels for each in (task, outcome.task))
        before = self.result.failures.get(task.series[0].id, _NO_MORE)
        outcome.sinks_failed |= {label: self.reasons.get(label, before) for label in set(labels).difference(tried)}
        rejected = {label: receipt.rejected for label, receipt in outcome.receipts.items()}
        rejected[_SOURCE] = outcome.faults
        done = outcome.done(labels)
        with profile.part("ledger"):
            self.ledger.record(
                done,
                task.interval,
                {each.metadata.key: each.metadata for each in task.series}.values(),
                rejected,
                outcome.why(self.definition.labels),
                outcome.digests,
                task.sinks,
                {label: set(taken).difference(done) for label, taken in outcome.taken.items()},
            )
        self.reasons |= {label: outcome.sinks_failed[label] for label in tried if label in outcome.sinks_failed}
        for label in tried:
            self.failed_in_a_row[label] = self.failed_in_a_row[label] + 1 if label in outcome.sinks_failed else 0
        if not outcome.stopped:
            self.failed.update((_SOURCE, series) for series in outcome.failures)
            own = {label: refused for label, refused in outcome.refused.items() if label not in outcome.sinks_failed}
            self.failed.update((label, series) for label, refused in own.items() for series in refused)
        self._add(outcome)

    def _add(self, outcome: Outcome) -> None:
        result = self.result
        result.tasks += 1
        result.read += outcome.read
        result.faulty += len(outcome.faults)
        result.failures.update(outcome.why(self.definition.labels))
        result.stopped = result.stopped or outcome.stopped
        for label, receipt in outcome.receipts.items():
            result.sinks[label].add(receipt)
            result.remarks.update(receipt.remarks)
        self._count(outcome.traffic, outcome.spent)

    def _count(self, traffic: tuple[int, int, int], spent: dict[str, float]) -> None:
        result, (process, requests, received) = self.result, traffic
        self.traffic[process] = max(self.traffic.get(process, (0, 0)), (requests, received))
        self.spent[process] = max(self.spent.get(process, {}), spent, key=lambda each: sum(each.values()))
        total = sum(map(Counter, self.spent.values()), Counter[str]())
        result.profile = dict(sorted(total.items(), key=lambda item: -item[1]))
        result.requests = sum(requests for requests, _ in self.traffic.values())
        result.received = sum(received for _, received in self.traffic.values())


def _outcome(future: Future[Outcome], task: Task, labels: Iterable[str]) -> Outcome:
    """The result of a task; no sink has taken it if its worker was lost. Raises an error that keeps all workers from working."""
    try:
        return future.result()
    except EsmondEtlError:
        raise
    except Exception as error:  # an engine may raise anything
        return Outcome(task, sinks_failed=dict.fromkeys(task.sinks or labels, f"the worker was lost: {described(error)}"))
