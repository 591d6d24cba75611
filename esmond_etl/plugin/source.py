"""A source of series and their datapoints."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from esmond_etl.model.batch import Batch
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Series
from esmond_etl.plugin.stage import Stage


class Source(Stage):
    """A source of series and their datapoints."""

    def wanted_event_types(self) -> Sequence[str] | None:
        """The event types that the options name; None if they name none, which means all."""
        return None

    def wanted_summaries(self) -> Sequence[str]:
        """The summaries that the options name, such as "base" and "average/86400"; "all" for all of them."""
        return ("base",)

    @classmethod
    def at(cls, place: str) -> Self | None:
        """The source for `place`, a URL or a path, with default options; None if `place` is not for this kind of source."""
        return None

    @abstractmethod
    def series(self, interval: Interval) -> Iterator[Series]:
        """The series that may have datapoints in `interval`; those of one metadata come one after the other.

        Raises SourceError or ArchiveError if the list is not complete.
        """

    @abstractmethod
    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series` in `interval`, oldest first.

        Raises SourceError or ArchiveError if any of them could not be read: a stream that ends is complete.
        """

    def unusable(self) -> Mapping[str, str]:
        """Entries of the last list that cannot be read: the metadata key, or the text in its place -> the error."""
        return {}

    def unmatched(self) -> str | None:
        """Why no series can ever match the options; None if that is not known. Called after an empty list."""
        return None

    def absent(self) -> Mapping[str, str]:
        """The archives, of several, that are missing from the last list: the name of each -> the error."""
        return {}

    def remarks(self) -> Mapping[str, int]:
        """Messages for the user about what was read so far -> how many datapoints or series each is about."""
        return {}

    def requests(self, series: Series, datapoints: float) -> int:
        """About how many requests it takes to read this many datapoints of `series` at once."""
        return 1

    def first(self, series: Series, interval: Interval) -> int:
        """A time (Unix time) before or at the first datapoint of `series` in `interval`; `interval.end` if there is none. If a
        source can find it with little effort, a backfill need not read years before the first measurement.
        """
        return interval.start

    def last(self, series: Series) -> float:
        """A time (Unix time) at or after the last datapoint of `series`, from the list; infinity if unknown. A run does not read
        the time after it, and does not note it as done.
        """
        return math.inf

    def written(self, series: Series) -> float:
        """The time of the last write to `series` (Unix time), from the list; minus infinity if unknown. If a series that was silent
        for long is written to, this may be late data of any time: all of it is read again.
        """
        return -math.inf
