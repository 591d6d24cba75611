"""The criteria of a query, as programs set them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final, SupportsInt

from esmond_etl.model.errors import ConfigError
from esmond_etl.model.interval import Interval, moment, parse_duration, parse_moment

#: Event types that elmond cannot filter a list by: it answers 500. We filter the list ourselves.
NO_FILTER: Final = frozenset({"failures", "packet-trace-multi"})

#: A list is requested from this much before the data, s: the clocks of archives and of their hosts differ.
SLACK: Final = 3600

#: The end of a window without an end: 2100-01-01.
FOREVER: Final = 4102444800


#: How similar an unknown filter must be to a known one to count as a spelling mistake: archives have more filters than we know.
SLIP: Final = 0.88


def check_name(name: str) -> None:
    """Raises ConfigError if a filter is unknown but similar to a known one."""
    written = name.replace("-", "_")
    known = [each for each, value in vars(ApiFilters).items() if isinstance(value, _Criterion)]
    close = get_close_matches(written, known, 1, SLIP)
    if close and written not in known:
        meant = close[0].replace("_", "-") if "-" in name else close[0]
        raise ConfigError(f"unknown filter {name!r}: did you mean {meant!r}?")


class _Criterion:
    """A parameter of an archive's query string as an attribute: `input_source` is `input-source` in the URL."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.parameter = name, name.replace("_", "-")

    def __get__(self, filters: ApiFilters | None, owner: type) -> Any:
        return self if filters is None else self.home(filters).get(self.parameter)

    def __set__(self, filters: ApiFilters, value: Any) -> None:
        self.home(filters)[self.parameter] = value

    def __delete__(self, filters: ApiFilters) -> None:
        del self.home(filters)[self.parameter]

    def home(self, filters: ApiFilters) -> dict[str, Any]:
        return filters.metadata_filters


class _Moment(_Criterion):
    """A time in whole seconds, read from many types."""

    convert: Callable[[str], int] = staticmethod(lambda text: parse_moment(text, int(time.time())))

    def __set__(self, filters: ApiFilters, value: Any) -> None:
        if value is None:
            filters.time_filters.pop(self.parameter, None)
        else:
            filters.time_filters[self.parameter] = self._seconds(value)

    def _seconds(self, value: Any) -> int:
        try:
            if isinstance(value, str):
                return self._text(value.strip())
            if isinstance(value, SupportsInt) and not isinstance(value, bool):  # also floats, and numbers of other packages
                return int(value)
            return parse_moment(value, 0)
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"{self.name}: {error}") from None

    def _text(self, text: str) -> int:
        try:
            return int(float(text))
        except ValueError:
            return self.convert(text)

    def home(self, filters: ApiFilters) -> dict[str, Any]:
        return filters.time_filters


class _Span(_Moment):
    """A duration in whole seconds."""

    convert = staticmethod(parse_duration)


class ApiFilters:
    """The criteria of a query; a criterion that is not set does not count. The criteria below, and any other attribute that you
    set, are parameters of the archive's query string, with `-`
    for `_`: `filters.ip_tos = 32` asks for `ip-tos=32`. Hosts are best given as addresses: an archive looks names up by itself.

    The time criteria select data, both ends included. They take Unix seconds (`time.time() - 3600` will do), a datetime (a naive
    one is UTC), ISO 8601 text, or an age such as "30d"; anything else is refused at once. Unlike in the library of old, metadata are
    not lost because something was written to them after the window.
    """

    destination = _Criterion()
    event_type = _Criterion()
    input_destination = _Criterion()
    input_source = _Criterion()
    ip_transport_protocol = _Criterion()
    measurement_agent = _Criterion()
    metadata_key = _Criterion()
    source = _Criterion()
    subject_type = _Criterion()
    summary_type = _Criterion()
    summary_window = _Criterion()
    tool_name = _Criterion()

    time = _Moment()  #: the current second
    time_start = _Moment()
    time_end = _Moment()
    time_range = _Span()  #: s (or "1h") after `time_start`, before `time_end`, or before now

    verbose: int  #: whether to print each request on stderr
    ssl_verify: bool | str  #: whether the archive's certificate must be valid, or a file of certificates to trust
    timeout: float | None  #: s without a byte from the archive; None for the default of 60
    auth_username: str
    auth_apikey: str
    metadata_filters: dict[str, Any]  #: the criteria that select metadata, as they go into the query string
    time_filters: dict[str, int]  #: the criteria that select data, Unix seconds

    def __init__(self) -> None:
        self.verbose = False
        self.ssl_verify = True
        self.timeout = None
        self.auth_username = ""
        self.auth_apikey = ""
        self.metadata_filters = {}
        self.time_filters = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name in ApiFilters.__annotations__ or hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            check_name(name)
            self.metadata_filters[name.replace("_", "-")] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ApiFilters.__annotations__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return self.metadata_filters.get(name.replace("_", "-"))

    def __repr__(self) -> str:
        criteria = {**self.metadata_filters, **self.time_filters}
        return f"<ApiFilters: {', '.join(f'{name}={value}' for name, value in criteria.items()) or 'everything'}>"

    def interval(self) -> Interval:
        """The interval that the time criteria select now; raises ConfigError if it ends before it starts."""
        times = self.time_filters
        at, start, end, span = (times.get(name) for name in ("time", "time-start", "time-end", "time-range"))
        if at is not None:
            return Interval(at, at + 1)
        if span is not None and start is None:
            end = int(time.time()) if end is None else end
            start = end - span
        elif span is not None and end is None and start is not None:
            end = start + span
        if start is not None and end is not None and end < start:
            raise ConfigError(f"time_end ({moment(end)}) lies before time_start ({moment(start)})")
        return Interval(start or 0, FOREVER if end is None else end + 1)

    def listing(self) -> dict[str, Any]:
        """The query of a list request that finds everything that may have data in `interval`."""
        return listing(self.metadata_filters, self.interval().start)


def listing(criteria: Mapping[str, Any], start: int) -> dict[str, Any]:
    """What to ask an archive's list for: `criteria`, of the metadata that may have data after `start`.

    An archive compares `time-end` with the moment of the last write: with it, a test that still runs would not be found.
    """
    asked = {name: value for name, value in criteria.items() if name != "event-type" or value not in NO_FILTER}
    if start > 0:
        asked.setdefault("time-start", min(start, int(time.time())) - SLACK)
    return asked
