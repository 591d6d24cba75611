"""The number of datapoints that a request asks for: fewer while an archive is slow, or fails."""

from __future__ import annotations

import threading
from typing import Final

#: A request asks for this many datapoints at least.
SMALLEST: Final = 100

#: The share that is added after a full page that came quickly.
STEP: Final = 1 / 16

#: A share at which pages failed is tried again after this many full pages that came quickly.
PATIENCE: Final = 100


class PageSize:
    """The share of the largest page that an archive is asked for, the same for all its series; thread-safe.

    It follows the archive by additive increase and multiplicative decrease, as the number of requests in flight does (`limit`): half as
    many datapoints after a page that took longer than `slow` or could not be served, and a little more after each full page that took
    less than half of that. A size at which a page could not be served is not tried again soon.
    """

    def __init__(self, slow: float) -> None:
        """`slow` is in s."""
        self._slow, self._lock = slow, threading.Lock()
        self._share = self._most = 1.0
        self._quick = 0  # full pages in a row that came quickly

    def of(self, most: int) -> int:
        """The datapoints to ask for, where `most` is the largest page."""
        return max(int(most * self._share), min(SMALLEST, most))

    def answered(self, seconds: float, is_full: bool) -> None:
        """Learn from a page that took that long."""
        with self._lock:
            if seconds > self._slow:
                self._lower()
            elif is_full and seconds < self._slow / 2:
                self._quick += 1
                if self._quick >= PATIENCE:
                    self._most, self._quick = min(1.0, self._most + STEP), 0
                self._share = min(self._most, self._share + STEP)

    def failed(self) -> None:
        """Learn from a page that the archive could not serve."""
        with self._lock:
            self._most = max(self._share - STEP, STEP)
            self._lower()

    def _lower(self) -> None:
        self._share, self._quick = max(self._share / 2, STEP / 4), 0
