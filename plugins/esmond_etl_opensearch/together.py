"""Documents of a test, read once for all of its series that are numbers or histograms."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from operator import lt
from threading import Lock
from typing import Any, Final, NamedTuple

from esmond_etl import Interval, Series
from esmond_etl_opensearch import search
from esmond_etl_opensearch.codec import reading, typed
from esmond_etl_opensearch.search import PointInTime

#: Documents in memory at most, besides those of the page that was read last.
_MOST: Final = 20_000


class Piece(NamedTuple):
    """The documents of a test in a part of its time."""

    interval: Interval
    seconds: list[int]
    hits: list[Any] | None  #: with the fields of all its series; None if they must be looked at one by one


class Together:
    """Keeps the pages that were read last, for the other series of their tests; thread-safe."""

    def __init__(self, view: PointInTime, conditions: Sequence[dict[str, Any]]) -> None:
        self._view, self._conditions = view, conditions
        self._lock = Lock()
        self._pieces: OrderedDict[tuple[str, Interval], Future[Piece]] = OrderedDict()

    def pieces(self, together: Sequence[Series], interval: Interval) -> Iterator[Piece]:
        """The documents of a test with the fields of some of its series, oldest first. Raises ServerError."""
        start = interval.start
        while start < interval.end:
            piece = self._piece(together, Interval(start, interval.end))
            yield piece
            start = piece.interval.end

    def _piece(self, together: Sequence[Series], interval: Interval) -> Piece:
        place = (together[0].metadata.key, interval)
        with self._lock:
            known = self._pieces.get(place)
            future = known or self._pieces.setdefault(place, Future())
            self._pieces.move_to_end(place)
        if known is None:
            try:
                future.set_result(self._read(together, interval))
            except BaseException as error:
                with self._lock:
                    del self._pieces[place]  # the next reader tries it again
                future.set_exception(error)
            self._forget()
        return future.result()

    def _forget(self) -> None:
        """Drop the oldest pages if there are too many documents."""
        with self._lock:
            done = {place: len(each.result().seconds) for place, each in self._pieces.items() if each.done()}
            for place in list(done)[:-1]:
                if sum(done.values()) > _MOST:
                    del self._pieces[place], done[place]

    def _read(self, together: Sequence[Series], interval: Interval) -> Piece:
        first = together[0]
        query = search.of_test(first.metadata.key, interval, *reading.condition(first), *self._conditions)
        fields = sorted({name for series in together for name in reading.fields(series)})
        page = next(self._view.pages(query, fields, decode=search.decoder(typed.source(together))), None)
        if page is None:
            return Piece(interval, [], [])
        seconds = [hit.ts for hit in page.hits]
        is_plain = page.is_typed and all(map(lt, seconds, seconds[1:]))
        end = interval.end if page.until is None else page.until
        return Piece(Interval(interval.start, end), seconds, page.hits if is_plain else None)
