"""The one file that speaks HTTP to an archive: connections, authentication, TLS, trying again, politeness."""

from __future__ import annotations

import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import requote_uri, select_proxy
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    MaxRetryError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util.retry import Retry

from esmond_etl.client import wire
from esmond_etl.model import profile
from esmond_etl.model.errors import ArchiveError, ConfigError, ContentError, RequestError, StatusError, StoppedError
from esmond_etl.model.traffic import Traffic

T = TypeVar("T")

#: Statuses that pass: the same request may succeed later.
PASSING: Final = frozenset({429, 500, 502, 503, 504})

#: An archive that asks to be left alone for longer than this is not waited for, s.
LONGEST_WAIT: Final = 600

#: What needs no quoting where it stands in a URL.
_PLAIN: Final = re.compile(r"/[A-Za-z0-9_/-]*")

_ONCE: Final = Retry(0, read=False)


class Answer(NamedTuple):
    """A successful answer of an archive."""

    status: int
    body: bytes


class _Request(NamedTuple):
    """What is sent to an archive, or to wherever it says that its data are."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None


@dataclass
class Archive:
    """A connection to one archive, for several threads.

    Every request that fails raises an ArchiveError whose text names the URL and the archive's own reason. Requests that only
    read are tried again, after a growing and randomly varied pause or when the archive says (`Retry-After`), on broken
    connections, timeouts, 429, 5xx and answers that cannot be decoded; requests that write are not: only the caller knows how
    to find out what they did.
    """

    url: str  #: of the archive's host, as in "https://archive.example.net/"
    script_alias: str | None = "esmond"  #: what the web server puts in front of /perfsonar; None or "/" for nothing
    username: str | None = None
    api_key: str | None = field(default=None, repr=False)
    verify: bool = True  #: whether the server's certificate must be valid
    ca: str | None = None  #: file of certificates to trust instead of the system's
    cert: str | tuple[str, str] | None = None  #: file of a client's certificate and key, or a file each
    timeout: float = 60  #: s without a byte from the archive
    retries: int = 4
    backoff: float = 0.3  #: s before the first retry; twice as long before each further one
    parallel: int = 8  #: requests in flight at most
    rate: float | None = None  #: requests a second at most
    stop: threading.Event = field(default_factory=threading.Event)
    traffic: Traffic = field(default_factory=Traffic)
    troubled: bool = False  #: whether it has failed, or answered nonsense, since it was opened

    def __post_init__(self) -> None:
        self.list_url, basic = _list_url(self.url, self.script_alias)
        self.origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.list_url))
        self._authorization = f"Token {self.api_key}" if self.api_key else basic
        self._slots = threading.BoundedSemaphore(self.parallel)
        self._pace = _Pace(1 / self.rate if self.rate else 0)
        self._retry = Retry(total=self.retries, backoff_factor=self.backoff, backoff_max=60, backoff_jitter=self.backoff)
        self._session = requests.Session()
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=self.parallel, max_retries=0)
        self._session.mount(self.origin, self._adapter)
        self._settings = self._tls_and_proxies()
        self._prepared = self._session.prepare_request(requests.Request("GET", self.list_url, {"Accept": "application/json"}))
        self._pool: Any = None  # of connections to `origin`
        self._pooled = not select_proxy(self.list_url, self._settings["proxies"])
        self._patience = urllib3.Timeout(connect=self.timeout, read=self.timeout)
        self._open_headers = dict(self._prepared.headers)
        self._headers = {**self._open_headers, **({"Authorization": self._authorization} if self._authorization else {})}

    def _tls_and_proxies(self) -> Mapping[str, Any]:
        if not self.verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        verify = (self.ca or True) if self.verify else False
        settings = self._session.merge_environment_settings(self.origin, {}, True, verify, self.cert)
        self._session.trust_env = False  # looked at once, above: at each request it costs more than the request
        return settings

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def get(self, url: str, params: Mapping[str, Any], decode: Callable[[bytes], T]) -> T:
        """What `decode` makes of the body of the answer; a ValueError of `decode` counts as a failed answer."""
        request = self._request("GET", url, params)
        retry = self._retry
        while True:
            try:
                with profile.part("fetch"):
                    answer = self._send(request)
                with profile.part("decode"):
                    return _decoded(answer, request.url, decode)
            except ArchiveError as error:
                if not _passes(error):
                    raise
                self.troubled = True
                try:
                    retry = retry.increment("GET", request.url, error=error)
                except MaxRetryError:
                    raise error from None
                self._wait(max(retry.get_backoff_time(), getattr(error, "retry_after", 0)), error)

    def write(self, method: str, url: str, body: bytes) -> Answer:
        """The answer to one POST or PUT of JSON; it is sent once, whatever happens."""
        request = self._request(method, url, {})
        return self._send(request._replace(body=body, headers={**request.headers, "Content-Type": "application/json"}))

    def _request(self, method: str, url: str, params: Mapping[str, Any]) -> _Request:
        target = self.origin + url if _PLAIN.fullmatch(url) else requote_uri(urljoin(self.list_url, url))
        query = urlencode({name: value for name, value in params.items() if value is not None}, doseq=True)
        headers = self._headers if target.startswith(self.origin + "/") else self._open_headers
        return _Request(method, target + ("&" if "?" in target else "?") + query if query else target, headers)

    def _send(self, request: _Request) -> Answer:
        if self.stop.is_set():
            raise StoppedError("told to stop")
        self._pace.wait(self.stop)
        with self._slots:
            answer, headers = self._exchange(request)
        if answer.status < 300:
            return answer
        raise _failure(request, answer, headers)

    def _exchange(self, request: _Request) -> tuple[Answer, Mapping[str, str]]:
        received = 0
        try:
            response = self._open(request)
            if response.status in (301, 302, 307, 308) and request.method == "GET":
                response.drain_conn()  # so that the connection can be used again
                settings = {**self._settings, "stream": True}
                response = self._session.send(self._as_prepared(request), timeout=self.timeout, **settings).raw
            body = response.read(decode_content=True)
            received = response.tell() or len(body)
            response.release_conn()
        except (requests.RequestException, HTTPError, OSError) as error:
            raise _broken(request, error, self.timeout) from None
        finally:
            self.traffic.count(received, len(request.body or b""))
        return Answer(response.status, body), response.headers

    def _open(self, request: _Request) -> urllib3.BaseHTTPResponse:
        """The response to `request`, its body not read yet."""
        if not (self._pooled and request.url.startswith(self.origin + "/")):
            settings = {name: self._settings[name] for name in ("verify", "cert", "proxies")}
            response = self._adapter.send(self._as_prepared(request), stream=True, timeout=self.timeout, **settings)
            raw: urllib3.BaseHTTPResponse = response.raw
            return raw
        pool = self._pool or self._connect()
        # what the adapter would do for each request anew, for as much work as all else that a request takes
        answer: urllib3.BaseHTTPResponse = pool.urlopen(
            request.method,
            request.url[len(self.origin) :],
            request.body,
            request.headers,
            retries=_ONCE,
            redirect=False,
            assert_same_host=False,
            timeout=self._patience,
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


class _Pace:
    """Lets one request go every `interval` seconds."""

    def __init__(self, interval: float) -> None:
        self._interval, self._next, self._lock = interval, 0.0, threading.Lock()

    def wait(self, stop: threading.Event) -> None:
        if not self._interval:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if stop.wait(turn - now):
            raise StoppedError("told to stop")


def is_url(url: str) -> bool:
    """Whether `url` leads to a server of HTTP: it names a host, as a host may be named, and no impossible port."""
    try:
        requests.Request("GET", url).prepare()
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool((parts.hostname or "").encode("idna"))
    except ValueError:  # requests' InvalidURL and UnicodeError are such, too
        return False


def _list_url(url: str, script_alias: str | None) -> tuple[str, str | None]:
    """The URL of the list of metadata, and the Authorization header of a user and password in `url`, if any."""
    if not is_url(url):
        raise ConfigError(f"{re.sub('//.*@', '//', url)!r} is not the URL of an archive: write https://HOST/")
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    path = parts.path.rstrip("/")
    if not path.endswith("/perfsonar/archive"):
        path += "/".join(["", *(word for word in (script_alias or "").split("/") if word), "perfsonar/archive"])
    basic = "Basic " + b64encode(user.encode()).decode() if user else None
    return urlunsplit((parts.scheme, host, path + "/", "", "")), basic


def _decoded(answer: Answer, url: str, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(answer.body)
    except ValueError as error:  # msgspec's DecodeError is one
        if answer.body.lstrip()[:1] == b"<":
            raise ContentError(
                f"{url}: answered HTML where JSON is due: is this an archive, and is script_alias right?", url
            ) from None
        raise ContentError(f"{url}: {error}", url) from None


def _passes(error: ArchiveError) -> bool:
    if isinstance(error, StatusError):
        return error.status in PASSING
    return not getattr(error, "final", False)


def _failure(request: _Request, answer: Answer, headers: Mapping[str, str]) -> StatusError:
    reason = wire.detail(answer.body)
    text = f"{request.method} {request.url}: status {answer.status}" + (f": {reason}" if reason else "")
    if "Location" in headers:
        text += f" (redirected to {headers['Location']}: use that in the url)"
    error = StatusError(text, request.url, answer.status, reason)
    error.retry_after = _retry_after(headers)
    return error


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return Retry().parse_retry_after(headers["Retry-After"])
    except (KeyError, InvalidHeader):
        return 0


def _broken(request: _Request, error: Exception, timeout: float) -> RequestError:
    timed_out = isinstance(error, requests.ReadTimeout | ReadTimeoutError | TimeoutError)
    if timed_out:
        return RequestError(f"{request.method} {request.url}: no answer within {timeout:g} s", request.url, timed_out)
    reason = error
    while isinstance(cause := getattr(reason, "reason", None) or (reason.args[0] if reason.args else None), Exception):
        reason = cause
    failure = RequestError(f"{request.method} {request.url}: {type(reason).__name__}: {reason}", request.url)
    failure.reached = not isinstance(reason, NewConnectionError | ConnectTimeoutError)
    if isinstance(error, requests.exceptions.SSLError) or isinstance(getattr(error, "reason", error), SSLError):
        failure.final = True
        failure.args = (f'{failure.args[0]}: if the certificate is self-signed, set ca = "FILE", or verify = false',)
    elif isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        failure.final = True
    return failure
