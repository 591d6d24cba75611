"""Measurements in a file, loaded into an archive with the rules of a bulk write."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from esmond_etl import EVENT_TYPES
from esmond_etl_archive.fold import Point
from esmond_etl_archive.metadata import posted
from esmond_etl_archive.refusal import Refused
from esmond_etl_archive.store import Archive
from esmond_etl_archive.values import base_text, datapoint_text

_AT_ONCE = 5000  # datapoints of one transaction

Counts = Counter[str]


class Loaded(NamedTuple):
    """The result of loading."""

    metadata: int = 0
    written: int = 0
    unchanged: int = 0  #: present already, with the same value
    conflicts: int = 0  #: present already, with another value, which stays


class _Record(msgspec.Struct):
    metadata: dict[str, Any]
    datapoints: dict[str, list[tuple[int, Any]]]


def records(path: str | Path) -> Iterator[Mapping[str, Any]]:
    """The records of a file: `{"metadata": what is posted, "datapoints": {event type: [[ts, val], ...]}}` each.

    Raises Refused if it has another format, OSError if it cannot be read.
    """
    try:
        for record in msgspec.json.decode(Path(path).read_bytes(), type=list[_Record]):
            yield msgspec.structs.asdict(record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: {error}") from None


def load(archive: Archive, records: Iterable[Mapping[str, Any]]) -> Loaded:
    """Write records into an archive, and return the result.

    Raises Refused at the first value that cannot be kept, or that the metadata of its record does not declare.
    """
    counts = Counts()
    for record in records:
        metadata = posted(record["metadata"])
        declared = {series.event_type for series in metadata.series}
        if undeclared := sorted(set(record["datapoints"]) - declared):
            raise Refused(f"datapoints of {undeclared[0]}, which their metadata does not declare")
        key = archive.add(metadata)
        counts["metadata"] += 1
        for name, points in record["datapoints"].items():
            counts += _load(archive, key, name, points)
    return Loaded(**counts)


def _load(archive: Archive, key: str, event_type: str, points: Iterable[tuple[int, Any]]) -> Counts:
    counts = Counts()
    rest = iter(points)
    while some := list(islice(rest, _AT_ONCE)):
        held = archive.datapoints(key, event_type, [ts for ts, _ in some])
        new: dict[int, Any] = {}
        for ts, value in some:
            if ts not in held and ts not in new:
                new[ts] = value
                continue
            there = held[ts] if ts in held else _text(event_type, ts, new[ts])
            counts["unchanged" if there == _text(event_type, ts, value) else "conflicts"] += 1
        _write(archive, key, event_type, new)
        counts["written"] += len(new)
    return counts


def _write(archive: Archive, key: str, event_type: str, points: Mapping[int, Any]) -> None:
    try:
        archive.write(key, [Point(ts, event_type, value) for ts, value in points.items()])
    except Refused:
        for ts, value in points.items():
            _text(event_type, ts, value)  # raises for the one that was refused, with its place
        raise


def _text(event_type: str, ts: int, value: Any) -> str:
    try:
        return datapoint_text(ts, base_text(EVENT_TYPES[event_type].data_type, value))
    except Refused as error:
        raise Refused(f"{event_type} at {ts}: {error}") from None
