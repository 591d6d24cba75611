"""Documents as elmond shows them to programs that know only esmond."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from esmond_etl import Batch, Interval, Metadata, NotComparableError, Series
from esmond_etl.client.archive import Archive
from esmond_etl.client.reading import Reader


class Elmond:
    """Reads what an elmond shows of the documents; thread-safe."""

    def __init__(self, archive: Archive) -> None:
        self._archive, self._reader = archive, Reader(archive)
        self._lock = threading.Lock()
        self._last: tuple[str, Metadata | None] = ("", None)  # the key and the metadata of the test that was read last

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series` in `interval` as elmond shows them, oldest first; none if it does not list the test.

        Raises NotComparableError for an event type that elmond does not list for such a test, and ArchiveError if it cannot be read.
        """
        entry = self._entry(series.metadata.key)
        if entry is None:
            return
        if series.summary not in entry.event_types.get(series.event_type, {}):
            raise NotComparableError(series, f"elmond does not list {series.event_type} for such a test")
        for batch in self._reader.datapoints(Series(entry, series.event_type, series.summary), interval):
            yield batch.with_series(series)

    def _entry(self, key: str) -> Metadata | None:
        with self._lock:
            if self._last[0] != key:
                self._last = (key, self._reader.entry(f"{self._archive.list_url}{key}"))
            return self._last[1]

    def close(self) -> None:
        """Close the connections."""
        self._archive.close()
