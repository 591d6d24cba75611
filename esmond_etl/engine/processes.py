"""Worker processes that deliver tasks; each opens the pipeline's stages for itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from typing import TYPE_CHECKING, Any, Final

from esmond_etl.engine import allocator
from esmond_etl.model import profile

if TYPE_CHECKING:
    from esmond_etl.engine.delivery import Delivery, Outcome
    from esmond_etl.pipeline.definition import Definition
    from esmond_etl.plugin.sink import Task

#: Modules that take long to import and that most pipelines need.
_LARGE: Final = ("esmond_etl.engine.delivery", "esmond_etl.client.reading", "pyarrow.parquet")

_here: dict[str, Delivery] = {}  # of this process


def prepare() -> None:
    """Start the server that forks the worker processes, unless it runs: it imports the large modules while this process does so too."""
    forkserver.set_forkserver_preload(list(_LARGE))
    # Ctrl-C in a terminal must not reach that process, nor its children, which inherit this
    resource_tracker.ensure_running()  # because it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def executor(definition: Definition, processes: int, stop: threading.Event) -> Iterator[ProcessPoolExecutor]:
    """An executor whose processes can `deliver` tasks of `definition`; they stop when `stop` is set."""
    prepare()
    context = multiprocessing.get_context("forkserver")
    stopped: Any = context.Event()
    ended = threading.Event()

    def pass_on() -> None:
        while not ended.is_set():
            if stop.wait(0.1):
                stopped.set()
                return

    threading.Thread(target=pass_on, name="stop", daemon=True).start()
    with ProcessPoolExecutor(processes, context, _open, (_closed(definition), stopped, profile.is_on())) as pool:
        try:
            yield pool
        finally:
            ended.set()


def _closed(definition: Definition) -> Definition:
    """A copy whose stages are not open, so that it can be sent to another process."""
    from dataclasses import replace

    transforms = tuple(each.unopened() for each in definition.transforms)
    sinks = tuple(each.unopened() for each in definition.sinks)
    return replace(definition, source=definition.source.unopened(), transforms=transforms, sinks=sinks)


def _open(definition: Definition, stop: Any, is_profiled: bool) -> None:
    from esmond_etl.engine.delivery import Delivery
    from esmond_etl.engine.ledger import Ledger
    from esmond_etl.engine.stream import Stream

    if is_profiled:
        profile.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the process that started this one decides when to stop
    allocator.stay_small()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    _here["delivery"] = Delivery(Stream(definition, stop), Ledger(definition.ledger_path))


def _end_with_parent() -> None:
    """End this process at once when the one that started it has died: the next run may be under way."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def deliver(task: Task) -> Outcome:
    """Deliver `task` in this process, and return the result."""
    return _here["delivery"].deliver(task)
