"""One page of a series, and the walk from page to page: a window that an archive cannot serve is halved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from esmond_etl.client import wire
from esmond_etl.client.archive import Archive
from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import ArchiveError, RequestError, StatusError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Series

#: A window that fails is halved, down to this, s.
NARROWEST: Final = 3600


class Page(NamedTuple):
    """The answer of an archive to one request for datapoints."""

    length: int  #: datapoints in the answer, valid or not
    batch: Batch  #: the valid ones, with the others as faults
    seconds: float = 0.0  #: that the answer took

    def last(self, asked: Interval) -> int | None:
        """The latest time in the page, limited to `asked`; None if no datapoint has a valid time."""
        moments = [fault.ts for fault in self.batch.faults if fault.ts is not None and asked.start <= fault.ts < asked.end]
        moments += list(self.batch.moments[-1:])
        return max(moments, default=None)


#: From the request and the page that came, returns the new datapoints and the start of the next page.
Step = Callable[[Interval, Page], tuple[Batch, int]]


def fetch(archive: Archive, series: Series, asked: Interval, limit: int, tolerant: bool) -> Page:
    """The datapoints of `series` in `asked`, at most `limit`; raises ArchiveError if they cannot be read, or are not what was asked for.

    Where the archive is not `tolerant` of datapoints that are not valid, the first one is an error.
    """

    def decode(body: bytes) -> Page:
        batch = wire.decode_page(body, series)
        unplaced = [fault for fault in batch.faults if fault.ts is None and not len(batch)]
        for fault in batch.faults if not tolerant else unplaced:
            raise ValueError(f"{'' if fault.ts is None else f'at ts {fault.ts}: '}{fault.reason}: {fault.text}")
        return Page(len(batch) + len(batch.faults), wire.check_page(batch, asked))

    # the archive includes both ends, an Interval only its start
    params = {"time-start": asked.start, "time-end": asked.end - 1, "limit": limit}
    page, seconds = archive.get_timed(series.served.uri, params, decode)
    return page._replace(seconds=seconds)


def walk(read: Callable[[Interval], Page], interval: Interval, step: Step) -> Iterator[Batch]:
    """The datapoints of all pages of `interval`, a batch a page."""
    start, width, widest = interval.start, interval.seconds, interval.seconds
    while start < interval.end:
        asked = Interval(start, min(start + width, interval.end))
        try:
            page = read(asked)
        except (RequestError, StatusError) as error:
            if not is_too_large(error) or asked.seconds <= NARROWEST:
                raise
            widest, width = max(NARROWEST, asked.seconds // 2), NARROWEST
            continue
        new, start = step(asked, page)
        if len(new) or new.faults:
            yield new
        width = min(width * 4, widest)


def is_too_large(error: ArchiveError) -> bool:
    """Whether a request may have failed because it asked for too much: too long a window, or too large a page."""
    if isinstance(error, StatusError):
        return error.status in (500, 502, 503, 504)
    return isinstance(error, RequestError) and error.timed_out
