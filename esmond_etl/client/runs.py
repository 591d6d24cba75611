"""The times of the results of an elmond's tests, from `pscheduler-run-href`, which every successful result has."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from esmond_etl.client.pages import Page, is_too_large
from esmond_etl.model.errors import ArchiveError, RequestError, StatusError, StoppedError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import BASE, Metadata, Series

RUNS: Final = "pscheduler-run-href"

#: Results are cached for this many tests, and for this long, s: new results arrive meanwhile.
TESTS, FRESH = 4096, 3600


class Window(NamedTuple):
    """A window in which one test has fewer results than a page holds."""

    interval: Interval
    results: int  #: at most, as far as is known
    rate: float  #: results a second

    @classmethod
    def of(cls, interval: Interval, results: int) -> Window:
        """A window with this many results."""
        return cls(interval, results, results / interval.seconds)


@dataclass
class _Test:
    """The known windows of one test; they are adjacent, oldest first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    made: float = field(default_factory=time.monotonic)
    windows: list[Window] = field(default_factory=list)
    is_silent: bool = False  #: the archive does not tell

    def put(self, windows: list[Window], most: int) -> None:
        """Add windows if they are adjacent to the present ones, otherwise replace these.

        Neighbours are merged while they have at most `most` results together.
        """
        if self.windows and windows[-1].interval.end == self.windows[0].interval.start:
            windows = windows + self.windows
        elif self.windows and windows[0].interval.start == self.windows[-1].interval.end:
            windows = self.windows + windows
        self.windows = []
        for window in windows:
            if self.windows and self.windows[-1].results + window.results <= most:
                before = self.windows.pop()
                both = Interval(before.interval.start, window.interval.end)
                window = Window.of(both, before.results + window.results)
            self.windows.append(window)

    def lacks(self, interval: Interval, now: int) -> tuple[Interval, int]:
        """The time whose windows are missing to cover `interval`, and how far they may reach."""
        end = max(interval.end, now)
        if not self.windows:
            return interval, end
        first, last = self.windows[0].interval.start, self.windows[-1].interval.end
        if interval.start < first <= interval.end:
            return Interval(interval.start, first), first
        return Interval(last, max(last, interval.end)) if first <= interval.start <= last else interval, end


class Runs:
    """Finds out, once for all series of a test, in which windows it has fewer results than a page holds."""

    def __init__(self, read: Callable[[Series, Interval, int], Page], page: int) -> None:
        """`read` gives one page, of `page` datapoints at most."""
        self._read, self._limit = read, max(1, page * 9 // 10)  # a tenth may come in before the windows are read
        self._tests: OrderedDict[str, _Test] = OrderedDict()
        self._lock = threading.Lock()

    def windows(self, metadata: Metadata, interval: Interval) -> list[Window] | None:
        """Windows that cover `interval`; None if the times of the results are not known."""
        if BASE not in metadata.event_types.get(RUNS, {}):
            return None
        test, series = self._test(metadata), Series(metadata, RUNS, BASE)
        with test.lock:
            try:
                while not test.is_silent and (lacking := test.lacks(interval, int(time.time())))[0].seconds:
                    test.put(list(self._found(series, *lacking)), self._limit // 4)
            except StoppedError:
                raise
            except ArchiveError:  # if more than this event type fails, reading the series reports the error
                test.is_silent = True
            if test.is_silent:
                return None
            parts = (each._replace(interval=each.interval.intersection(interval)) for each in test.windows)
            return [part for part in parts if part.interval.seconds]

    def forget(self, metadata: Metadata) -> None:
        """Forget what is known, so that the next call asks again."""
        with self._lock:
            self._tests.pop(metadata.key, None)

    def _test(self, metadata: Metadata) -> _Test:
        with self._lock:
            test = self._tests.pop(metadata.key, None)
            if test is None or time.monotonic() - test.made > FRESH:
                test = _Test()
            self._tests[metadata.key] = test
            if len(self._tests) > TESTS:
                self._tests.popitem(last=False)
            return test

    def _found(self, series: Series, interval: Interval, latest: int) -> Iterator[Window]:
        """The windows of `interval`, and of the time after it up to `latest`, as far as a page reaches."""
        start = interval.start
        while start < interval.end:
            asked, page = self._page(series, start, interval.end, latest)
            last = page.last(asked)
            if last is None or (last == start and page.length <= self._limit // 2):
                window = Window.of(asked, page.length)
            elif last == start:
                window = Window.of(Interval(start, start + 1), page.length)
            else:
                window = Window.of(Interval(start, last), bisect_left(page.batch.moments, last))
            yield window
            start = window.interval.end

    def _page(self, series: Series, start: int, end: int, latest: int) -> tuple[Interval, Page]:
        """A page from `start` on, and its interval: up to `latest` if the archive can serve that, at least to `end`."""
        for until in (latest, end):
            asked = Interval(start, until)
            try:
                return asked, self._read(series, asked, self._limit)
            except (RequestError, StatusError) as error:
                if not is_too_large(error) or until == end:
                    raise
        raise AssertionError("the last one returns or raises")
