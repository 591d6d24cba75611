"""esmond's REST interface over an archive, as a WSGI application."""

from __future__ import annotations

import hmac
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode

import falcon
import msgspec

from esmond_etl import EVENT_TYPES, URL_WORDS
from esmond_etl_archive.fold import Point
from esmond_etl_archive.metadata import Links, posted
from esmond_etl_archive.refusal import NotFound, Refused
from esmond_etl_archive.search import Slice, bounded, search, slice_of, times
from esmond_etl_archive.store import Archive
from esmond_etl_archive.values import text, time_of

_SUMMARY_TYPES = {word: summary_type for summary_type, word in URL_WORDS.items()}
_NOT_JSON = "Must post content-type: application/json header and json-formatted payload."


def app(archive: Archive, gate: Gate, path: str, slow: float | None = None) -> falcon.App[falcon.Request, falcon.Response]:
    """The WSGI application that serves an archive under `path`.

    With `slow`, bulk requests write that many values per second, as slowly as a real esmond.
    """
    made = falcon.App(middleware=[gate])
    made.add_error_handler(Refused, _refused)
    made.set_error_serializer(_serialize)
    listed, event_type, data = (kind(archive, path) for kind in (_List, _EventType, _Data))
    one = _Metadata(archive, path, Labour(slow) if slow else None)
    for template, resource in (("", listed), ("{key}/", one), ("{key}/{event_type}/", event_type)):
        made.add_route(path + template, resource)
        made.add_route((path + template).removesuffix("/"), _Slash())
    for template in ("{key}/{event_type}/{summary}", "{key}/{event_type}/{summary}/{window}"):
        made.add_route(path + template, data)
        made.add_route(path + template + "/", data)
    return made


class Gate:
    """Counts every request, and refuses those with a wrong token, and writes without a token."""

    def __init__(self, token: str, requests: Counter[str]) -> None:
        self._token = token.encode()
        self._requests = requests
        self._counting = Lock()

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Count it."""
        with self._counting:
            self._requests[req.method] += 1

    def process_resource(self, req: falcon.Request, _resp: falcon.Response, _resource: Any, _params: dict[str, Any]) -> None:
        """Check the token; a reader who sends one is checked too."""
        if refusal := self.refusal(req.method, req.auth or ""):
            raise falcon.HTTPUnauthorized(description=refusal, challenges=["Token"])

    def refusal(self, method: str, authorization: str) -> str:
        """Why a request is refused, or ""."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "token":
            return "" if method in ("GET", "HEAD", "OPTIONS") else "Authentication credentials were not provided."
        return "" if hmac.compare_digest(given.strip().encode(), self._token) else "Invalid token."

    def process_response(self, _req: falcon.Request, resp: falcon.Response, resource: Any, _succeeded: bool) -> None:
        """Set the Allow header, whatever the answer is."""
        if isinstance(resource, _Resource):
            resp.set_header("Allow", resource.allow)


def _refused(_req: falcon.Request, resp: falcon.Response, refused: Refused, _params: Any) -> None:
    resp.status = falcon.code_to_http_status(refused.status)
    resp.data = text({"detail": str(refused)})


def _serialize(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    details = {404: "Not found.", 405: f'Method "{req.method}" not allowed.'}
    resp.data = text({"detail": error.description or details.get(error.status_code) or error.title})
    resp.content_type = falcon.MEDIA_JSON


class _Slash:
    """Redirects a reader to the same address with a slash at its end."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, **_params: str) -> None:
        """301."""
        resp.status = falcon.HTTP_301
        resp.content_type = "text/html; charset=utf-8"
        resp.set_header("Location", f"{req.path}/" + (f"?{req.query_string}" if req.query_string else ""))

    on_head = on_get


class _Resource:
    allow = "GET, POST, HEAD, OPTIONS"

    def __init__(self, archive: Archive, path: str) -> None:
        self._archive = archive
        self._path = path

    def _links(self, req: falcon.Request) -> Links:
        return Links(req.prefix, self._path)


class _List(_Resource):
    """`archive/`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The metadata that meet the filters."""
        query = _query(req)
        part = slice_of(query)
        total, found = self._archive.search(search(query, int(time.time())), part)
        served = [self._links(req).metadata(kept) for kept in found]
        before, after = _set_links(req, resp, part, part.offset + part.limit < total and part.limit > 0)
        if served:
            served[0] |= {"metadata-count-total": total, "metadata-previous-page": before, "metadata-next-page": after}
        resp.data = text(served)

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Create metadata, or return those that exist already."""
        key = self._archive.add(posted(_posted(req)))
        served = self._links(req).metadata(self._archive.metadata(key))
        resp.status = falcon.HTTP_201
        resp.set_header("Location", served["url"])
        resp.data = text(served)


class Labour:
    """Delays writes as a slow archive does; concurrent requests share its speed."""

    def __init__(self, speed: float) -> None:
        self._speed, self._active, self._lock = speed, 0, Lock()  # values a second

    def __call__(self, values: int) -> None:
        """Wait for the time that this many values need."""
        with self._lock:
            self._active += 1
        left, step = float(values), 0.02
        try:
            while left > 0:
                time.sleep(step)
                left -= self._speed * step / self._active
        finally:
            with self._lock:
                self._active -= 1


class _Metadata(_Resource):
    """`archive/KEY/`"""

    allow = "GET, PUT, PATCH, HEAD, OPTIONS"

    def __init__(self, archive: Archive, path: str, work: Labour | None = None) -> None:
        super().__init__(archive, path)
        self._work = work

    def on_get(self, req: falcon.Request, resp: falcon.Response, key: str) -> None:
        """One metadata."""
        resp.data = text(self._links(req).metadata(self._archive.metadata(key)))

    on_head = on_get

    def on_put(self, req: falcon.Request, resp: falcon.Response, key: str) -> None:
        """Many datapoints of one metadata."""
        body = _payload(req)
        if not isinstance(body, dict) or "data" not in body:
            raise Refused("Request must contain 'data' element")
        if not isinstance(body["data"], list):
            raise Refused("The 'data' element must be an array")
        self._archive.write(key, _points(body["data"]), self._work)
        _created(resp)

    def on_patch(self, _req: falcon.Request, _resp: falcon.Response, key: str) -> NoReturn:
        """Refuse the method, though `Allow` lists it, as esmond does."""
        raise falcon.HTTPMethodNotAllowed([])


class _EventType(_Resource):
    """`archive/KEY/EVENT-TYPE/`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, key: str, event_type: str) -> None:
        """The description of an event type, in a list; an empty list if there is none."""
        series = _series(self._archive, key, event_type)
        resp.data = text([self._links(req).event_type(key, event_type, series)] if series else [])

    on_head = on_get


class _Data(_Resource):
    """`archive/KEY/EVENT-TYPE/SUMMARY` and `.../WINDOW`"""

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, key: str, event_type: str, summary: str, window: str | None = None
    ) -> None:
        """Datapoints; the summaries of a type, if their window is not given."""
        kind = _checked(event_type, summary, f"Unsupported event type '{event_type}' provided")
        if kind != "base" and kind not in EVENT_TYPES[event_type].summaries:
            raise NotFound
        if window is None and kind != "base":
            series = [each for each in _series(self._archive, key, event_type) if each[0] == kind]
            resp.data = text([self._links(req).summary(key, event_type, *each) for each in series])
            return
        query = _query(req)
        part = slice_of(query)
        asked = times(query, int(time.time()))
        page = self._archive.page(key, event_type, kind, _window(kind, window), asked, part)
        _set_links(req, resp, part, page.more)
        resp.data = page.json

    on_head = on_get

    def on_post(
        self, req: falcon.Request, resp: falcon.Response, key: str, event_type: str, summary: str, window: str | None = None
    ) -> None:
        """One datapoint."""
        body = _payload(req)
        for field in ("ts", "val"):
            if not isinstance(body, dict) or field not in body:
                raise Refused(f"Required field {field} not provided in request")
            time_of(body["ts"])
        if _checked(event_type, summary, f"Invalid event type {event_type}") != "base" or window not in (None, "0"):
            raise Refused(f"Only base summary-type allowed for writing. Cannot use {summary}")
        self._archive.write(key, [Point(body["ts"], event_type, body["val"])])
        _created(resp)


def _checked(event_type: str, summary: str, refusal: str) -> str:
    """The summary type of a URL's word for it."""
    if event_type not in EVENT_TYPES:
        raise Refused(refusal)
    if summary not in _SUMMARY_TYPES:
        raise Refused(f"Invalid summary type '{summary}'")
    return _SUMMARY_TYPES[summary]


def _window(kind: str, window: str | None) -> int:
    return 0 if kind == "base" or window is None else bounded(window, "Summary window parameter must be an integer")


def _series(archive: Archive, key: str, event_type: str) -> list[tuple[str, int, int | None]]:
    try:
        return archive.metadata(key).event_types.get(event_type, [])
    except NotFound:
        return []


def _points(data: list[Any]) -> Iterator[Point]:
    """The datapoints of a bulk write, in order; raises Refused where it is malformed."""
    for i, each in enumerate(data, 1):
        for field in ("ts", "val"):
            if not isinstance(each, dict) or field not in each:
                raise Refused(f"Missing {field} field in provided data list at position {i}")
        if not isinstance(each["val"], list):
            raise Refused(f"'val' field must be an array in provided data list at position {i}")
        for j, value in enumerate(each["val"], 1):
            for field in ("event-type", "val"):
                if not isinstance(value, dict) or field not in value:
                    raise Refused(f"Missing {field} field at data item {i} in value {j} ")
            yield Point(each["ts"], value["event-type"], value["val"])


def _posted(req: falcon.Request) -> Any:
    """The JSON of a posted metadata."""
    if not (req.content_type or "").startswith("application/json"):
        raise falcon.HTTPUnsupportedMediaType(description=f'Unsupported media type "{req.content_type}" in request.')
    body = req.bounded_stream.read()
    try:
        return msgspec.json.decode(body) if body else None
    except (ValueError, RecursionError) as error:
        raise Refused(f"JSON parse error - {error}") from None


def _payload(req: falcon.Request) -> Any:
    """The JSON of written data."""
    if not (req.content_type or "").startswith("application/json"):
        raise Refused(_NOT_JSON)
    body = req.bounded_stream.read()
    if not body:
        raise Refused("No data payload POSTed.")
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise Refused(f"POST data payload could not be decoded to a JSON object - given: {body[:80]!r}") from None


def _created(resp: falcon.Response) -> None:
    resp.status = falcon.HTTP_201
    resp.data = b'""'


def _query(req: falcon.Request) -> dict[str, str]:
    return dict(parse_qsl(req.query_string, keep_blank_values=True))


def _set_links(req: falcon.Request, resp: falcon.Response, part: Slice, more: bool) -> tuple[str | None, str | None]:
    """The addresses of the previous and the next page, which are also in the Link header."""
    base, query = f"{req.prefix}{req.path}", _query(req)
    before = _page(base, query, part.limit, part.offset - part.limit) if part.offset > 0 else None
    after = _page(base, query, part.limit, part.offset + part.limit) if more else None
    links = [f'<{url}>; rel="{rel}"' for url, rel in ((after, "next"), (before, "prev")) if url]
    if links:
        resp.set_header("Link", ", ".join(links))
    return before, after


def _page(base: str, query: Mapping[str, str], limit: int, offset: int) -> str:
    """A page's address, as Django REST framework makes it: parameters in order, no offset for the first page."""
    given = {name: value for name, value in query.items() if name != "offset"} | {"limit": str(limit)}
    if offset > 0:
        given["offset"] = str(offset)
    return f"{base}?{urlencode(sorted(given.items()))}"
