"""Documents of a test, read once for all of its series that become columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from operator import lt
from threading import Lock
from typing import Any, Final, NamedTuple

from esmond_etl import Interval, Series
from esmond_etl_opensearch import search
from esmond_etl_opensearch.codec import reading, typed
from esmond_etl_opensearch.search import PointInTime

#: At most this many pages are kept for other series of their tests; the oldest is dropped first.
_MOST: Final = 32


class Piece(NamedTuple):
    """The documents of a test in a part of its time."""

    interval: Interval
    seconds: list[int]
    hits: list[Any] | None  #: with the fields of all its series; None if they must be read one by one
    succeeded: Sequence[bool | None] = ()  #: whether the run of each did


@dataclass
class _Kept:
    """A page that is being read, or has been."""

    readers: int  #: series that have not asked for it yet
    piece: Future[Piece] = field(default_factory=Future)


class Together:
    """Keeps pages until all series of their tests have read them; thread-safe."""

    def __init__(self, view: PointInTime, conditions: Sequence[dict[str, Any]]) -> None:
        self._view, self._conditions = view, conditions
        self._lock = Lock()
        self._pages: dict[tuple[str, Interval], _Kept] = {}

    def pieces(self, together: Sequence[Series], interval: Interval) -> Iterator[Piece]:
        """The documents of a test with the fields of some of its series, oldest first. Raises ServerError."""
        start = interval.start
        while start < interval.end:
            piece = self._piece(together, Interval(start, interval.end))
            yield piece
            start = piece.interval.end

    def _piece(self, together: Sequence[Series], interval: Interval) -> Piece:
        place = (together[0].metadata.key, interval)
        page, is_first = self._page(place, len(together))
        if is_first:
            try:
                page.piece.set_result(self._read(together, interval))
            except BaseException as error:
                with self._lock:
                    self._pages.pop(place, None)  # the next series tries it again
                page.piece.set_exception(error)
        return page.piece.result()

    def _page(self, place: tuple[str, Interval], readers: int) -> tuple[_Kept, bool]:
        """The page, and whether it must be read first."""
        with self._lock:
            known = self._pages.get(place)
            page = known or self._pages.setdefault(place, _Kept(readers))
            page.readers -= 1
            if not page.readers:
                del self._pages[place]
            if len(self._pages) > _MOST:
                del self._pages[next(iter(self._pages))]
            return page, known is None

    def _read(self, together: Sequence[Series], interval: Interval) -> Piece:
        query = search.of_test(together[0].metadata.key, interval, *self._conditions)
        fields = sorted({"result.succeeded", *(name for series in together for name in reading.fields(series))})
        page = next(self._view.pages(query, fields, decode=search.decoder(typed.source(together))), None)
        if page is None:
            return Piece(interval, [], [])
        seconds = [hit.ts for hit in page.hits]
        is_plain = page.is_typed and all(map(lt, seconds, seconds[1:]))
        end = interval.end if page.until is None else page.until
        piece = Interval(interval.start, end)
        return Piece(piece, seconds, page.hits, typed.succeeded(page.hits)) if is_plain else Piece(piece, seconds, None)
