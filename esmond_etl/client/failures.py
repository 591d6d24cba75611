"""The error of a failed request: one of ours, with the URL and the archive's own reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    InvalidHeader,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util.retry import Retry

from esmond_etl.client import wire
from esmond_etl.model.errors import ArchiveError, ContentError, EsmondEtlError, RequestError, StatusError, described

#: Transient failures: the same request may succeed later.
TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})


@contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Turn any exception that an answer causes into a ContentError that names `url`: an archive can answer anything."""
    try:
        yield
    except EsmondEtlError:
        raise
    except ValueError as error:  # also those of msgspec
        raise ContentError(f"{url}: {error}", url) from None
    except Exception as error:  # RecursionError, OverflowError, TypeError ...
        raise ContentError(f"{url}: {described(error)}", url) from None


def is_transient(error: ArchiveError) -> bool:
    if isinstance(error, StatusError):
        return error.status in TRANSIENT
    return not getattr(error, "final", False)


def failure(method: str, url: str, status: int, body: bytes, headers: Mapping[str, str]) -> StatusError:
    reason = wire.detail(body)
    text = f"{method} {url}: status {status}" + (f": {reason}" if reason else "")
    if "Location" in headers:
        text += f" (redirected to {headers['Location']}: use that in the url)"
    error = StatusError(text, url, status, reason)
    error.retry_after = _retry_after(headers)
    return error


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return Retry().parse_retry_after(headers["Retry-After"])
    except (KeyError, InvalidHeader):
        return 0


def plain(reason: Exception) -> str:
    """The reason of a broken request, without the names of our libraries."""
    if isinstance(reason, NewConnectionError):  # it is also a time-out
        system = re.sub(r".*(establish a new connection: |\()", "", str(reason)).rstrip(")")
        what = "find the host" if isinstance(reason, NameResolutionError) else "connect"
        return f"cannot {what}: {re.sub(r'^.Errno -?[0-9]+. ', '', system)}"
    if isinstance(reason, ConnectTimeoutError):
        return "the server accepted no connection in time"
    return f"{type(reason).__name__}: {reason}"


def is_time_out(error: Exception) -> bool:
    """Whether no answer came in time."""
    return isinstance(error, requests.ReadTimeout | ReadTimeoutError | TimeoutError)


def no_handshake(method: str, url: str, seconds: float, final: bool) -> RequestError:
    """The error of a server that takes the connection, and then says nothing of TLS; `final` if it has never answered."""
    failure = RequestError(f"{method} {url}: the server did not answer the TLS handshake within {seconds:g} s: is it http?", url)
    failure.reached, failure.final = False, final
    return failure


def broken(method: str, url: str, error: Exception, timeout: float) -> RequestError:
    if is_time_out(error):
        return RequestError(f"{method} {url}: no answer within {timeout:g} s", url, timed_out=True)
    reason = error
    while isinstance(cause := getattr(reason, "reason", None) or (reason.args[0] if reason.args else None), Exception):
        reason = cause
    failure = RequestError(f"{method} {url}: {plain(reason)}", url)
    failure.reached = not isinstance(reason, NewConnectionError | ConnectTimeoutError)
    if isinstance(error, requests.exceptions.SSLError) or isinstance(getattr(error, "reason", error), SSLError):
        failure.final = True
        failure.args = (f'{failure.args[0]}: if the certificate is self-signed, set ca = "FILE", or verify = false',)
    elif isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        failure.final = True
    return failure
