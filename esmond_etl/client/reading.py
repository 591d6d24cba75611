"""Lists and series, read completely even when an archive leaves something out of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from esmond_etl.client import wire
from esmond_etl.client.archive import OVERLOADED, Archive
from esmond_etl.client.elmond import Elmond
from esmond_etl.client.page_size import PageSize
from esmond_etl.client.pages import Page, fetch, walk
from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import ContentError, RequestError, StatusError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Metadata, Series

#: Metadata per page of a list: elmond's own default limit.
LIST_PAGE: Final = 1000

#: Values per request that are not numbers, at most: a histogram is thirty times as large as a number.
TEXTS_PAGE: Final = 1000

#: How often a list is read until its length stays the same from the first page to the last.
WALKS: Final = 5

#: More metadata than any archive has.
LONGEST_LIST: Final = 2_000_000

#: elmond refuses to list more than this many.
ELMOND_END: Final = 10_000


@dataclass
class Reader:
    """Reads from `archive`, and never misses anything silently."""

    archive: Archive
    page: int = 10_000  #: datapoints per request at most
    spacing: int = 1  #: s; the shortest time between two results of one test (elmond)
    tolerant: bool = False  #: whether invalid datapoints become faults of their batch; otherwise the first one is an error
    unusable: dict[str, str] = field(default_factory=dict)  #: key of an invalid entry of the list -> the error
    _elmond: Elmond = field(init=False, repr=False)
    _size: PageSize = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._size = PageSize(self.archive.timeout / 3)
        self._elmond = Elmond(self._read, self.page, self.spacing)

    def metadata(self, filters: Mapping[str, Any]) -> Iterator[Metadata]:
        """Every metadata that matches `filters` (the archive's own), each once, as its pages come.

        Keys are random, so metadata created during the walk shift the rows: the list is read again until its length stays the same.
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
        offset, keys = 0, set[str]()
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
            self._check_progress(listed, offset, keys)
            if listed.entries < LIST_PAGE and offset >= (listed.total or 0):
                return

    def _check_progress(self, listed: wire.Listed, offset: int, keys: set[str]) -> None:
        """Raise ContentError if the list, read up to `offset`, has no end; `keys` are those of the walk so far."""
        url, before = self.archive.list_url, len(keys)
        keys.update(each.key for each in listed.metadata)
        if listed.metadata and len(keys) == before:
            raise ContentError(f"{url}: the page of the list before offset {offset} has only metadata of the pages before it", url)
        if offset > LONGEST_LIST or (listed.total is not None and offset > 2 * listed.total + 10 * LIST_PAGE):
            said = "" if listed.total is None else f", and says that it has {listed.total}"
            raise ContentError(f"{url}: the list has no end: the archive has listed {offset} metadata{said}", url)

    def entry(self, url: str) -> Metadata | None:
        """The metadata at a URL of the archive; None if there is none."""
        try:
            return self.archive.get(url, {}, lambda body: wire.decode_metadata(msgspec.json.decode(body)))
        except StatusError as error:
            if error.status == 404:
                return None
            raise

    def datapoints(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series` in `interval`, oldest first, a batch a page; raises ArchiveError if any could not be read."""
        if is_elmond(series):
            return self._elmond.datapoints(series, interval)
        limit = most = self._limit(series)

        def read(asked: Interval) -> Page:
            nonlocal limit
            limit = self._size.of(most)
            try:
                page = self._read(series, asked, limit)
            except (RequestError, StatusError) as error:
                if (isinstance(error, StatusError) and error.status in OVERLOADED) or getattr(error, "timed_out", False):
                    self._size.failed()
                raise
            self._size.answered(page.seconds, page.length >= limit)
            return page

        def step(asked: Interval, page: Page) -> tuple[Batch, int]:
            return wire.without_repeats(page.batch), asked.end if self._is_last(page, limit) else _after(series, asked, page)

        return walk(read, interval, step)

    def _limit(self, series: Series) -> int:
        """Datapoints per request at most."""
        return self.page if series.holds_numbers or is_elmond(series) else min(self.page, TEXTS_PAGE)

    @property
    def page_now(self) -> int:
        """Datapoints per request at most, as the archive can bear it now."""
        return self._size.of(self.page)

    def requests(self, series: Series, datapoints: float) -> int:
        """About how many requests it takes to read this many datapoints of `series` at once."""
        return int(datapoints / self._limit(series)) + 1

    def first(self, series: Series, interval: Interval) -> int:
        """The time of the first datapoint of `series` in `interval`, `interval.end` if there is none; on elmond always `interval.start`."""
        if is_elmond(series):
            return interval.start
        params = {"time-start": interval.start, "time-end": interval.end - 1, "limit": 1}
        page = self.archive.get(series.served.uri, params, lambda body: wire.decode_page(body, series))
        return page.moments[0] if len(page) else interval.end

    def _read(self, series: Series, asked: Interval, limit: int) -> Page:
        return fetch(self.archive, series, asked, limit, self.tolerant)

    def _is_last(self, page: Page, limit: int) -> bool:
        if page.length >= limit or not page.length:
            return page.length < limit
        # archives and proxies that ignore `limit` cut a page at a round number
        return not self.archive.troubled and page.length % 500 != 0


def _after(series: Series, asked: Interval, page: Page) -> int:
    last = page.last(asked)
    if last is None:
        url = series.served.uri
        raise ContentError(f"{url}: no datapoint of a page of {page.length} says when it was: cannot page on", url)
    return last + 1


def is_elmond(series: Series) -> bool:
    """Whether elmond, perfSONAR 5's read-only service, serves `series`."""
    return series.served.uri.rstrip("/").endswith("/base/0") or _base_is_elmond(series)


def _base_is_elmond(series: Series) -> bool:
    return any(served.uri.rstrip("/").endswith("/base/0") for served in series.metadata.event_types[series.event_type].values())
