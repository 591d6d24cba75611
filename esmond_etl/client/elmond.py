"""Series of elmond, perfSONAR 5's read-only service, read whole with few requests.

elmond cuts a page at `limit` results, and leaves out those without a value afterwards: a short page, even an empty one, may be followed
by more. So it is read in windows that hold fewer results than a page. Where these are, `pscheduler-run-href` tells, which every result
that succeeded has: it is read once for all event types of a test.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import pyarrow.compute as pc

from esmond_etl.client.pages import Page, is_too_wide, walk
from esmond_etl.model.batch import TS, Batch
from esmond_etl.model.errors import ArchiveError, ContentError, RequestError, StatusError, StoppedError
from esmond_etl.model.interval import Interval, ceil
from esmond_etl.model.series import BASE, Metadata, Series

#: The event type that every result of a test answers, if it succeeded.
RUNS: Final = "pscheduler-run-href"

#: The event type of the results that did not.
FAILURES: Final = "failures"

#: What is known of this many tests is kept, for so long, s: new results arrive meanwhile.
TESTS, FRESH = 4096, 3600

#: So many results in a window tell how often a test runs.
TELLING: Final = 100


class Window(NamedTuple):
    """A time in which one test has fewer results than a page holds."""

    interval: Interval
    results: int  #: as far as is known


@dataclass
class _Test:
    """What is known of when one test had results; its windows lie side by side, oldest first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    windows: list[Window] = field(default_factory=list)
    made: float = 0.0  #: monotonic time

    def covers(self, moment: int) -> bool:
        is_fresh = time.monotonic() - self.made < FRESH
        return bool(self.windows) and is_fresh and self.windows[0].interval.start <= moment <= self.windows[-1].interval.end

    def add(self, window: Window, most: int) -> None:
        """Take the next window; it is one with the last if both have no more than `most` results together."""
        if self.windows and self.windows[-1].results + window.results <= most:
            last = self.windows.pop()
            window = Window(Interval(last.interval.start, window.interval.end), last.results + window.results)
        self.windows.append(window)


class _MoreThanKnown(Exception):
    """A page holds more results than the windows know of."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self.start = start  #: of the page


class Elmond:
    """Reads series of one elmond, from several threads."""

    def __init__(self, read: Callable[[Series, Interval, int], Page], page: int, spacing: int) -> None:
        """`read` gives one page, of `page` datapoints at most; two results of one test lie `spacing` seconds apart or more."""
        self._read, self._page, self._spacing = read, page, spacing
        self._tests: OrderedDict[str, _Test] = OrderedDict()
        self._lock = threading.Lock()

    def datapoints(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series` in `interval`, oldest first; all of a second are in one batch."""
        if series.summary.window:
            return self._summaries(series, interval)
        if series.event_type == FAILURES:
            return self._failures(series, interval)
        return self._results(series, interval)

    def _results(self, series: Series, interval: Interval, again: bool = False) -> Iterator[Batch]:
        windows = self._windows(series.metadata, interval)
        if windows is None:
            yield from self._in_steps(series, interval, self._page * self._spacing)
            return
        for window in windows:
            try:
                yield from self._window(series, window)
            except _MoreThanKnown as found:
                rest = Interval(found.start, window.interval.end)
                if again:  # results that have no pscheduler-run-href, so nothing tells how many there are
                    yield from self._in_steps(series, rest, self._page * self._spacing)
                else:  # they may have arrived since the windows were made
                    self._forget(series.metadata)
                    yield from self._results(series, rest, again=True)

    def _window(self, series: Series, window: Window) -> Iterator[Batch]:
        def step(asked: Interval, page: Page) -> tuple[Batch, int]:
            if page.length > window.results:
                raise _MoreThanKnown(asked.start)
            if page.length < self._page:
                return page.batch, asked.end
            return self._up_to_last_second(series, asked, page)

        return walk(lambda asked: self._read(series, asked, self._page), window.interval, step)

    def _in_steps(self, series: Series, interval: Interval, width: int) -> Iterator[Batch]:
        """Read windows of `width` seconds, each until nothing more comes."""

        def step(asked: Interval, page: Page) -> tuple[Batch, int]:
            last = page.last(asked)
            is_over = last is None or (last == asked.start and page.length < self._page)
            return (page.batch, asked.end) if is_over else self._up_to_last_second(series, asked, page)

        for piece in interval.pieces(width):
            yield from walk(lambda asked: self._read(series, asked, self._page), piece, step)

    def _up_to_last_second(self, series: Series, asked: Interval, page: Page) -> tuple[Batch, int]:
        """The page without its last second, which may go on, and that second: the next page starts there."""
        last = page.last(asked)
        if last is None or last == asked.start:
            url = series.served.uri
            raise ContentError(f"{url}: more than {self._page} datapoints in the second {asked.start}: cannot page on", url)
        return _before(page.batch, last), last

    def _failures(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """Failed runs have no pscheduler-run-href; they are not more frequent than twice the runs that succeeded."""
        windows = self._windows(series.metadata, interval)
        if windows is None:
            return self._in_steps(series, interval, self._page * self._spacing)
        seconds = [each.interval.seconds / each.results for each in windows if each.results >= TELLING]
        width = int(self._page * min(seconds) / 2) if seconds else interval.seconds
        return self._in_steps(series, interval, max(width, self._page * self._spacing))

    def _summaries(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """elmond computes a summary of the results that it is asked for, so it is asked for whole windows of it."""
        window = series.summary.window
        whole = Interval(ceil(interval.start, window), ceil(interval.end, window))
        for piece in whole.pieces(max(1, self._page // 2) * window):
            page = self._read(series, piece, self._page)
            if len(page.batch) or page.batch.faults:
                yield page.batch

    def _windows(self, metadata: Metadata, interval: Interval) -> list[Window] | None:
        """Windows that cover `interval`; None if nothing tells when the test had results."""
        if BASE not in metadata.event_types.get(RUNS, {}):
            return None
        test = self._test(metadata)
        with test.lock:
            if not test.covers(interval.start):
                test.windows, test.made = [], time.monotonic()
            try:
                self._extend(test, Series(metadata, RUNS, BASE), interval)
            except StoppedError:
                raise
            except ArchiveError:  # the series itself says what is wrong, if that is more than with this event type
                test.windows = []
                return None
            parts = ((each.interval.intersection(interval), each.results) for each in test.windows)
            return [Window(part, results) for part, results in parts if part.seconds]

    def _test(self, metadata: Metadata) -> _Test:
        with self._lock:
            test = self._tests.setdefault(metadata.key, _Test())
            self._tests.move_to_end(metadata.key)
            if len(self._tests) > TESTS:
                self._tests.popitem(last=False)
            return test

    def _forget(self, metadata: Metadata) -> None:
        with self._lock:
            self._tests.pop(metadata.key, None)

    def _extend(self, test: _Test, runs: Series, interval: Interval) -> None:
        """Add windows to `test` until they reach the end of `interval`."""
        limit = max(1, self._page * 9 // 10)  # a tenth may come in before the windows are read
        while (start := test.windows[-1].interval.end if test.windows else interval.start) < interval.end:
            asked, page = self._runs(runs, start, interval.end, limit)
            last = page.last(asked)
            if last is None or (last == start and page.length < limit):
                window = Window(asked, page.length)
            elif last == start:
                window = Window(Interval(start, start + 1), page.length)
            else:
                window = Window(Interval(start, last), bisect_left(page.batch.moments, last))
            test.add(window, limit // 2)

    def _runs(self, runs: Series, start: int, end: int, limit: int) -> tuple[Interval, Page]:
        """A page of runs from `start` on, and for what time it is: up to now if the archive can bear that, to `end` at least."""
        for until in (max(end, int(time.time())), end):
            asked = Interval(start, until)
            try:
                return asked, self._read(runs, asked, limit)
            except (RequestError, StatusError) as error:
                if not is_too_wide(error) or until == end:
                    raise
        raise AssertionError("the last one returns or raises")


def _before(batch: Batch, ts: int) -> Batch:
    """The datapoints and faults that lie before `ts`."""
    early = batch.filter(pc.less(batch.ts, pc.cast(ts, TS)))
    faults = tuple(fault for fault in batch.faults if fault.ts is None or fault.ts < ts)
    return Batch(early.series, early.points, early.in_order, faults)
