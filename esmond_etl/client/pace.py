"""The rate of requests, which may depend on the time of the day."""

from __future__ import annotations

import re
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from esmond_etl.model.errors import StoppedError

_DAY: Final = 86400
_CHANGE: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d) +(\d+(?:\.\d+)?|unlimited)")


class Rate:
    """Requests per second at most: always the same, or a rate for each time of the day."""

    def __init__(self, rate: float | Sequence[str] | None) -> None:
        """`rate` is a number, None for no limit, or texts such as "08:00 2" and "18:30 unlimited": times in UTC, in ascending order.

        Raises ValueError for anything else.
        """
        changes = [(0, rate)] if isinstance(rate, int | float | None) else list(map(_change, rate))
        self._starts = [start for start, _ in changes]
        self._intervals = [1 / each if each else 0.0 for _, each in changes]
        if not changes or any(later <= earlier for earlier, later in zip(self._starts, self._starts[1:], strict=False)):
            raise ValueError("give at least one time, in ascending order")

    def interval(self, now: float) -> float:
        """Seconds between two requests at `now` (Unix time); 0 without a limit. Before the first time of a day the last one holds."""
        return self._intervals[bisect_right(self._starts, now % _DAY) - 1]


def _change(text: str) -> tuple[int, float | None]:
    found = _CHANGE.fullmatch(text)
    if not found or (found[3] != "unlimited" and float(found[3]) == 0):
        raise ValueError(
            f'{text!r} is not a rate: write a time of the day (UTC) and requests per second, "08:00 2", or "18:00 unlimited"'
        )
    rate = None if found[3] == "unlimited" else float(found[3])
    return int(found[1]) * 3600 + int(found[2]) * 60, rate


def shared(rate: float | Sequence[str] | None, parts: int) -> float | list[str] | None:
    """One of `parts` equal parts of a rate."""
    if isinstance(rate, int | float | None):
        return rate / parts if rate else rate
    return [re.sub(r" +(\d.*)", lambda found: f" {float(found[1]) / parts:f}", text) for text in rate]


class Pace:
    """Releases requests one at a time, as often as a rate allows."""

    def __init__(self, rate: Rate) -> None:
        self._rate, self._next, self._lock = rate, 0.0, threading.Lock()

    def wait(self, stop: threading.Event) -> None:
        """Returns when it is the caller's turn; raises StoppedError if `stop` is set before."""
        interval = self._rate.interval(time.time())
        if not interval:
            return
        with self._lock:
            now = time.monotonic()
            turn = min(max(now, self._next), now + _DAY)
            self._next = turn + interval
        if stop.wait(turn - now):
            raise StoppedError("told to stop")
