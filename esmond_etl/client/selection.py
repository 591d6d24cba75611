"""A selection: some series of an archive, and an interval."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from esmond_etl.client.filters import FOREVER, listing
from esmond_etl.client.reading import Reader, is_elmond
from esmond_etl.model.errors import ConfigError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import BASE, Metadata, Series, Summary

#: Further than this after now elmond is not asked for data, s: it is read window by window.
AHEAD = 86400

ALWAYS = Interval(0, FOREVER)


@dataclass(frozen=True)
class Selection:
    """Some series of an archive over one interval."""

    criteria: Mapping[str, Any] = field(default_factory=dict)  #: the archive's own filters
    event_types: frozenset[str] | None = None  #: None for all
    summaries: frozenset[Summary] | None = frozenset((BASE,))  #: None for all
    interval: Interval = ALWAYS

    def metadata(self, reader: Reader) -> Iterator[Metadata]:
        """All metadata that may have such series; raises ArchiveError if the list could not be read to its end."""
        criteria = dict(self.criteria)
        if self.event_types is not None and len(self.event_types) == 1:
            criteria.setdefault("event-type", *self.event_types)
        for metadata in reader.metadata(listing(criteria, self.interval.start)):
            if self.event_types is None or not self.event_types.isdisjoint(metadata.event_types):
                yield metadata

    def series(self, metadata: Iterable[Metadata]) -> Iterator[Series]:
        """The selected series of `metadata`."""
        for each in metadata:
            for series in each.series():
                if self.event_types is not None and series.event_type not in self.event_types:
                    continue
                if self.summaries is None or series.summary in self.summaries:
                    yield series


def window(series: Series, interval: Interval) -> Interval:
    """The part of `interval` to ask an archive for; raises ConfigError if it has no start and the archive needs one."""
    if not is_elmond(series):
        return interval
    if interval.start <= 0:
        raise ConfigError(f"{series.served.uri}: this archive is read window by window: give a start")
    return interval.intersection(Interval(interval.start, max(interval.start, int(time.time()) + AHEAD)))
