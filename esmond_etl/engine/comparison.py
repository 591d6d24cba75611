"""Two sources side by side, without a pipeline: series that measure the same are compared value by value."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from esmond_etl.engine.verify import Compared, Told, compare
from esmond_etl.model.errors import described
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import BASE, Metadata, Series
from esmond_etl.plugin.source import Source


class Pair(NamedTuple):
    """The series of two sources that measure the same; None where one source has none."""

    left: Series | None
    right: Series | None


def pairs(left: Source, right: Source, interval: Interval, event_types: frozenset[str], base_alone: bool) -> list[Pair]:
    """The series of two open sources, matched by the content of their metadata, as the keys of a copy may differ.

    Several with the same content are matched in the order of their keys. The remaining series are matched by their keys: elmond has
    fewer metadata of a test than the archive that the data came from.
    """
    here, there = (_by_content(each, interval, event_types, base_alone) for each in (left, right))
    found = []
    for content in sorted({*here, *there}):
        ours, theirs = here.get(content, []), there.get(content, [])
        for number in range(max(len(ours), len(theirs))):
            found.append(Pair(ours[number] if number < len(ours) else None, theirs[number] if number < len(theirs) else None))
    return _matched_by_key(found)


def _matched_by_key(found: list[Pair]) -> list[Pair]:
    alone = {right.id: right for left, right in found if left is None and right is not None}
    taken = {left.id: alone[left.id] for left, right in found if right is None and left is not None and left.id in alone}
    return [
        Pair(left, taken.get(left.id)) if left is not None and right is None else Pair(left, right)
        for left, right in found
        if left is not None or right is None or right.id not in taken
    ]


def _by_content(source: Source, interval: Interval, event_types: frozenset[str], base_alone: bool) -> dict[str, list[Series]]:
    found: dict[str, list[Series]] = defaultdict(list)
    for series in source.series(interval):
        if (not event_types or series.event_type in event_types) and (series.summary == BASE or not base_alone):
            found[f"{_content(series.metadata)} {series.event_type} {series.summary}"].append(series)
    return {content: sorted(each, key=str) for content, each in found.items()}


def _content(metadata: Metadata) -> str:
    """The content of metadata, as archives compare it: parameters as lower-cased texts, without event types."""
    said = {name: str(value).lower() for name, value in metadata.to_json().items() if name != "event-types" and value is not None}
    return json.dumps(said, sort_keys=True)


def compared(
    left: Source, right: Source, matched: list[Pair], interval: Interval, parallel: int, told: Told | None
) -> Iterator[Compared]:
    """The comparison of each pair; the right series takes the place of the sink."""

    def each(pair: Pair) -> Compared:
        known = pair.left or pair.right
        assert known is not None
        result = Compared(known.id, "the other")
        if told:
            result.told = told
        try:
            ours = left.read(pair.left, interval) if pair.left else ()
            theirs = right.read(pair.right, interval) if pair.right else ()
            compare(ours, theirs, result)
        except Exception as error:  # a plugin may raise anything
            result.error = described(error)
        return result

    with ThreadPoolExecutor(parallel, "compare") as pool:
        yield from pool.map(each, matched)
