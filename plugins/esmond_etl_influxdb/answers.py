"""The meaning of a server's answers: whether to retry, whether the lines are wrong, or an option."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

#: Status codes of transient failures: the same request may succeed later.
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})

#: Status codes for wrong lines, or for too many lines in a request (413).
_OF_LINES: Final = frozenset({400, 413, 422})

#: Messages of servers, with status 400 or 500, about a wrong option.
_OF_OPTIONS: Final = re.compile("provide either orgID or org|database is required|retention policy not found|not in .*format$")

#: Part of a server's message -> the option that it is about.
_OPTIONS: Final = {"bucket": "bucket", "org": "org", "database": "database", "retention policy": "database"}


class Failed(Exception):
    """A failed request; its text has the URL and the reason."""

    status = 0  #: of HTTP; 0 if there was no answer
    reason = ""  #: the server's own
    wait = 0.0  #: s that the server asked to wait
    passes = True  #: whether to try again

    @property
    def of_lines(self) -> bool:
        """Whether the lines that were sent are wrong."""
        return self.status in _OF_LINES and not _OF_OPTIONS.search(self.reason)


def failed(error: Any, url: str, old: bool) -> Failed:
    """The error for an ApiException of influxdb-client; `old` for InfluxDB 1.8."""
    if not error.status:
        text = f"{url}: {' '.join(str(error.reason).split())}"
        result = Failed(f'{text}: if the certificate is self-signed, set ca = "FILE", or verify = false')
        result.passes = False
        return result
    reason = _reason(error)
    option = wrong_option(error.status, reason, old)
    result = Failed(f"{url}: status {error.status}" + (f": {reason}" if reason else "") + (f": check {option}" if option else ""))
    result.status, result.reason, result.wait = error.status, reason, _retry_after(error.headers or {})
    result.passes = error.status in _PASSING and not option
    return result


def wrong_option(status: int, reason: str, old: bool) -> str:
    """The option to check, from a server's message; "" if none is wrong."""
    if status in (401, 403):
        return "username and password" if old else "token"
    if status in (301, 302, 307, 308, 404, 405) or _OF_OPTIONS.search(reason):
        found = re.search("|".join(_OPTIONS), reason, re.IGNORECASE)
        return _OPTIONS[found[0].lower()] if found else "url"
    return ""


def _reason(error: Any) -> str:
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])
        text = said.get("message") or said.get("error")
    except msgspec.DecodeError:
        text = None if body.lstrip().startswith("<") else body
    return " ".join(str(text or error.reason or "").split())[:2000]


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return Retry().parse_retry_after(headers["Retry-After"])
    except (KeyError, InvalidHeader):
        return 0
