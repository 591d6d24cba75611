"""Requests to OpenSearch, with retries."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Semaphore
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from esmond_etl import EsmondEtlError, StoppedError, Traffic, described, unless_stopped

#: Status codes of a server that cannot accept a request at the moment.
_BUSY: Final = frozenset({429, 502, 503, 504})
_LONGEST_PAUSE: Final = 60
#: How often a request that waits for others looks whether it must stop, s.
_OFTEN: Final = 0.2


class ServerError(EsmondEtlError):
    """A failed request; `status` is the HTTP status, 0 if there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.status)


@dataclass
class Server:
    """One OpenSearch; its requests fail with a ServerError that names its URL and its reason."""

    transport: Any  #: of opensearch-py, without its own retries
    url: str
    retries: int
    backoff: float  #: s
    stop: Event
    traffic: Traffic
    slots: Semaphore  #: one for each request that may be under way

    def ask(self, method: str, path: str, body: Any = None, kind: Any = Any, **params: Any) -> Any:
        """The answer to a request, decoded as `kind`, or as it came if that is `str`; a body is JSON text, or an object to encode."""
        text = body if isinstance(body, bytes | str | None) else msgspec.json.encode(body)
        for attempt in range(self.retries + 1):
            try:
                return self._asked(method, path + (f"?{urlencode(params)}" if params else ""), text, kind)
            except ServerError as error:
                if not (error.status in _BUSY or error.status == 0) or attempt == self.retries:
                    raise
                self.pause(attempt)
        raise AssertionError("unreachable")

    def pause(self, attempt: int) -> None:
        """Wait before a retry; raises StoppedError if the run is told to stop meanwhile."""
        if self.stop.wait(min(_LONGEST_PAUSE, self.backoff * 2**attempt * random.uniform(1, 2))):
            raise StoppedError("told to stop")

    def _asked(self, method: str, path: str, body: bytes | str | None, kind: Any) -> Any:
        from opensearchpy.exceptions import OpenSearchException, TransportError

        try:
            with self._slot():
                answer = unless_stopped(lambda: self.transport.perform_request(method, path, body=body), self.stop)
        except TransportError as error:
            self.traffic.count(sent=len(body or b""))
            raise self._failed(method, path, error) from None
        except (OpenSearchException, OSError, ValueError) as error:  # also errors of TLS
            raise ServerError(f"{self.url}: {described(error)}") from None
        self.traffic.count(received=len(answer or ""), sent=len(body or b""))
        if method == "HEAD" or not answer or kind is str:
            return answer
        try:
            return msgspec.json.decode(answer, type=kind)
        except msgspec.MsgspecError as error:
            raise ServerError(f"{self.url}{path}: unexpected answer ({error}): {str(answer)[:80]!r}", 200) from None

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Wait until one more request may be under way; raises StoppedError if the run is told to stop meanwhile."""
        while not self.slots.acquire(timeout=_OFTEN):
            if self.stop.is_set():
                raise StoppedError("told to stop")
        try:
            if self.stop.is_set():
                raise StoppedError("told to stop")
            yield
        finally:
            self.slots.release()

    def _failed(self, method: str, path: str, error: Any) -> ServerError:
        status, reason = error.status_code, error.error
        if not isinstance(status, int):  # "N/A" or "TIMEOUT"
            cause = " ".join(str(error.info or error).split())
            return ServerError(f"{self.url}: no answer: {cause}")
        hint = _HINTS.get(status, "")
        return ServerError(
            f"{self.url}{path.partition('?')[0]}: {method} was answered {status}: {_reason(error.info, reason)}{hint}", status
        )

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()


_HINTS: Final[Mapping[int, str]] = {
    401: "; check username and password",
    403: "; this user is not allowed to do that: `esmond-etl check --connect` says what an administrator must allow",
}


def _reason(info: Any, reason: Any) -> str:
    """The server's own message: the reason in its error object, if there is one."""
    found = info
    if isinstance(info, str):
        try:
            found = msgspec.json.decode(info)
        except msgspec.MsgspecError:
            return f"{reason or info}"[:200]
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, dict):
        causes = [each.get("reason") for each in error.get("root_cause") or () if isinstance(each, dict)]
        return "; ".join(str(each) for each in dict.fromkeys([error.get("reason") or error.get("type"), *causes]))[:300]
    return str(error or reason)[:300]
