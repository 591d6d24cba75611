"""The filters of a request's query string. No I/O but the resolution of host names."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from esmond_etl_archive.metadata import ADDRESSES, FIELDS
from esmond_etl_archive.refusal import Refused

DEFAULT_LIMIT = 1500
MOST_FILTERS = 100  #: SQLite takes no expression that is nested deeper than 1000

_FAMILIES = {"4": socket.AF_INET, "6": socket.AF_INET6}
#: dns-match-rule -> the families to ask for, and whether the first that answers is enough
_DNS_RULES = {
    "only-v4": ("4", True),
    "only-v6": ("6", True),
    "prefer-v4": ("46", True),
    "prefer-v6": ("64", True),
    "v4v6": ("46", False),
}
_RESERVED = ("format", "limit", "offset", "dns-match-rule", "time", "time-start", "time-end", "time-range")
_SERIES = {"event-type": "event_type", "summary-type": "summary_type", "summary-window": "CAST(summary_window AS TEXT)"}


class Times(NamedTuple):
    """The time range of a request, both ends included."""

    begin: int = 0
    end: int | None = None  #: None if it is open
    given: bool = False  #: whether the request has a time filter


def times(query: Mapping[str, str], now: int) -> Times:
    """The time range of a query string."""
    found = _times({name: _second(query[name]) for name in _RESERVED if name in query and name.startswith("time")}, now)
    if found.end is not None and found.end < found.begin:
        raise Refused("Requested start time must be less than end time")
    return found


def _times(given: Mapping[str, int], now: int) -> Times:
    match given:
        case {"time": instant}:
            return Times(instant, instant, True)
        case {"time-start": start, "time-end": end}:
            return Times(start, end, True)
        case {"time-start": start, "time-range": seconds}:
            return Times(start, start + seconds, True)
        case {"time-end": end, "time-range": seconds}:
            return Times(end - seconds, end, True)
        case {"time-start": start}:
            return Times(start, None, True)
        case {"time-end": end}:
            return Times(0, end, True)
        case {"time-range": seconds}:
            return Times(now - seconds, None, True)
    return Times()


def _second(value: str) -> int:
    return bounded(value, "Time parameter must be an integer")


def bounded(value: str, refusal: str) -> int:
    """`value` as an integer that SQLite can hold; raises Refused if it is not one."""
    try:
        number = int(value)
    except ValueError:
        raise Refused(refusal) from None
    return max(-(2**53), min(number, 2**53))  # limit of SQLite's integers


class Slice(NamedTuple):
    """The limit and offset of a request."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0
    given: bool = False  #: whether the request sets the limit


def slice_of(query: Mapping[str, str]) -> Slice:
    """The limit and offset of a query string."""
    limit = bounded(query.get("limit", str(DEFAULT_LIMIT)), "Limit must be an integer")
    offset = bounded(query.get("offset", "0"), "Offset must be an integer")
    if limit < 0:
        raise Refused("Limit must be an integer of 0 or more")
    return Slice(limit, max(offset, 0), "limit" in query)


@dataclass
class Search:
    """A condition on metadata: SQL, and the values of its question marks."""

    sql: list[str] = field(default_factory=list)
    values: list[str | int] = field(default_factory=list)

    def add(self, sql: str, *values: str | int) -> None:
        """Add a condition."""
        self.sql.append(sql)
        self.values.extend(values)

    @property
    def where(self) -> str:
        """The condition, for use after WHERE."""
        return " AND ".join(self.sql) or "1"


def search(query: Mapping[str, str], now: int) -> Search:
    """The condition of a query string on metadata."""
    found = Search()
    if len(query) > MOST_FILTERS:
        raise Refused(f"A request may have {MOST_FILTERS} parameters at most, not {len(query)}")
    for name, value in query.items():
        if name in ADDRESSES:
            addresses = _resolve(value, query.get("dns-match-rule", "v4v6"))
            found.add(f"{_column(name)} IN ({','.join('?' * len(addresses))})", *addresses)
        elif name in FIELDS or name in ("subject-type", "metadata-key"):
            found.add(f"{_column(name)} = ?", value)
        elif name not in _RESERVED and name not in _SERIES:
            found.add("EXISTS (SELECT 1 FROM parameter WHERE metadata = metadata.id AND (name, value) = (?, ?))", name, value)
    _add_series(found, query, times(query, now))
    return found


def _column(name: str) -> str:
    return "metadata.key" if name == "metadata-key" else f"metadata.{name.replace('-', '_')}"


def _add_series(found: Search, query: Mapping[str, str], asked: Times) -> None:
    """Filters on event types and times must all be met by one series."""
    inner = Search()
    for name, column in _SERIES.items():
        if name in query:
            inner.add(f"{column} = ?", query[name])
    if asked.given:
        inner.add("time_updated >= ?", asked.begin)
    if asked.end is not None:
        inner.add("time_updated <= ?", asked.end)
    if inner.sql:
        found.add(f"EXISTS (SELECT 1 FROM series WHERE series.metadata = metadata.id AND {inner.where})", *inner.values)


def _resolve(host: str, rule: str) -> list[str]:
    """The present addresses of a host; for an address, itself."""
    if rule not in _DNS_RULES:
        raise Refused(f"Invalid dns-match-rule parameter {rule}")
    families, first_is_enough = _DNS_RULES[rule]
    found = [address for family in families if (address := _lookup(host, _FAMILIES[family]))]
    if not found:
        raise Refused(f"Unable to find address for host {host}")
    return found[:1] if first_is_enough else found


def _lookup(host: str, family: socket.AddressFamily) -> str | None:
    try:
        return str(socket.getaddrinfo(host, 80, family, socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError):
        return None
