"""Write to an archive: metadata, then data under its key.

This is the interface of the old esmond client library. A program written for it runs after changing its import lines:

    from esmond_etl.client.post import EventTypeBulkPost, EventTypePost, MetadataPost

It differs where that library was wrong. What the archive would take and silently drop, add up, or answer with an internal error is
refused before anything is sent. Many datapoints go in requests of a bounded size, and none goes twice. A request that fails raises an
exception of the class, whose text names the URL and the archive's own reason, and says what had been taken before.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from numbers import Integral, Real
from operator import index
from typing import Any, ClassVar, Final

import msgspec

from esmond_etl.client import wire
from esmond_etl.client.filters import ApiFilters
from esmond_etl.client.query import Metadata, connect
from esmond_etl.client.reading import Reader
from esmond_etl.model.errors import ArchiveError, EsmondEtlError, StatusError
from esmond_etl.model.event_types import event_type as known
from esmond_etl.model.series import MADE_UP
from esmond_etl.model.series import Metadata as Listed

__all__ = [
    "EventTypeBulkPost",
    "EventTypeBulkPostException",
    "EventTypeBulkPostWarning",
    "EventTypePost",
    "EventTypePostException",
    "EventTypePostWarning",
    "MetadataPost",
    "MetadataPostException",
    "MetadataPostWarning",
    "PostException",
]

#: Timestamps per request at most.
AT_ONCE: Final = 1000


class PostException(EsmondEtlError):
    """Something was not posted; if the archive caused it, its ArchiveError is the `__cause__`."""

    @property
    def value(self) -> Any:
        """The reason."""
        return self.args[0]


class MetadataPostException(PostException):
    """Metadata were not posted."""


class EventTypePostException(PostException):
    """Datapoints of one event type were not posted, or not all of them."""


class EventTypeBulkPostException(PostException):
    """Datapoints of several event types were not posted, or not all of them."""


class MetadataPostWarning(Warning):
    """Something that was added to the metadata is not used."""


class EventTypePostWarning(Warning):
    """No longer issued: an exception is raised instead."""


class EventTypeBulkPostWarning(Warning):
    """No longer issued: an exception is raised instead."""


class _Post:
    """Base class of everything that is written to an archive."""

    failure: ClassVar[type[PostException]] = PostException

    def __init__(
        self, api_url: str, username: str, api_key: str, script_alias: str | None, ssl_verify: bool | str, timeout: float | None
    ) -> None:
        self.api_url, self.username, self.script_alias = api_url.rstrip("/"), username, script_alias
        self.filters = ApiFilters()  #: the connection to the archive
        self.filters.ssl_verify, self.filters.timeout = ssl_verify, timeout
        self._archive = connect(api_url, username, api_key, script_alias, self.filters)


class MetadataPost(_Post):
    """New metadata: source, destination, tool and parameters of a measurement.

    Add all event types and summaries before you post: one more later makes other metadata. Posting the same metadata again changes
    nothing, and returns the same key.
    """

    failure = MetadataPostException

    def __init__(
        self,
        api_url: str,
        username: str = "",
        api_key: str = "",
        subject_type: str | None = None,
        source: str | None = None,
        destination: str | None = None,
        tool_name: str | None = None,
        measurement_agent: str | None = None,
        input_source: str | None = None,
        input_destination: str | None = None,
        time_duration: float | str | None = None,
        ip_transport_protocol: str | None = None,
        script_alias: str | None = "esmond",
        ssl_verify: bool | str = True,
        timeout: float | None = None,
    ) -> None:
        """Metadata for an archive; sends nothing. Unlike in the old library, a `network-element` has no destination."""
        super().__init__(api_url, username, api_key, script_alias, ssl_verify, timeout)
        self.subject_type = subject_type
        self.source = source
        self.destination = destination
        self.tool_name = tool_name
        self.measurement_agent = measurement_agent
        self.input_source = input_source
        self.input_destination = input_destination
        self.time_duration = time_duration
        self.ip_transport_protocol = ip_transport_protocol
        self._event_types: dict[str, list[dict[str, Any]]] = {}
        self._freeform: dict[str, Any] = {}

    def add_event_type(self, et: str) -> None:
        """Add an event type; one that was added already gives a MetadataPostWarning and changes nothing."""
        if et in self._event_types:
            warnings.warn(f"event type {et} is there already", MetadataPostWarning, stacklevel=2)
        self._event_types.setdefault(et, [])

    def add_summary_type(self, et: str, st: str, windows: Iterable[int | str] = ()) -> None:
        """Ask the archive for summaries of the type `st` over windows of these lengths (s), in place of other summaries of that type.

        An event type that is missing is added. Raises MetadataPostException if a window is not a whole number; an empty list of
        windows gives a MetadataPostWarning and changes nothing.
        """
        try:
            seconds = [int(window) for window in windows]
        except ValueError:
            raise MetadataPostException(f"{et}: the windows of a summary are whole seconds, not {windows}") from None
        if not seconds:
            warnings.warn(f"event type {et}: no windows for the summary {st}", MetadataPostWarning, stacklevel=2)
            return
        others = [each for each in self._event_types.get(et, []) if each["summary-type"] != st]
        self._event_types[et] = [{"summary-type": st, "summary-window": window} for window in seconds] + others

    def add_freeform_key_value(self, k: str, v: Any) -> None:
        """Add a free-form parameter by its name in the archive, as in "ip-tos".

        One that is set already gives a MetadataPostWarning and stays. MetadataPostException is raised for parameters that only archives
        set.
        """
        if k in MADE_UP:
            raise MetadataPostException(f"{k} is set by the archive: it cannot be posted")
        if self._payload().get(k):
            warnings.warn(f"parameter {k} is set already", MetadataPostWarning, stacklevel=2)
        else:
            self._freeform[k] = v

    def json_payload(self, pp: bool = False) -> str:
        """The metadata as posted, in JSON; raises MetadataPostException if something is missing."""
        return _text(self._validated(), pp)

    def post_metadata(self) -> Metadata:
        """Post the metadata, and return them as the archive has them now, with their key.

        Raises MetadataPostException if something is missing, or if the archive refuses them or cannot be reached.
        """
        archive, metadata = self._archive, self._validated()
        try:
            body = _encode(metadata)
        except (TypeError, ValueError) as error:
            raise MetadataPostException(f"a parameter cannot be written as JSON: {error}") from None
        try:
            answer = archive.write("POST", archive.list_url, body)
            return Metadata(_metadata(answer.body), self.api_url, self.filters, Reader(archive))
        except ArchiveError as error:
            raise MetadataPostException(str(error)) from error
        except ValueError as error:
            raise MetadataPostException(f"{archive.list_url}: {error}") from None

    def _validated(self) -> dict[str, Any]:
        required = ["subject_type", "source", "tool_name", "measurement_agent", "input_source"]
        if self.subject_type != "network-element":
            required += ["destination", "input_destination"]
        if missing := [name for name in required if not getattr(self, name)]:
            raise MetadataPostException(f"a metadata needs {', '.join(missing)}")
        return self._payload()

    def _payload(self) -> dict[str, Any]:
        subject = {
            "subject-type": self.subject_type,
            "source": self.source,
            "destination": self.destination,
            "tool-name": self.tool_name,
            "measurement-agent": self.measurement_agent,
            "input-source": self.input_source,
            "input-destination": self.input_destination,
            "time-duration": self.time_duration,
            "ip-transport-protocol": self.ip_transport_protocol,
        }
        event_types = [{"event-type": name, "summaries": summaries} for name, summaries in self._event_types.items()]
        return {**{name: value for name, value in subject.items() if value}, **self._freeform, "event-types": event_types}


class _DataPost(_Post):
    """Datapoints under one metadata."""

    def __init__(
        self,
        api_url: str,
        username: str,
        api_key: str,
        metadata_key: str | None,
        script_alias: str | None,
        ssl_verify: bool | str,
        timeout: float | None,
    ) -> None:
        super().__init__(api_url, username, api_key, script_alias, ssl_verify, timeout)
        self.metadata_key = metadata_key
        self._points: dict[int, dict[str, bytes]] = {}  # not posted yet: ts -> event type -> JSON
        self._taken: set[tuple[str, int]] = set()  # already posted

    def _add(self, event_type: str, ts: Any, val: Any) -> None:
        second = self._second(ts)
        if event_type in self._points.get(second, ()) or (event_type, second) in self._taken:
            raise self.failure(f"{event_type} at {second} was added already: an archive would add up the two values")
        if val is None and known(event_type).data_type != "json":
            raise self.failure(f"{event_type} at {second}: None is not a value: leave the datapoint out")
        try:
            self._points.setdefault(second, {})[event_type] = _encode(val)
        except (TypeError, ValueError) as error:
            raise self.failure(f"{event_type} at {second}: the value cannot be written as JSON: {error}") from None

    def _second(self, ts: Any) -> int:
        if isinstance(ts, datetime):
            if ts.tzinfo is None:
                raise self.failure(f"ts {ts} has no time zone: use the ts_epoch of a datapoint, or replace(tzinfo=timezone.utc)")
            return int(ts.timestamp())
        try:
            return index(None if isinstance(ts, bool) else ts)  # type: ignore[arg-type]
        except TypeError:
            raise self.failure(f"ts must be an integer, in seconds, or a datetime with a time zone, not {ts!r}") from None

    def post_data(self) -> None:
        """Write all datapoints that were added, in requests of at most 1000 timestamps each; those already sent are not sent again.

        First the archive is asked for the metadata: it would accept, and drop, event types that they do not declare. Raises an exception
        if the metadata are missing, or do not declare an event type; then nothing was sent. Also raises one if a request fails; its text
        says how many datapoints were stored before. The archive may have kept a part of the failed request: read the datapoints back
        before you send them again.
        """
        if not self._points:
            return
        url = f"{self._archive.list_url}{self.metadata_key}/"
        try:
            self._check_declared(url)
            before = len(self._taken)
            for seconds in _chunks(sorted(self._points)):
                self._send(url, seconds, before)
        except StatusError as error:
            hint = f"there is no metadata {self.metadata_key}: " if error.status == 404 else ""
            raise self.failure(f"{hint}{error}") from error
        except ArchiveError as error:
            raise self.failure(str(error)) from error

    def _check_declared(self, url: str) -> None:
        listed = self._archive.get(url, {}, _metadata)
        used = {name for values in self._points.values() for name in values}
        if undeclared := sorted(used.difference(listed.event_types)):
            declared = ", ".join(listed.event_types) or "none"
            raise self.failure(f"{url} does not have the event types {', '.join(undeclared)}; it has {declared}")

    def _send(self, url: str, seconds: list[int], before: int) -> None:
        rows = [(ts, list(self._points[ts].items())) for ts in seconds]
        try:
            self._archive.write("PUT", url, wire.encode_bulk(rows))
        except ArchiveError as error:
            taken, sending = len(self._taken) - before, sum(len(values) for _, values in rows)
            kept = "none" if getattr(error, "status", 0) in (401, 403, 404, 405) else "perhaps some"
            error.args = (f"{error} ({taken} datapoints were taken before; of these {sending} {kept})",)
            raise
        for ts, values in rows:
            self._taken.update((name, ts) for name, _ in values)
            del self._points[ts]


class EventTypePost(_DataPost):
    """Datapoints of one event type under one metadata."""

    failure = EventTypePostException

    def __init__(
        self,
        api_url: str,
        username: str = "",
        api_key: str = "",
        metadata_key: str | None = None,
        event_type: str | None = None,
        script_alias: str | None = "esmond",
        ssl_verify: bool | str = True,
        timeout: float | None = None,
    ) -> None:
        """Datapoints for an archive; sends nothing. Raises EventTypePostException without a metadata key and an event type."""
        super().__init__(api_url, username, api_key, metadata_key, script_alias, ssl_verify, timeout)
        if not metadata_key or not event_type:
            raise EventTypePostException("metadata_key and event_type must be set")
        self.event_type = event_type

    def add_data_point(self, ts: int | datetime, val: Any) -> None:
        """Add a datapoint: `ts` is Unix time in whole seconds, or a datetime with a time zone, whose fraction is cut off.

        Raises EventTypePostException if there is one at that `ts` already, or if the archive could not keep it.
        """
        self._add(self.event_type, ts, val)

    def json_payload(self, pp: bool = False) -> str:
        """The datapoints still to be posted, as JSON: a list of `{"ts", "val"}`."""
        points = [{"ts": ts, "val": json.loads(values[self.event_type])} for ts, values in self._points.items()]
        return _text(points, pp)


class EventTypeBulkPost(_DataPost):
    """Datapoints of several event types under one metadata."""

    failure = EventTypeBulkPostException

    def __init__(
        self,
        api_url: str,
        username: str = "",
        api_key: str = "",
        metadata_key: str | None = None,
        script_alias: str | None = "esmond",
        ssl_verify: bool | str = True,
        timeout: float | None = None,
    ) -> None:
        """Datapoints for an archive; sends nothing. Raises EventTypeBulkPostException without a metadata key."""
        super().__init__(api_url, username, api_key, metadata_key, script_alias, ssl_verify, timeout)
        if not metadata_key:
            raise EventTypeBulkPostException("metadata_key must be set")

    def add_data_point(self, event_type: str, ts: int | datetime, val: Any) -> None:
        """Add a datapoint: `ts` is Unix time in whole seconds, or a datetime with a time zone, whose fraction is cut off.

        Unlike in the old library, an event type cannot have two values at one `ts`: the archive would add them up. Raises
        EventTypeBulkPostException for that, or if the archive could not keep the datapoint.
        """
        self._add(event_type, ts, val)

    def json_payload(self, pp: bool = False) -> str:
        """The datapoints still to be posted, as JSON: the body of a PUT."""
        rows = [(ts, list(values.items())) for ts, values in self._points.items()]
        return _text(json.loads(wire.encode_bulk(rows)), pp)


def _text(value: object, pp: bool) -> str:
    return json.dumps(value, indent=4 if pp else None)


def _encode(value: Any) -> bytes:
    """The JSON of a value; raises TypeError or ValueError, also for nan and infinities, which JSON does not have."""
    return json.dumps(value, allow_nan=False, default=_number, separators=(",", ":")).encode()


def _number(value: object) -> float:
    """A number of another package as a Python number."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _metadata(body: bytes) -> Listed:
    return wire.decode_metadata(msgspec.json.decode(body))


def _chunks(seconds: list[int]) -> Iterator[list[int]]:
    remaining = iter(seconds)
    while chunk := list(islice(remaining, AT_ONCE)):
        yield chunk
