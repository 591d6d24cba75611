"""The documents of a test in a server, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Any, Final, Generic, TypeVar

import msgspec

from esmond_etl import EsmondEtlError, Interval
from esmond_etl_opensearch.server import Server, ServerError

H = TypeVar("H", bound="Sorted")

KEY: Final = "pscheduler.test_checksum"
START: Final = "pscheduler.start_time"

#: A page has at most this many documents.
PAGE: Final = 5000
#: No answer has more.
_MOST: Final = 10_000

#: How long a server keeps a point in time after the last request.
_KEEP: Final = "30m"


class Sorted(msgspec.Struct, gc=False):
    """A document in an answer, without its fields, which may be decoded in several ways."""

    sort: tuple[int]  #: its start time, Unix time in ms

    @property
    def ts(self) -> int:
        """Its start time, Unix time in whole seconds."""
        return self.sort[0] // 1000


class Hit(Sorted):
    """A document with its fields as plain objects."""

    source: dict[str, Any] = msgspec.field(name="_source", default_factory=dict)
    id: str = msgspec.field(name="_id", default="")
    index: str = msgspec.field(name="_index", default="")
    seq_no: int = msgspec.field(name="_seq_no", default=0)
    primary_term: int = msgspec.field(name="_primary_term", default=0)


class _Hits(msgspec.Struct, Generic[H]):
    hits: list[H] = msgspec.field(default_factory=list)


class _Page(msgspec.Struct, Generic[H]):
    hits: _Hits[H] = msgspec.field(default_factory=_Hits)
    timed_out: bool = False
    shards: dict[str, Any] = msgspec.field(name="_shards", default_factory=dict)
    pit_id: str | None = None


#: A function from an answer to its hits.
Decode = Callable[[str], "_Page[Any]"]

_plain: Final = msgspec.json.Decoder(_Page[Hit]).decode


@cache
def decoder(source: type[msgspec.Struct]) -> Decode:
    """Decodes hits whose fields have the type `source`; it raises MsgspecError for others."""
    fields = [("source", source, msgspec.field(name="_source", default_factory=source))]
    return msgspec.json.Decoder(_Page[msgspec.defstruct("TypedHit", fields, bases=(Sorted,), gc=False)]).decode  # type: ignore[misc]


class Page:
    """The hits of an answer; raises ServerError if the answer is not complete."""

    def __init__(self, answer: str, url: str, decode: Decode | None = None) -> None:
        """Decodes the hits with `decode` if their fields fit, else as plain objects."""
        self._answer, self._url = answer, url
        self.until: int | None = None  # hits from this second on are left out
        self.is_typed = decode is not None
        try:
            found = (decode or _plain)(answer)
        except msgspec.MsgspecError:
            self.is_typed = False
            found = self._as_plain()
        _check(found, url)
        self.hits: list[Any] = found.hits.hits

    def _as_plain(self) -> _Page[Hit]:
        try:
            return _plain(self._answer)
        except msgspec.MsgspecError as error:
            raise ServerError(f"{self._url}/_search: unexpected answer ({error}): {self._answer[:80]!r}", 200) from None

    def cut(self, second: int) -> None:
        """Leave out the hits from `second` on."""
        self.until = second
        self.hits = [hit for hit in self.hits if hit.ts < second]

    def plain(self) -> list[Hit]:
        """The hits with their fields as plain objects."""
        if not self.is_typed:
            return self.hits
        hits = self._as_plain().hits.hits
        return hits if self.until is None else [hit for hit in hits if hit.ts < self.until]


def of_test(key: str | list[str], interval: Interval, *conditions: Mapping[str, Any]) -> dict[str, Any]:
    """A query for the documents of a test, or of several, that start in `interval`."""
    tests = {"term": {f"{KEY}.keyword": key}} if isinstance(key, str) else {"terms": {f"{KEY}.keyword": key}}
    return {"bool": {"filter": [tests, within(interval), *conditions]}}


def within(interval: Interval) -> dict[str, Any]:
    """A condition: the document starts in `interval`."""
    return {"range": {START: {"gte": interval.start, "lt": interval.end, "format": "epoch_second"}}}


@dataclass
class PointInTime:
    """The state of a server at one time: documents that are written or moved later do not disturb.

    It is taken at the first read; thread-safe. Use it in a `with`: the server releases it at the end.
    """

    server: Server
    pattern: str
    _id: str | None = field(default=None, init=False)  #: "" if no index matches
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def __enter__(self) -> PointInTime:
        return self

    def __exit__(self, *_: object) -> None:
        if self._id:
            with suppress(EsmondEtlError):
                self.server.ask("DELETE", "/_search/point_in_time", {"pit_id": [self._id]})

    def pages(
        self, query: Mapping[str, Any], fields: list[str], most: int = PAGE, versions: bool = False, decode: Decode | None = None
    ) -> Iterator[Page]:
        """The documents that match, oldest first, with these `fields`: those of one second in one page.

        A page begins with the second that the one before could not hold whole: a server has nothing else to tell apart what has the
        same time (`_shard_doc` came with OpenSearch 3.3). Its hits are decoded with `decode` where their fields fit.
        Raises ServerError if a part of the server does not answer: no document is left out silently.
        """
        start: list[dict[str, Any]] = []
        while pit := self._taken():
            body = {
                "size": most,
                "query": {"bool": {"filter": [query, *start]}},
                "_source": fields,
                "sort": [{START: {"order": "asc", "unmapped_type": "date"}}],
                "track_total_hits": False,
                "seq_no_primary_term": versions,
                "pit": {"id": pit, "keep_alive": _KEEP},
            }
            page = Page(self._answer(body, versions), self.server.url, decode)
            count = len(page.hits)
            if count < most:
                if count:
                    yield page
                return
            last = page.hits[-1].ts
            page.cut(last)
            if page.hits:
                yield page
            elif most == _MOST:
                raise ServerError(f"{self.server.url}: one test has {most:,} documents or more at {last}: they cannot be read")
            most = most if page.hits else _MOST
            start = [{"range": {START: {"gte": last, "format": "epoch_second"}}}]

    def _answer(self, body: Mapping[str, Any], versions: bool) -> str:
        wanted = _WANTED + (_VERSIONS if versions else ())
        try:
            answer: str = self.server.ask("POST", "/_search", body, str, filter_path=",".join(wanted))
        except ServerError as error:
            if error.status == 404:  # the server has released it: the next reader takes a new one
                self._id = None
            raise
        return answer

    def _taken(self) -> str:
        with self._lock:
            if self._id is None:
                self._id = self._take()
            return self._id

    def _take(self) -> str:
        path = f"/{self.pattern}/_search/point_in_time"
        try:
            return str(self.server.ask("POST", path, keep_alive=_KEEP, allow_partial_pit_creation="false")["pit_id"])
        except ServerError as error:
            if error.status == 404 or _NO_INDEX in str(error):
                return ""
            raise


#: What OpenSearch 2.19 answers, with status 400, where no index at all matches a pattern.
_NO_INDEX: Final = "invalid id: [null]"

_WANTED: Final = ("hits.hits.sort", "hits.hits._source", "timed_out", "_shards.failed", "_shards.failures.reason.reason")
_VERSIONS: Final = ("hits.hits._id", "hits.hits._index", "hits.hits._seq_no", "hits.hits._primary_term")


def _check(page: _Page[Any], url: str) -> None:
    if page.timed_out or page.shards.get("failed"):
        reasons = page.shards.get("failures") or [{"reason": {"reason": "the time ran out"}}]
        raise ServerError(f"{url}: a search was answered in part: {reasons[0]['reason']['reason']}", 503)


def count(server: Server, pattern: str, query: Mapping[str, Any]) -> int:
    """The number of documents that match."""
    answer = server.ask("POST", f"/{pattern}/_count", {"query": query}, allow_no_indices="true", ignore_unavailable="true")
    if answer["_shards"]["failed"]:
        raise ServerError(f"{server.url}: a count was answered in part", 503)
    return int(answer["count"])


#: A function from the fields of a document to a value.
Read = Callable[[Mapping[str, Any]], Any]
