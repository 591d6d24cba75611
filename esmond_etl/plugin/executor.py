"""Engines that deliver tasks on other machines."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass


@dataclass
class Engine:
    """A cluster that a run is connected to."""

    executor: Executor  #: runs functions, which are pickled, on the workers; a worker that dies has its function run elsewhere
    workers: int  #: how many functions run at once
    stop: Callable[[], None]  #: tell the workers to stop
    stopped: Callable[[], bool]  #: whether they must stop; pickled, and called repeatedly on the workers


#: Connects to the engine whose scheduler has this address; None: to its usual one. Raises EsmondEtlError if that cannot be done.
Connect = Callable[[str | None], AbstractContextManager[Engine]]
