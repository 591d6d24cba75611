"""A server that accepts line protocol, over influxdb-client: one request at a time, with retries."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from threading import Event, Lock
from typing import Any, Final, TypeVar

from urllib3.exceptions import HTTPError, ReadTimeoutError

from esmond_etl import SinkError, StoppedError, Traffic, unless_stopped
from esmond_etl.client.failures import plain
from esmond_etl_influxdb.answers import Failed, failed

T = TypeVar("T")

#: The longest `Retry-After` that we wait for, and our own longest pause, s.
_LONGEST_WAIT: Final = 600
_LONGEST_PAUSE: Final = 60

#: VictoriaMetrics moves acknowledged data into its storage once a second; a flush request does not wait for a flush under way, s.
_TAKEN_IN: Final = 1


class Refused(Exception):
    """The server refuses these lines, or so many at once (413)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status, self.reason = status, reason


@dataclass
class Server:
    """One server and a place in it. Requests fail with a SinkError that names its URL, its reason, and the option that is wrong."""

    client: Any  #: InfluxDBClient, without retries of its own
    url: str
    org: str
    bucket: str
    old: bool  #: InfluxDB 1.8: the bucket is a database and perhaps a retention policy
    retries: int
    backoff: float  #: s
    timeout: float  #: s
    compress: bool
    stop: Event
    traffic: Traffic

    def __post_init__(self) -> None:
        from influxdb_client import WriteService
        from influxdb_client.rest import ApiException

        self._write = WriteService(self.client.api_client).post_write
        self._api_exception: type[Exception] = ApiException
        self._settling, self._settled = Lock(), False

    def write(self, lines: bytes) -> None:
        """Send `lines`, and return when the server has acknowledged them; raises Refused if it refuses them."""
        body = gzip.compress(lines, 1) if self.compress else lines
        options = {"content_encoding": "gzip"} if self.compress else {}
        try:
            self._patiently(lambda: self._write(self.org, self.bucket, body, precision="s", **options), "/api/v2/write", len(body))
        except Failed as error:
            if error.of_lines:
                raise Refused(error.status, error.reason) from None
            raise SinkError(str(error)) from None
        self._settled = False

    @contextmanager
    def query(self, flux: str) -> Iterator[Iterator[list[str]]]:
        """The CSV rows of the answer to a Flux query, with headings, while the context lasts."""
        from influxdb_client import Dialect
        from influxdb_client.client.flux_table import CSVIterator

        dialect = Dialect(header=True, delimiter=",", annotations=[], comment_prefix="#", date_time_format="RFC3339")
        ask = self.client.query_api().query_raw
        with self._reading(lambda: ask(flux, org=self.org, dialect=dialect), "/api/v2/query") as response:
            yield CSVIterator(response)

    @contextmanager
    def get(self, path: str, params: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        """The lines of the answer to a GET, while the context lasts."""
        with self._get(path, params) as response:
            yield _lines(response)

    @contextmanager
    def _get(self, path: str, params: Mapping[str, Any]) -> Iterator[Any]:
        api = self.client.api_client
        headers = {**api.default_headers, "Accept": "application/json"}
        query = [(name, str(value)) for name, value in params.items()]

        def ask() -> Any:
            return api.rest_client.GET(self.url + path, headers=headers, query_params=query, _preload_content=False)

        with self._reading(ask, path) as response:
            yield response

    def settle(self) -> None:
        """Return when VictoriaMetrics can read back everything that it has acknowledged, in this run or in one that has just ended."""
        with self._settling:
            if self._settled:
                return
            self._settled = True  # noted before the request: data written meanwhile are not included
            try:
                with self.get("/internal/force_flush", {}) as lines:
                    list(lines)
            except SinkError:
                self._settled = False
                raise
            self.stop.wait(_TAKEN_IN)

    def ping(self) -> str:
        """What the server is, and its version; raises SinkError if it does not answer."""
        with self._get("/ping", {}) as response:
            list(_lines(response))
            version: str = response.headers.get("X-Influxdb-Version", "")
        if self.is_victoria_metrics:
            return "VictoriaMetrics"
        return f"InfluxDB {version.removeprefix('v')}" if version else "a server that does not name its version"

    def try_write(self) -> None:
        """Send an empty write: the server tells whether it accepts the token and knows the place. Raises SinkError if not."""
        with suppress(Refused):  # some servers want points
            self.write(b"")

    @cached_property
    def is_victoria_metrics(self) -> bool:
        """Whether it is VictoriaMetrics, which keeps only numbers, and is queried differently."""
        if self.old:
            return False
        try:
            with self.get("/health", {}) as lines:
                return b"".join(lines).strip() == b"OK"
        except SinkError:
            return False

    @contextmanager
    def _reading(self, ask: Callable[[], Any], path: str) -> Iterator[Any]:
        try:
            response = self._patiently(ask, path)
        except Failed as error:
            raise SinkError(str(error)) from None
        try:
            yield response
        except (HTTPError, OSError) as error:
            raise SinkError(f"{self.url}{path}: the answer broke off: {error}") from None
        finally:
            response.close()

    def _patiently(self, exchange: Callable[[], T], path: str, size: int = 0) -> T:
        """The result of `exchange`, with retries; raises Failed if all fail."""
        for attempt in range(self.retries + 1):
            if self.stop.is_set():
                break
            try:
                self.traffic.count(sent=size)
                return self._exchanged(exchange, self.url + path)
            except Failed as error:
                if not error.passes or attempt == self.retries or error.wait > _LONGEST_WAIT:
                    raise
                pause = min(_LONGEST_PAUSE, self.backoff * 2**attempt * random.uniform(1, 2))
                self.stop.wait(max(error.wait, pause))
        raise StoppedError("told to stop")

    def _exchanged(self, exchange: Callable[[], T], url: str) -> T:
        try:
            return unless_stopped(exchange, self.stop)
        except self._api_exception as error:
            raise failed(error, url, self.old) from None
        except ReadTimeoutError:
            raise Failed(f"{url}: no answer within {self.timeout:g} s") from None
        except (HTTPError, OSError) as error:
            raise Failed(f"{url}: {' '.join(plain(getattr(error, 'reason', None) or error).split())}") from None


def _lines(response: Any) -> Iterator[bytes]:
    """The lines of a body, as they come."""
    rest = b""
    for piece in response.stream(65536, decode_content=True):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest
