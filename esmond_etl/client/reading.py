"""Lists and series read whole, whatever an archive leaves out of one answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl.client import wire
from esmond_etl.client.archive import Archive
from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import ArchiveError, ContentError, RequestError, StatusError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Metadata, Series

#: Metadata a page of a list: what elmond gives at most when it is not asked for more.
LIST_PAGE: Final = 1000

#: As many values that are no numbers a request at most: a histogram takes thirty times the room of a number.
TEXTS_PAGE: Final = 1000

#: How often a list is walked until its length stays the same from the first page to the last.
WALKS: Final = 5

#: A window that fails is halved, down to this, s.
NARROWEST: Final = 3600

#: elmond refuses to list beyond this many.
ELMOND_END: Final = 10_000


@dataclass
class Reader:
    """Reads from `archive` so that nothing is left out unseen."""

    archive: Archive
    page: int = 10_000  #: datapoints a request at most
    spacing: int = 1  #: s; the least time between two results of one test (elmond)
    tolerant: bool = False  #: whether datapoints that are not valid are faults of their batch; else the first one is an error
    unusable: dict[str, str] = field(default_factory=dict)  #: key of what was listed and is no metadata -> what is wrong with it

    def metadata(self, filters: Mapping[str, Any]) -> Iterator[Metadata]:
        """Every metadata that matches `filters` (the archive's own), each once, as its pages come.

        Keys are random, so a metadata made during the walk shifts the rows: the list is walked again until its length stays.
        """
        seen: set[str] = set()
        for _ in range(WALKS):
            totals: set[int | None] = set()
            for entries, total in self._list_pages(filters):
                totals.add(total)
                new = [entry for entry in entries if entry.key not in seen]
                seen.update(entry.key for entry in new)
                yield from new
            if len(totals) <= 1:
                return
        url = self.archive.list_url
        raise ContentError(f"{url}: the list of metadata changed during each of {WALKS} walks: try again later", url)

    def _list_pages(self, filters: Mapping[str, Any]) -> Iterator[tuple[list[Metadata], int | None]]:
        offset = 0
        while True:
            params = {**filters, "limit": LIST_PAGE, "offset": offset or None}
            try:
                listed = self.archive.get(self.archive.list_url, params, wire.decode_metadata_list)
            except StatusError as error:
                if offset + LIST_PAGE > ELMOND_END and error.status >= 400:
                    error.args = (f"{error.args[0]}: this archive does not list beyond {offset} metadata: narrow `match`",)
                raise
            if not listed.entries:
                return
            self.unusable |= listed.unusable
            yield listed.metadata, listed.total
            offset += listed.entries
            if listed.entries < LIST_PAGE and offset >= (listed.total or 0):
                return

    def datapoints(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series` in `interval`, oldest first, a batch a page; raises ArchiveError if any could not be read."""
        if is_elmond(series):
            for piece in interval.pieces(self.page * self.spacing):
                yield from self._pages(series, piece, whole_seconds=False)
        else:
            yield from self._pages(series, interval, whole_seconds=True)

    def first(self, series: Series, interval: Interval) -> int:
        """When the first datapoint of `series` in `interval` is, `interval.end` if there is none; on elmond just `interval.start`."""
        if is_elmond(series):
            return interval.start
        params = {"time-start": interval.start, "time-end": interval.end - 1, "limit": 1}
        page = self.archive.get(series.served.uri, params, lambda body: wire.decode_page(body, series))
        return page.moments[0] if len(page) else interval.end

    def _pages(self, series: Series, interval: Interval, whole_seconds: bool) -> Iterator[Batch]:
        limit = self.page if series.holds_numbers or not whole_seconds else min(self.page, TEXTS_PAGE)
        start, width, widest = interval.start, interval.seconds, interval.seconds
        edge: Batch | None = None  # what has been read of the second `start`
        while start < interval.end:
            asked = Interval(start, min(start + width, interval.end))
            try:
                length, page = self._page(series, asked, limit)
            except (RequestError, StatusError) as error:
                if not _too_wide(error) or asked.seconds <= NARROWEST:
                    raise
                widest, width = max(NARROWEST, asked.seconds // 2), NARROWEST
                continue
            new = _without(page, edge)
            if len(new) or new.faults:
                yield new
            width = min(width * 4, widest)
            if self._is_last(length, len(new), limit, whole_seconds):
                start, edge = asked.end, None
            else:
                start, edge = self._go_on(series, length, page, asked, whole_seconds)

    def _page(self, series: Series, asked: Interval, limit: int) -> tuple[int, Batch]:
        """How many datapoints the archive gave, and these without the ones that came twice."""

        def decode(body: bytes) -> tuple[int, Batch]:
            batch = wire.decode_page(body, series)
            unplaced = [fault for fault in batch.faults if fault.ts is None and not len(batch)]
            for fault in batch.faults if not self.tolerant else unplaced:
                raise ValueError(f"{'' if fault.ts is None else f'at ts {fault.ts}: '}{fault.reason}: {fault.text}")
            return len(batch) + len(batch.faults), wire.check_page(batch, asked)

        # the archive includes both ends, an Interval its start alone
        params = {"time-start": asked.start, "time-end": asked.end - 1, "limit": limit}
        return self.archive.get(series.served.uri, params, decode)

    def _is_last(self, length: int, new: int, limit: int, whole_seconds: bool) -> bool:
        if length >= limit or not new:
            return length < limit
        if not whole_seconds or self.archive.troubled:
            return False
        # archives and proxies that cut a page in spite of `limit` cut it at a round number
        return length % 500 != 0

    def _go_on(self, series: Series, length: int, page: Batch, asked: Interval, whole_seconds: bool) -> tuple[int, Batch | None]:
        """Where the next page starts, and what has been read of that second."""
        last = page.moments[-1]
        if whole_seconds:
            return last + 1, None
        if last == asked.start and length >= self.page:
            url = series.served.uri
            raise ContentError(f"{url}: more than {self.page} datapoints in the second {last}: cannot page on", url)
        return last, page


def is_elmond(series: Series) -> bool:
    """Whether it is elmond, perfSONAR 5's read-only service, that serves `series`."""
    return series.served.uri.rstrip("/").endswith("/base/0") or _base_is_elmond(series)


def _base_is_elmond(series: Series) -> bool:
    return any(served.uri.rstrip("/").endswith("/base/0") for served in series.metadata.event_types[series.event_type].values())


def _too_wide(error: ArchiveError) -> bool:
    if isinstance(error, StatusError):
        return error.status in (500, 502, 503, 504)
    return isinstance(error, RequestError) and error.timed_out


def _without(page: Batch, edge: Batch | None) -> Batch:
    """The page without what `edge`, the page before, ended with."""
    if edge is None or not len(page):
        return page
    last = edge.ts[-1]
    old = set(edge.filter(pc.equal(edge.ts, last)).val.to_pylist())
    keep = [ts != last or val not in old for ts, val in zip(page.ts, page.val.to_pylist(), strict=True)]
    return page.filter(pa.array(keep, pa.bool_()))
