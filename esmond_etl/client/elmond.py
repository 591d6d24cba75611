"""Reads whole series from elmond, perfSONAR 5's read-only service, with few requests.

elmond cuts a page at `limit` results, and leaves out those without a value afterwards: a short page, even an empty one, may be followed
by more. So we read windows that hold fewer results than a page. `pscheduler-run-href` tells where these windows are: every result that
succeeded has one. We read it once for all event types of a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pyarrow.compute as pc

from esmond_etl.client.pages import Page, Step, walk
from esmond_etl.client.runs import Runs, Window
from esmond_etl.model.batch import Batch
from esmond_etl.model.columns import TS
from esmond_etl.model.errors import ContentError
from esmond_etl.model.interval import Interval, ceil
from esmond_etl.model.series import Series

#: The event type of the results that failed.
FAILURES: Final = "failures"

#: This many results in a window tell how often a test runs.
TELLING: Final = 100


class _MoreThanKnown(Exception):
    """A page holds more results than the windows allow for."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self.start = start  #: of the page


class Elmond:
    """Reads series of one elmond; thread-safe."""

    def __init__(self, read: Callable[[Series, Interval, int], Page], page: int, spacing: int) -> None:
        """`read` gives one page, of `page` datapoints at most; two results of one test lie `spacing` seconds apart or more."""
        self._read, self._page, self._spacing = read, page, spacing
        self._runs = Runs(read, page)

    def datapoints(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series` in `interval`, oldest first; all of a second are in one batch."""
        if series.summary.window:
            return self._summaries(series, interval)
        if series.event_type == FAILURES:
            return self._failures(series, interval)
        return self._results(series, interval)

    def _results(self, series: Series, interval: Interval, again: bool = False) -> Iterator[Batch]:
        windows = self._runs.windows(series.metadata, interval)
        if windows is None:
            yield from self._in_steps(series, interval)
            return
        for window in windows:
            try:
                yield from self._window(series, window)
            except _MoreThanKnown as found:
                rest = Interval(found.start, window.interval.end)
                if again:  # results without a pscheduler-run-href: their number is unknown
                    yield from self._in_steps(series, rest)
                else:  # they may have arrived since the windows were made
                    self._runs.forget(series.metadata)
                    yield from self._results(series, rest, again=True)

    def _window(self, series: Series, window: Window) -> Iterator[Batch]:
        whole = self._if_short(series)

        def step(asked: Interval, page: Page) -> tuple[Batch, int]:
            if page.length > window.results:
                raise _MoreThanKnown(asked.start)
            return whole(asked, page)

        return walk(lambda asked: self._read(series, asked, self._page), window.interval, step)

    def _in_steps(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """Read windows that are narrow enough that a page cannot hide a result, each until nothing more comes."""
        step = self._until_nothing_new(series)
        for piece in interval.pieces(self._page * self._spacing):
            yield from walk(lambda asked: self._read(series, asked, self._page), piece, step)

    def _if_short(self, series: Series) -> Step:
        """Treat a short page as the last one."""

        def step(asked: Interval, page: Page) -> tuple[Batch, int]:
            is_last = page.length < self._page
            return (page.batch, asked.end) if is_last else self._up_to_last_second(series, asked, page)

        return step

    def _until_nothing_new(self, series: Series) -> Step:
        """Treat a page as the last one if it has nothing after its first second."""

        def step(asked: Interval, page: Page) -> tuple[Batch, int]:
            last = page.last(asked)
            is_last = last is None or (last == asked.start and page.length < self._page)
            return (page.batch, asked.end) if is_last else self._up_to_last_second(series, asked, page)

        return step

    def _up_to_last_second(self, series: Series, asked: Interval, page: Page) -> tuple[Batch, int]:
        """The page without its last second, which may be incomplete, and that second: the next page starts there."""
        last = page.last(asked)
        if last is None or last == asked.start:
            url = series.served.uri
            raise ContentError(f"{url}: more than {self._page} datapoints in the second {asked.start}: cannot page on", url)
        return _before(page.batch, last), last

    def _failures(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """Failed runs have no pscheduler-run-href: their number is the number of scheduled runs minus the successful ones."""
        windows = self._runs.windows(series.metadata, interval)
        if not windows:
            yield from self._in_steps(series, interval)
            return
        due = max((each.rate for each in windows if each.results >= TELLING), default=0) * 1.1
        step = self._if_short(series) if due else self._until_nothing_new(series)
        for piece in _with_few_failures(windows, due, self._page * 9 // 10):
            yield from walk(lambda asked: self._read(series, asked, self._page), piece, step)

    def _summaries(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """elmond computes a summary from the requested results, so whole windows of the summary are requested."""
        window = series.summary.window
        whole = Interval(ceil(interval.start, window), ceil(interval.end, window))
        for piece in whole.pieces(max(1, self._page // 2) * window):
            page = self._read(series, piece, self._page)
            if len(page.batch) or page.batch.faults:
                yield page.batch


def _with_few_failures(windows: list[Window], rate: float, most: int) -> Iterator[Interval]:
    """The time of `windows` in pieces in which at most `most` runs failed, if `rate` runs were scheduled per second."""
    start, due = windows[0].interval.start, 0.0
    for (first, end), _, succeeded in windows:
        failed = (end - first) * (rate - succeeded)
        if due and due + failed > most:
            yield Interval(start, first)
            start, due = first, 0.0
        due += failed
        while due > most:  # a time with mostly failed runs
            middle = start + max(1, int(most / rate))
            yield Interval(start, middle)
            start, due = middle, (end - middle) * rate
    yield Interval(start, windows[-1].interval.end)


def _before(batch: Batch, ts: int) -> Batch:
    """The datapoints and faults that lie before `ts`."""
    early = batch.filter(pc.less(batch.ts, pc.cast(ts, TS)))
    faults = tuple(fault for fault in batch.faults if fault.ts is None or fault.ts < ts)
    return Batch(early.series, early.points, early.in_order, faults)
