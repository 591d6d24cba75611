"""Processes that are killed at a chosen moment."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def watched(at: Callable[[int], object]) -> Iterator[None]:
    """Calls `at` with 1, 2, 3, ... at each call, of Python or of C, in this thread and in those that it starts."""
    count = 0

    def watch(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1
            at(count)

    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def kill() -> None:
    """End this process at once, as a power failure does."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(act: Callable[[], object], seconds: float = 60) -> int:
    """The exit code of a forked process that does `act`: 0, 70 if it raised, minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(70)
        os._exit(0)
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise TimeoutError(f"a delivery in another process did not end within {seconds:g} s")
        time.sleep(0.005)
