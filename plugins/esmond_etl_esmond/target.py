"""The target archive: its metadata for those of the source, and the requests that may still be at work."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

import msgspec

from esmond_etl import BASE, ArchiveError, ContentError, Interval, IntervalSet, Metadata, StatusError, StoppedError
from esmond_etl.client import wire
from esmond_etl.client.archive import LONGEST_WAIT, Archive
from esmond_etl.client.failures import TRANSIENT
from esmond_etl_esmond.in_flight import Journal, RequestSize
from esmond_etl_esmond.summing import Verdict

#: The number of the target's metadata that are cached.
REMEMBERED: Final = 4096

#: Fields that an archive stores as IP addresses; it would resolve names.
ADDRESSES: Final = ("source", "destination", "measurement_agent")

_UNKNOWN_TYPE = re.compile(r"Invalid event-type (.+)")
_UNKNOWN_SUMMARY = re.compile(r"Invalid summary type '(.+)'")
_FORBIDDEN_SUMMARY = re.compile(r"Summary type (\S+) not allowed for event-type (\S+)")


@dataclass
class Place:
    """Metadata of the source in the target."""

    metadata: Metadata | None  #: as the target has them; None if the target refuses them
    refused: str = ""  #: why it refuses them
    sources: set[str] = field(default_factory=set)  #: keys of the source's metadata that are stored here
    lock: threading.Lock = field(default_factory=threading.Lock)  #: held by the writer
    touched: dict[str, IntervalSet] = field(default_factory=dict)  #: event type -> intervals that this process has written
    doubtful: bool = False  #: whether a request with an unknown outcome may still be at work
    inherited: bool = (
        False  #: whether it was at work when the target was asked: the update times in `metadata` are then out of date
    )

    @property
    def in_use(self) -> bool:
        """Whether it must stay in the cache."""
        return self.lock.locked() or self.doubtful

    def is_fresh(self, event_type: str, interval: Interval) -> bool:
        """Whether the target certainly has no base data of the event type in `interval`."""
        if self.inherited or self.metadata is None or self.metadata.event_types[event_type][BASE].updated is not None:
            return False
        return not self.touched.get(event_type, IntervalSet()).within(interval)

    def touch(self, event_type: str, interval: Interval) -> None:
        """Note an interval that was, or may have been, written."""
        self.touched[event_type] = self.touched.get(event_type, IntervalSet()).union([interval])


class Target:
    """An archive as target for the metadata of another one."""

    def __init__(self, archive: Archive, memory: MutableMapping[str, str], quiet: float, waiting: Callable[[str], None]) -> None:
        self.archive, self.memory, self.waiting = archive, memory, waiting
        self.journal = Journal(memory, quiet, archive.timeout)
        self.size = RequestSize()
        self.verdict = Verdict(memory, archive.list_url)
        self._unknown: set[str] = set()  # event types that the target does not know
        self._unknown_summaries: set[tuple[str, str | None]] = set()  # summary type, and an event type that cannot have it
        self._places: OrderedDict[str, Place] = OrderedDict()
        self._locks = [threading.Lock() for _ in range(256)]
        self._lock = threading.Lock()

    def close(self) -> None:
        """Note the requests that may still be at work, if any."""
        self.journal.close()

    def place(self, metadata: Metadata) -> Place:
        """The place of the source's `metadata` in the target; they are created if they are missing.

        Raises ArchiveError if the target does not answer, or accepts no metadata at all.
        """
        if refused := _name_for_address(metadata):
            return Place(None, refused)
        identity = _identity(metadata)
        with self._locks[hash(identity) % len(self._locks)]:  # two metadata of the source may be one in the target
            place = self._known(identity)
            if place is None:
                place = self._post(metadata)
                self._remember(identity, place)
        if place.metadata:
            place.sources.add(metadata.key)
            self._note_key(metadata.key, place.metadata.key)
        return place

    def _known(self, identity: str) -> Place | None:
        with self._lock:
            place = self._places.get(identity)
            if place:
                self._places.move_to_end(identity)
            return place

    def _remember(self, identity: str, place: Place) -> None:
        with self._lock:
            self._places[identity] = place
            for each in list(self._places) if len(self._places) > REMEMBERED else ():
                if len(self._places) > REMEMBERED and not self._places[each].in_use:
                    del self._places[each]

    def _note_key(self, key: str, target_key: str) -> None:
        if self.memory.get(f"key:{key}") != target_key:
            self.memory[f"key:{key}"] = target_key

    def _post(self, metadata: Metadata) -> Place:
        """Post `metadata` without the event types and summaries that the target does not know."""
        while True:
            try:
                there = self._posted(self._body(metadata))
                is_left = self.journal.is_left(there.key)
                return Place(there, doubtful=is_left, inherited=is_left)
            except StatusError as error:
                if error.status != 400:
                    raise
                if not self._learns(error.detail):
                    return Place(None, f"the archive refuses the metadata: {error.detail or error}")

    def _learns(self, detail: str) -> bool:
        """Whether `detail` tells what to leave out."""
        if match := _UNKNOWN_TYPE.fullmatch(detail):
            known, new = self._unknown, match[1]
            learnt = new not in known
            known.add(new)
            return learnt
        summary: tuple[str, str | None] | None = None
        if match := _UNKNOWN_SUMMARY.fullmatch(detail):
            summary = (match[1], None)
        elif match := _FORBIDDEN_SUMMARY.fullmatch(detail):
            summary = (match[1], match[2])
        if summary is None or summary in self._unknown_summaries:
            return False
        self._unknown_summaries.add(summary)
        return True

    def _body(self, metadata: Metadata) -> bytes:
        posted = as_posted(metadata)
        kept = [each for each in posted["event-types"] if each["event-type"] not in self._unknown]
        for each in kept:
            each["summaries"] = [summary for summary in each["summaries"] if self._can_have(each["event-type"], summary)]
        return wire.encode({**posted, "event-types": kept})

    def _can_have(self, event_type: str, summary: dict[str, Any]) -> bool:
        kind = summary["summary-type"]
        return not self._unknown_summaries.intersection({(kind, None), (kind, event_type)})

    def _posted(self, body: bytes) -> Metadata:
        """Post a body, with retries, and return the target's metadata: posting the same body again creates nothing."""
        pauses = Pauses(self.archive)
        while True:
            try:
                answer = self.archive.write("POST", self.archive.list_url, body)
                return _decoded(answer.body, self.archive.list_url)
            except ArchiveError as error:
                pauses.wait(error)


class Pauses:
    """Growing pauses between the retries of a transient failure."""

    def __init__(self, archive: Archive) -> None:
        self._archive, self.taken = archive, 0

    @property
    def is_over(self) -> bool:
        """Whether there were enough tries."""
        return self.taken >= self._archive.retries

    def wait(self, error: ArchiveError) -> None:
        """Wait before the next try; raises `error` if there are no more tries, StoppedError if told to stop."""
        if self.is_over or not passes(error):
            raise error
        asked = getattr(error, "retry_after", 0.0)
        if asked > LONGEST_WAIT:
            raise error
        self.sleep(max(asked, self._archive.backoff * 2**self.taken))
        self.taken += 1

    def sleep(self, seconds: float) -> None:
        """Wait; raises StoppedError if told to stop."""
        if self._archive.stop.wait(seconds):
            raise StoppedError("told to stop")


def passes(error: ArchiveError) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, StatusError):
        return error.status in TRANSIENT
    return not getattr(error, "final", False)


def as_posted(metadata: Metadata) -> dict[str, Any]:
    """The body to post for `metadata`: archives store every parameter as a string, so other values are posted as their JSON text."""
    posted = metadata.to_json()
    for name, value in metadata.parameters.items():
        posted[name] = parameter_text(value)
    return posted


def parameter_text(value: Any) -> str:
    """A parameter as an archive shows it; elmond gives it another type."""
    return value if isinstance(value, str) else wire.encode(value).decode()


def _identity(metadata: Metadata) -> str:
    """The identity of metadata in an archive."""
    posted = as_posted(metadata)
    for each in posted["event-types"]:
        each["summaries"].sort(key=str)
    posted["event-types"].sort(key=str)
    return msgspec.json.encode(posted, order="sorted").decode().lower()


def _name_for_address(metadata: Metadata) -> str:
    for name in ADDRESSES:
        value = getattr(metadata, name)
        if value is None and name == "destination" and metadata.subject_type == "network-element":
            continue
        try:
            ip_address(value)
        except ValueError:
            return f"{name.replace('_', '-')} {value!r} is not an IP address, and the archive accepts only IP addresses"
    return ""


def _decoded(body: bytes, url: str) -> Metadata:
    try:
        return wire.decode_metadata(msgspec.json.decode(body))
    except (ValueError, AttributeError) as error:
        raise ContentError(f"{url}: posted metadata, and the answer is not valid metadata: {error}", url) from None
