"""Where the CPU time of a run goes: seconds by part, measured only after `start`.

Parts may be nested, for example a source inside the transform that reads from it: time counts for the innermost part, or for the
enclosing `whole` part if there is one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_seconds: dict[str, float] | None = None
_here = threading.local()


def start() -> None:
    """Measure from here on, in this process."""
    global _seconds  # noqa: PLW0603  # a process measures or it does not
    _seconds = {}


def is_on() -> bool:
    """Whether anything is measured."""
    return _seconds is not None


def snapshot() -> dict[str, float]:
    """The CPU seconds that this process has spent in each part so far; time outside all parts is "other"."""
    if _seconds is None:
        return {}
    with _lock:
        found = dict(_seconds)
    return {**found, "other": max(0.0, time.process_time() - sum(found.values()))}


class part:  # noqa: N801  # used like a function, in a `with`
    """Count the time inside the `with` block for `name`."""

    __slots__ = ("_name", "_outer", "_since", "_whole")

    def __init__(self, name: str, whole: bool = False) -> None:
        self._name, self._whole = name, whole

    def __enter__(self) -> None:
        if _seconds is None:
            return
        self._outer: part | None = getattr(_here, "part", None)
        self._since = time.thread_time()
        if self._outer:
            self._outer._count(self._since)
            if self._outer._whole:
                self._name, self._whole = self._outer._name, True
        _here.part = self

    def __exit__(self, *_: Any) -> None:
        if _seconds is None:
            return
        now = time.thread_time()
        self._count(now)
        if self._outer:
            self._outer._since = now
        _here.part = self._outer

    def _count(self, now: float) -> None:
        with _lock:
            if _seconds is not None:
                _seconds[self._name] = _seconds.get(self._name, 0.0) + now - self._since


def through(name: str, items: Iterable[T], whole: bool = False) -> Iterator[T]:
    """The same items; the time to get each of them counts for `name`."""
    if not is_on():
        yield from items
        return
    iterator, end = iter(items), object()
    while True:
        with part(name, whole):
            item: Any = next(iterator, end)
        if item is end:
            return
        yield item
