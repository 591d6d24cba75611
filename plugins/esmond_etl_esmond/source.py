"""The esmond source: from query filters to streams of datapoints."""

import math
import time
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr, field_validator

from esmond_etl import Batch, ConfigError, Context, Duration, Interval, Metadata, Series, Source, Summary
from esmond_etl.client.filters import check_name
from esmond_etl.client.reading import Reader, is_elmond
from esmond_etl_esmond.connection import Connection

#: This many requests tell how many an archive can bear at once.
TELLING = 200

#: What elmond cannot filter by: it answers 500.
NO_FILTER = frozenset({"failures", "packet-trace-multi"})

#: A list is filtered by time only if `from` is not older than this, s: the filter leaves out tests that ended before.
RECENT = 92 * 86400

#: The clock of a measuring host may be this much ahead of the archive's, s.
AHEAD = 3600

#: At most this many metadata are searched for the nearest value of a filter.
LOOKED_AT = 10_000


class EsmondSource(Connection, Source):
    """The series of an esmond archive (or of elmond, perfSONAR 5's read-only service) that match the filters."""

    example: ClassVar[str] = """
        [source]
        type = "esmond"
        url = "https://archive.example.net/"
        event_types = ["throughput", "packet-count-sent"]
        match = { source = "198.129.254.30" }
    """

    event_types: list[str] | None = Field(None, description="only these event types; default: all")
    summaries: list[str] = Field(
        ["base"],
        description='which of an event type\'s series: "base", "average/86400" and the like, or "all"',
        min_length=1,
        json_schema_extra={"type": ["array", "string"]},
    )
    match: dict[str, str | int | float] = Field(
        default_factory=dict, description="the archive's own filters, sent as they are: source, destination, tool-name, ..."
    )
    page: int = Field(10_000, gt=0, le=10_000, description="datapoints per request at most")
    spacing: Duration = Field(
        1,
        gt=0,
        description="least time between two results of one test; elmond is read in steps of it times `page` where a test has no "
        "pscheduler-run-href",
    )

    trust_time_updated: bool = Field(
        False,
        description="whether to skip windows that begin an hour or more after the archive's last write to a series: a run in which "
        "nothing is new then asks for no data; wrong where the clocks of measuring hosts are ahead. A series that was silent and is "
        "written to again is read from the beginning: it may be late data",
    )

    _reader: Reader = PrivateAttr()

    @classmethod
    def at(cls, place: str) -> Self | None:
        """The archive at an HTTP URL; a user and API key are options of `[source]` in a pipeline."""
        return cls(url=place) if place.startswith(("http://", "https://")) else None

    def wanted_event_types(self) -> list[str] | None:
        """The event types that the options name."""
        return self.event_types

    def wanted_summaries(self) -> list[str]:
        """The summaries that the options name."""
        return self.summaries

    @field_validator("match")
    @classmethod
    def _known_filters(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            try:
                check_name(name)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("summaries", mode="before")
    @classmethod
    def _known_summaries(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [value]
        for each in value if isinstance(value, list) else ():
            if isinstance(each, str) and each != "all":
                Summary.parse(each)
        return value

    def open(self, context: Context) -> None:
        """Prepare the connection; sends no request."""
        super().open(context)
        self._reader = Reader(self._archive, self.page, self.spacing, tolerant=True)

    def series(self, interval: Interval) -> Iterator[Series]:
        """Every series that the filters match; raises ArchiveError if the list is not complete."""
        for metadata in self._reader.metadata(self._filters(interval)):
            for series in metadata.series():
                if self._selects(series):
                    yield series

    def _filters(self, interval: Interval) -> dict[str, Any]:
        filters = dict(self.match)
        if self.event_types and len(self.event_types) == 1 and not NO_FILTER.intersection(self.event_types):
            filters.setdefault("event-type", self.event_types[0])
        # never time-end: esmond compares the filters with the time of the last write, not with the data's times
        if interval.start > time.time() - RECENT:
            filters.setdefault("time-start", interval.start)
        return filters

    def _selects(self, series: Series) -> bool:
        if self.event_types is not None and series.event_type not in self.event_types:
            return False
        return "all" in self.summaries or str(series.summary) in self.summaries

    def unmatched(self) -> str | None:
        """The filter that matches nothing in the archive at any time; None for an empty archive.

        Takes one request if something matches at other times, a few if nothing does.
        """
        if any(map(self._selects, (series for entry in self._reader.metadata(dict(self.match)) for series in entry.series()))):
            return None
        place, entries = self._archive.url, list(islice(self._reader.metadata({}), LOOKED_AT))
        if not entries:
            return None
        for name, value in self.match.items():
            if not _any(self._reader.metadata({name: value})):
                near = get_close_matches(
                    str(value), {str(each) for entry in entries if (each := _value(entry, name)) is not None}, 1
                )
                return f"{place}: no metadata has {name} = {value!r}" + (f": did you mean {near[0]!r}?" if near else "")
        matching = list(self._reader.metadata(dict(self.match)))
        if not matching:
            return f"{place}: no metadata matches all of {', '.join(self.match)} together"
        names = {name for entry in matching for name in entry.event_types}
        if self.event_types is not None and names.isdisjoint(self.event_types):
            return f"{place}: what matches has none of the event types {', '.join(self.event_types)}; it has {', '.join(sorted(names))}"
        return f"{place}: what matches has none of the summaries {', '.join(self.summaries)}"

    def unusable(self) -> dict[str, str]:
        """Invalid entries of the archive's list."""
        return self._reader.unusable

    def remarks(self) -> dict[str, int]:
        """What the run settled on, if there were enough requests to tell: requests in flight, and datapoints in each."""
        told = {}
        if self._archive.adapts and self._archive.traffic.requests >= TELLING:
            text = f"requests in flight at the end: as many as the archive could bear ({self._archive.parallel} at most)"
            told[text] = self._archive.limit.now
        if self._reader.page_now < self.page:
            told[f"datapoints in a request at the end: as many as the archive could bear ({self.page:,} at most)"] = (
                self._reader.page_now
            )
        return told

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series` in `interval`, oldest first; raises ArchiveError if any could not be read."""
        return self._reader.datapoints(series, interval)

    def requests(self, series: Series, datapoints: float) -> int:
        """One request per full page, and one for the rest."""
        return self._reader.requests(series, datapoints)

    def first(self, series: Series, interval: Interval) -> int:
        """The time of the first datapoint of `series` in `interval`, from one small request; raises ArchiveError if that fails."""
        return self._reader.first(series, interval)

    def last(self, series: Series) -> float:
        """A time (Unix time) after the last datapoint: an hour after the last write, if that can be trusted; otherwise infinity."""
        if not self.trust_time_updated or is_elmond(series):
            return math.inf
        return -math.inf if series.served.updated is None else series.served.updated + AHEAD

    def written(self, series: Series) -> float:
        """The time of the archive's last write to `series`, if that can be trusted; otherwise minus infinity."""
        if not self.trust_time_updated or is_elmond(series) or series.served.updated is None:
            return -math.inf
        return series.served.updated


def _any(found: Iterable[Metadata]) -> bool:
    return next(iter(found), None) is not None


def _value(entry: Metadata, name: str) -> object:
    """The value of a filter's field in metadata."""
    return getattr(entry, name.replace("-", "_"), None) or entry.parameters.get(name)
