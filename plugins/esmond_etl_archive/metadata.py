"""Metadata as they are posted and as served. No I/O."""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from esmond_etl import EVENT_TYPES, URL_WORDS
from esmond_etl_archive.refusal import Refused
from esmond_etl_archive.values import whole

#: A subject type -> its fields, all of them in the order in which they are served.
SUBJECTS = {
    "point-to-point": ("source", "destination", "measurement-agent", "tool-name", "input-source", "input-destination"),
    "network-element": ("source", "measurement-agent", "tool-name", "input-source"),
}
FIELDS = SUBJECTS["point-to-point"]
ADDRESSES = ("source", "destination", "measurement-agent")  #: the fields that are IP addresses, and must be there


class Declared(NamedTuple):
    """One series that metadata declare."""

    event_type: str
    summary_type: str = "base"
    summary_window: int = 0


@dataclass(frozen=True)
class Posted:
    """Valid metadata."""

    subject_type: str
    subject: dict[str, str]
    parameters: dict[str, str]
    series: list[Declared]
    checksum: str


def posted(data: Any) -> Posted:
    """The posted metadata, checked as esmond checks them."""
    data = data if isinstance(data, dict) else {}
    for field in ("subject-type", "event-types"):
        if field not in data:
            raise Refused(f"Missing {field} field in request")
    subject_type = data["subject-type"]
    if not isinstance(subject_type, str) or subject_type not in SUBJECTS:
        raise Refused(f"Invalid subject type {subject_type}")
    if "metadata-key" in data:
        raise Refused("metadata-key is not allowed to be specified")
    series = _declared(data["event-types"])
    free = {name: data[name] for name in sorted(data) if name not in (*FIELDS, "subject-type", "event-types")}
    subject = {name: data[name] for name in FIELDS if name in data}
    checksum = _checksum(subject_type, subject, free, series)
    return Posted(subject_type, _subject(subject_type, subject), _texts(free), series, checksum)


def _subject(subject_type: str, given: Mapping[str, Any]) -> dict[str, str]:
    fields = SUBJECTS[subject_type]
    for name in given:
        if name not in fields:
            raise Refused(f"A {subject_type} subject has no {name}")
    subject = dict.fromkeys(fields, "") | _texts(given)
    for name in ADDRESSES:
        if name in fields:
            subject[name] = _address(name, subject[name])
    return subject


def _address(name: str, value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise Refused(f"The field '{name}' must be an IP address, not {value!r}") from None


def _texts(given: Mapping[str, Any]) -> dict[str, str]:
    if missing := [name for name, value in given.items() if value is None]:
        raise Refused(f"The field '{missing[0]}' may not be null")
    return {name: value if isinstance(value, str) else str(value) for name, value in given.items()}


def _declared(event_types: Any) -> list[Declared]:
    if event_types is None:
        return []
    if not isinstance(event_types, list):
        raise Refused("event_types must be a list")
    declared: list[Declared] = []
    for each in event_types:
        if not isinstance(each, dict) or "event-type" not in each:
            raise Refused("No event-type defined")
        name = each["event-type"]
        if not isinstance(name, str) or name not in EVENT_TYPES:
            raise Refused(f"Invalid event-type {name}")
        declared.append(Declared(name))
        declared.extend(_summaries(name, each.get("summaries", ())))
    return sorted(set(declared))


def _summaries(event_type: str, summaries: Any) -> Iterable[Declared]:
    if not isinstance(summaries, (list, tuple)):
        raise Refused("summaries must be a list")
    for summary in summaries:
        if not isinstance(summary, dict) or "summary-type" not in summary:
            raise Refused("Summary must contain summary-type")
        kind = summary["summary-type"]
        if not isinstance(kind, str) or kind not in URL_WORDS:
            raise Refused(f"Invalid summary type '{kind}'")
        if kind != "base":
            yield Declared(event_type, kind, _window(event_type, kind, summary))


def _window(event_type: str, kind: str, summary: Mapping[str, Any]) -> int:
    if kind not in EVENT_TYPES[event_type].summaries:
        raise Refused(f"Summary type {kind} not allowed for event-type {event_type}")
    if "summary-window" not in summary:
        raise Refused("Summary must contain summary-window")
    window = whole(summary["summary-window"], "Summary window must be an integer")
    if window < 0:
        raise Refused("Summary window must be an integer of 0 or more")
    return window


def _checksum(subject_type: str, subject: Mapping[str, Any], free: Mapping[str, Any], series: Iterable[Declared]) -> str:
    """The identity of metadata; letter case, order, and the types of values do not count."""
    digest = hashlib.sha256(subject_type.encode())
    for name, value in sorted({**subject, **free}.items()):
        digest.update(f"\0{name}\1{value}".lower().encode())
    for declared in series:
        digest.update("\0{}\1{}\1{}".format(*declared).encode())
    return digest.hexdigest()


class Links:
    """The addresses of an archive, as used in its answers."""

    def __init__(self, host: str, path: str) -> None:
        self.host = host  #: scheme and authority
        self.path = path  #: of the list of metadata, with a slash at its end

    def event_type(self, key: str, name: str, series: Iterable[tuple[str, int, int | None]]) -> dict[str, Any]:
        """An event type as served, from (summary type, window, time updated) of its series."""
        base = [updated for kind, _, updated in series if kind == "base"]
        return {
            "base-uri": f"{self.path}{key}/{name}/base",
            "event-type": name,
            "time-updated": base[0] if base else None,
            "summaries": [self.summary(key, name, *each) for each in series if each[0] != "base"],
        }

    def summary(self, key: str, name: str, kind: str, window: int, updated: int | None) -> dict[str, Any]:
        """A summary as served."""
        return {
            "uri": f"{self.path}{key}/{name}/{URL_WORDS[kind]}/{window}",
            "summary-type": kind,
            "summary-window": str(window),
            "time-updated": updated,
        }

    def metadata(self, kept: "Kept") -> dict[str, Any]:
        """Metadata as served."""
        return {
            **{name.replace("_", "-"): value for name, value in kept.parameters.items()},  # esmond does that to all names
            "url": f"{self.host}{self.path}{kept.key}/",
            "metadata-key": kept.key,
            "subject-type": kept.subject_type,
            "event-types": [self.event_type(kept.key, *each) for each in kept.event_types.items()],
            **kept.subject,
            "uri": f"{self.path}{kept.key}/",
        }


@dataclass(frozen=True)
class Kept:
    """Metadata as stored."""

    key: str
    subject_type: str
    subject: dict[str, str]
    parameters: dict[str, str]
    event_types: dict[str, list[tuple[str, int, int | None]]]  #: summary type, window, time updated of every series
