"""Tasks delivered by the workers of a cluster.

A worker gets the text of the pipeline file and of its included files, and takes secrets from its own environment: none is sent. The
ledger stays with the process that hands out the tasks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from esmond_etl.model import profile
from esmond_etl.model.errors import ConfigError
from esmond_etl.pipeline import file
from esmond_etl.pipeline.definition import Definition

if TYPE_CHECKING:
    from esmond_etl.engine.delivery import Delivery, Outcome
    from esmond_etl.engine.ledger import Ledger
    from esmond_etl.plugin.sink import Task

#: How often a worker asks whether it must stop, s.
_OFTEN = 1.0


@dataclass(frozen=True)
class Job:
    """What a worker needs to deliver tasks of a pipeline."""

    name: str  #: of the run: a worker opens the stages once for each
    file: str
    texts: Mapping[str, str]  #: of the file, and of those that it includes
    workers: int  #: workers that share the source's rate and the requests in flight
    stopped: Callable[[], bool]
    is_profiled: bool


def job(definition: Definition, workers: int, stopped: Callable[[], bool]) -> Job:
    """The plan for the workers; raises ConfigError if the pipeline cannot be delivered from several hosts."""
    unfit = [
        label
        for label, sink in zip(definition.labels, definition.sinks, strict=True)
        if not sink.features.several_hosts or sink.features.prints
    ]
    if unfit:
        raise ConfigError(
            f"{definition.file}: {', '.join(unfit)} cannot be delivered to from several hosts at once: run it with --executor"
            " processes, or share the series out with --shard"
        )
    path = str(Path(definition.file).resolve())
    texts = file.texts(path)
    if path not in texts:
        raise ConfigError(f"{definition.name}: only a pipeline in a file can be sent to other hosts")
    return Job(uuid4().hex, path, texts, workers, stopped, profile.is_on())


def deliver(job: Job, task: Task) -> Outcome:
    """Deliver `task` on this worker, and return the result; raises ConfigError if the pipeline cannot be opened here."""
    with _changed:
        if job.name not in _here:
            _here[job.name] = _opened(job)
        stages = _here[job.name]
        stages.tasks += 1
    try:
        return stages.delivery.deliver(task)
    finally:
        with _changed:
            stages.tasks -= 1
            _changed.notify_all()


@dataclass(eq=False)
class _Stages:
    """The stages of a pipeline, open on this worker."""

    delivery: Delivery
    ledger: Ledger
    opened: ExitStack  #: closes them
    tasks: int = 0  #: under way


_here: dict[str, _Stages] = {}
_changed = threading.Condition()


def _opened(job: Job) -> _Stages:
    from esmond_etl.engine.delivery import Delivery
    from esmond_etl.engine.ledger import Ledger
    from esmond_etl.engine.stream import Stream

    if job.is_profiled:
        profile.start()
    definition = _share(file.load_texts(job.file, job.texts), job.workers)
    with ExitStack() as opened:
        ledger = opened.enter_context(closing(Ledger(Path(":memory:"))))
        stream = opened.enter_context(Stream(definition, threading.Event()))
        delivery = opened.enter_context(Delivery(stream, ledger))
        stages = _Stages(delivery, ledger, opened.pop_all())
    # an engine may find its worker through the context of the task; a new thread does not have that context
    threading.Thread(target=copy_context().run, args=(_listen, job, stages), name="stop", daemon=True).start()
    return stages


def _share(definition: Definition, workers: int) -> Definition:
    """The pipeline with one worker's share of its requests in flight and of its source's rate."""
    return replace(definition, settings=definition.settings.share(workers), source=definition.source.share(workers))


def _listen(job: Job, stages: _Stages) -> None:
    """Stop when told to, or when the driver is gone, and close the stages; the next run opens them again."""
    stop = stages.delivery.stop
    while not stop.wait(_OFTEN):
        try:
            told = job.stopped()
        except Exception:  # the engine may raise anything: the connection is gone
            told = True
        if told:
            stop.set()
    with _changed:
        if _here.get(job.name) is stages:
            del _here[job.name]
        _changed.wait_for(lambda: not stages.tasks)
    # if the garbage collector closed the ledger's database instead, while Dask's profiler runs, all threads could stop for ever
    stages.opened.close()
