"""The only module that speaks HTTP to an archive: connections, authentication, TLS, retries, rate limits."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import requote_uri, select_proxy
from urllib3.exceptions import (
    HTTPError,
    MaxRetryError,
)
from urllib3.util.retry import Retry

from esmond_etl.client.failures import broken, failure, is_time_out, is_transient, no_handshake, translate_errors
from esmond_etl.client.guard import POOLS, Guard
from esmond_etl.client.limit import Limit
from esmond_etl.client.pace import Pace, Rate
from esmond_etl.client.urls import list_url
from esmond_etl.model import profile
from esmond_etl.model.errors import (
    ArchiveError,
    ContentError,
    RequestError,
    StoppedError,
)
from esmond_etl.model.traffic import Traffic

T = TypeVar("T")

#: If `Retry-After` is longer than this, the request fails instead of waiting, s.
LONGEST_WAIT: Final = 600

#: Characters that need no quoting in a URL.
_PLAIN: Final = re.compile(r"/[A-Za-z0-9_/-]*")

_ONCE: Final = Retry(0, read=False)

#: Time-out for a connection, s.
CONNECT: Final = 10

#: Redirects that are followed, one after the other.
_REDIRECTS: Final = 5

#: Status codes of an overloaded archive; 500 is not one of them: elmond answers it for event types that it cannot serve.
OVERLOADED: Final = frozenset({429, 502, 503, 504})

#: Bytes of an answer that are read, and decompressed, at a time.
_PIECE: Final = 2**17


class Answer(NamedTuple):
    """A successful answer of an archive."""

    status: int
    body: bytes
    seconds: float = 0.0  #: from sending the request to the last byte of the answer


class _Request(NamedTuple):
    """A request to an archive, or to the server that its links lead to."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None


@dataclass
class Archive:
    """A connection to one archive, for several threads.

    Every request that fails raises an ArchiveError whose text names the URL and the archive's own reason. Requests that only
    read are retried, after a growing and randomly varied pause or when the archive says (`Retry-After`), on broken
    connections, timeouts, 429, 5xx and answers that cannot be decoded; requests that write are not: only the caller knows how
    to find out what they did.
    """

    url: str  #: of the archive's host, as in "https://archive.example.net/"
    script_alias: str | None = "esmond"  #: path of the web server before /perfsonar; None or "/" for none
    username: str | None = None
    api_key: str | None = field(default=None, repr=False)
    verify: bool = True  #: whether the server's certificate must be valid
    ca: str | None = None  #: file of certificates to trust instead of the system's
    cert: str | tuple[str, str] | None = None  #: file of a client's certificate and key, or a file each
    timeout: float = 60  #: s without a byte from the archive
    deadline: float | None = None  #: deadline of a request that reads, s; None for ten times `timeout`
    patience: float | None = None  #: deadline for the answer to a request that writes, s; None for twenty times `timeout`
    follow: Sequence[str] = ()  #: other hosts that the archive may lead to, without credentials
    largest: int = 256 * 2**20  #: largest answer in bytes, after decompression
    retries: int = 4
    backoff: float = 0.3  #: s before the first retry; twice as long before each further one
    parallel: int = 8  #: requests in flight at most
    adapts: bool = False  #: whether that number adapts to the archive
    rate: float | Sequence[str] | None = None  #: requests per second at most; or a rate for each time of the day
    stop: threading.Event = field(default_factory=threading.Event)
    traffic: Traffic = field(default_factory=Traffic)
    troubled: bool = False  #: whether it has failed, or given a wrong answer, since it was opened

    def __post_init__(self) -> None:
        self.list_url, basic = list_url(self.url, self.script_alias)
        self.origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.list_url))
        self._authorization = f"Token {self.api_key}" if self.api_key else basic
        self.limit = Limit(self.parallel, self.adapts)
        self._pace = Pace(Rate(self.rate))
        self._retry = Retry(total=self.retries, backoff_factor=self.backoff, backoff_max=60, backoff_jitter=self.backoff)
        self._session = requests.Session()
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=self.parallel, max_retries=0)
        self._adapter.poolmanager.pool_classes_by_scheme = POOLS
        self._session.mount(self.origin, self._adapter)
        self._settings = self._tls_and_proxies()
        self._prepared = self._session.prepare_request(requests.Request("GET", self.list_url, {"Accept": "application/json"}))
        self._pool: Any = None  # of connections to `origin`
        self._pooled = not select_proxy(self.list_url, self._settings["proxies"])
        self._guard = Guard(self.stop)
        self._answered = False  # nothing has come from the archive yet
        connect = min(self.timeout, CONNECT)
        self._both: tuple[float, float] = (connect, self.timeout)
        self._reading = urllib3.Timeout(connect=connect, read=self.timeout)
        # after giving up on a write, its result is unknown: as long as the connection lasts, the answer can still come
        self._patience = 20 * self.timeout if self.patience is None else self.patience
        self._writing = urllib3.Timeout(connect=connect, read=self._patience)
        self._open_headers = dict(self._prepared.headers)
        self._headers = {**self._open_headers, **({"Authorization": self._authorization} if self._authorization else {})}

    def _tls_and_proxies(self) -> Mapping[str, Any]:
        if not self.verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        verify = (self.ca or True) if self.verify else False
        settings = self._session.merge_environment_settings(self.origin, {}, True, verify, self.cert)
        self._session.trust_env = False  # read once, above: for each request it would cost more than the request
        return settings

    def close(self) -> None:
        """Close all connections."""
        self._guard.close()
        self._session.close()

    def get(self, url: str, params: Mapping[str, Any], decode: Callable[[bytes], T]) -> T:
        """The body of the answer, decoded by `decode`; a ValueError of `decode` counts as a failed answer."""
        return self.get_timed(url, params, decode)[0]

    def get_timed(self, url: str, params: Mapping[str, Any], decode: Callable[[bytes], T]) -> tuple[T, float]:
        """The same, and how long the answer took, s: from sending the request to its last byte."""
        request = self._request("GET", url, params)
        retry = self._retry
        while True:
            try:
                with profile.part("fetch"):
                    answer = self._send(request)
                with profile.part("decode"):
                    return _decoded(answer, request.url, decode), answer.seconds
            except ArchiveError as error:
                if not is_transient(error):
                    raise
                self.troubled = True
                try:
                    retry = retry.increment("GET", request.url, error=error)
                except MaxRetryError:
                    error.args = (f"{error.args[0]} (tried {self.retries + 1} times)",) if self.retries else error.args
                    raise error from None
                self._wait(max(retry.get_backoff_time(), getattr(error, "retry_after", 0)), error)

    def write(self, method: str, url: str, body: bytes) -> Answer:
        """The answer to one POST or PUT of JSON; it is sent once, and never retried."""
        request = self._request(method, url, {})
        return self._send(request._replace(body=body, headers={**request.headers, "Content-Type": "application/json"}))

    def _request(self, method: str, url: str, params: Mapping[str, Any]) -> _Request:
        with translate_errors(url):
            target = self.origin + url if _PLAIN.fullmatch(url) else requote_uri(urljoin(self.list_url, url))
        query = urlencode({name: value for name, value in params.items() if value is not None}, doseq=True)
        return self._to(method, target + ("&" if "?" in target else "?") + query if query else target)

    def _to(self, method: str, url: str) -> _Request:
        """A request to `url`; raises ContentError if the archive leads to a host that it may not lead to."""
        if url.startswith(self.origin + "/"):
            return _Request(method, url, self._headers)
        with translate_errors(url):
            parts, ours = urlsplit(url), urlsplit(self.origin)
        host = (parts.hostname or "").lower()
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and ours.scheme == "http")
        is_upgrade = host == ours.hostname and (ours.scheme, parts.scheme) == ("http", "https")
        if not (is_safe and (is_upgrade or host in map(str.lower, self.follow))):
            hint = f'to allow it, write follow = ["{parts.hostname}"]' if is_safe else "a link from https must lead to https"
            raise ContentError(f"{self.list_url}: the archive leads to {url}, which is on another server: {hint}", url)
        return _Request(method, url, self._open_headers)  # credentials are only for the archive itself

    def _send(self, request: _Request) -> Answer:
        if self.stop.is_set():
            raise StoppedError("told to stop")
        self._pace.wait(self.stop)
        answer, headers = self._in_turn(request)
        if answer.status < 300:
            return answer
        raise failure(request.method, request.url, answer.status, answer.body, headers)

    def _in_turn(self, request: _Request) -> tuple[Answer, Mapping[str, str]]:
        turn, seconds, size = self.limit.take(), None, 0
        try:
            answer, headers = self._exchange(request)
            if answer.status not in OVERLOADED:
                seconds, size = answer.seconds, len(answer.body) + len(request.body or b"")
            return answer, headers
        finally:
            self.limit.give(turn, seconds, size)

    def _exchange(self, request: _Request) -> tuple[Answer, Mapping[str, str]]:
        received = 0
        reads = request.body is None
        seconds = (self.deadline or 10 * self.timeout) if reads else self._patience
        started = time.monotonic()
        try:
            with self._guard.watch(seconds) as watched:
                response = self._followed(request, self._open(request))
                body = self._body(request, response)
                received = response.tell() or len(body)
                response.release_conn()
                if watched.ended:  # a connection that is shut down may look like the end of the answer
                    raise OSError(watched.ended)
                self._answered = True
        except (requests.RequestException, HTTPError, OSError) as error:
            if watched.ended == "stop":
                raise StoppedError("told to stop") from None
            if watched.ended == "deadline":
                raise RequestError(
                    f"{request.method} {request.url}: no complete answer within {seconds:g} s", request.url, True
                ) from None
            if not watched.sent and is_time_out(error):
                raise no_handshake(request.method, request.url, self._both[0], final=not self._answered) from None
            raise broken(request.method, request.url, error, self.timeout) from None
        finally:
            self.traffic.count(received, len(request.body or b""))
        return Answer(response.status, body, time.monotonic() - started), response.headers

    def _followed(self, request: _Request, response: urllib3.BaseHTTPResponse) -> urllib3.BaseHTTPResponse:
        """The response of a redirect's target, if `response` is a redirect that may be followed."""
        for _ in range(_REDIRECTS):
            if response.status not in (301, 302, 307, 308) or request.method != "GET":
                return response
            response.drain_conn()  # reads the body, so that the connection can be used again
            with translate_errors(request.url):
                location = urljoin(request.url, response.headers.get("Location", ""))
            request = self._to(request.method, location)
            response = self._open(request)
        raise ContentError(f"{request.url}: more than {_REDIRECTS} redirects, one after the other", request.url)

    def _body(self, request: _Request, response: urllib3.BaseHTTPResponse) -> bytes:
        """The body of `response`, decompressed; raises ContentError if it is larger than `largest`."""
        if _length(response) <= self.largest:
            whole: bytes = response.read(decode_content=False)  # four times as fast as in pieces
            return whole
        parts, size = [], 0
        # in pieces: a compressed answer can be a thousand times larger when decompressed
        for part in response.stream(_PIECE, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > self.largest:
                response.close()
                raise ContentError(f"{request.method} {request.url}: the answer is larger than {self.largest:,} bytes", request.url)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _open(self, request: _Request) -> urllib3.BaseHTTPResponse:
        """The response to `request`, its body not read yet."""
        if not (self._pooled and request.url.startswith(self.origin + "/")):
            settings = {name: self._settings[name] for name in ("verify", "cert", "proxies")}
            response = self._adapter.send(
                self._as_prepared(request),
                stream=True,
                timeout=self._both,
                **settings,
            )
            raw: urllib3.BaseHTTPResponse = response.raw
            return raw
        pool = self._pool or self._connect()
        # the adapter would do this for each request, which doubles the work of a request
        answer: urllib3.BaseHTTPResponse = pool.urlopen(
            request.method,
            request.url[len(self.origin) :],
            request.body,
            request.headers,
            retries=_ONCE,
            redirect=False,
            assert_same_host=False,
            timeout=self._reading if request.body is None else self._writing,
            preload_content=False,
            decode_content=False,
        )
        return answer

    def _connect(self) -> Any:
        verify, cert = self._settings["verify"], self._settings["cert"]
        adapter: Any = self._adapter
        pool = adapter.get_connection_with_tls_context(self._prepared, verify, self._settings["proxies"], cert)
        adapter.cert_verify(pool, self.list_url, verify, cert)
        self._pool = pool
        return pool

    def _as_prepared(self, request: _Request) -> requests.PreparedRequest:
        prepared = self._prepared.copy()
        prepared.method, prepared.url = request.method, request.url
        prepared.headers.update(request.headers)
        if request.body is not None:
            prepared.prepare_body(request.body, None)
        return prepared

    def _wait(self, seconds: float, error: ArchiveError) -> None:
        if seconds > LONGEST_WAIT:
            raise error
        if self.stop.wait(seconds):
            raise StoppedError("told to stop")


def _length(response: urllib3.BaseHTTPResponse) -> float:
    """The length of a body that is not compressed; infinity if it is compressed, or the server does not say how long it is."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and "Content-Encoding" not in response.headers else math.inf


def _decoded(answer: Answer, url: str, decode: Callable[[bytes], T]) -> T:
    try:
        with translate_errors(url):
            return decode(answer.body)
    except ContentError:
        if answer.body.lstrip()[:1] == b"<":
            raise ContentError(
                f"{url}: answered HTML instead of JSON: is this an archive, and is script_alias right?", url
            ) from None
        raise
