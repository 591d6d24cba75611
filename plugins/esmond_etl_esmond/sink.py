"""The esmond sink: measurements into an archive through its post interface."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import ClassVar, Final

from pydantic import Field, PrivateAttr

from esmond_etl import (
    BASE,
    ArchiveError,
    Batch,
    Context,
    Duration,
    Features,
    Interval,
    Load,
    Metadata,
    Series,
    Sink,
    SinkError,
    Source,
    Task,
)
from esmond_etl.client import wire
from esmond_etl.client.reading import Reader
from esmond_etl_esmond.connection import Connection
from esmond_etl_esmond.load import EsmondLoad
from esmond_etl_esmond.target import Target

#: The number of the target's metadata that are cached for reading back.
REMEMBERED: Final = 1024


class EsmondSink(Connection, Sink):
    """An esmond archive, written through its post interface so that it holds exactly the same datapoints as the source."""

    place: ClassVar[tuple[str, ...]] = ("url", "script_alias")
    example: ClassVar[str] = """
        [[sink]]
        type = "esmond"
        url = "https://new-archive.example.net/"
        username = "mirror"
        api_key = "${ESMOND_API_KEY}"
    """

    quiet: Duration = Field(
        60,
        description="after a crash or a broken connection: how long the archive must be quiet before that metadata is written again",
    )

    _target: Target = PrivateAttr()
    _reader: Reader = PrivateAttr()
    _source: Source | None = PrivateAttr()
    _entries: OrderedDict[str, Metadata | None] = PrivateAttr()
    _lock: threading.Lock = PrivateAttr()

    def open(self, context: Context) -> None:
        """Prepare the connection; sends no request."""
        super().open(context)
        self._target = Target(self._archive, context.memory, self.quiet, context.waiting)
        self._reader = Reader(self._archive)
        self._source = context.source
        self._entries, self._lock = OrderedDict(), threading.Lock()

    def reach(self, context: Context) -> None:
        """Check that the archive lists its metadata; raises ArchiveError if it does not."""
        self.open(context)
        try:
            self._look()
        finally:
            self.close()

    def ready(self) -> None:
        """Check that the archive lists its metadata and accepts the key; raises SinkError if it does not."""
        try:
            self._look()
        except ArchiveError as error:
            raise SinkError(str(error)) from error

    def _look(self) -> None:
        self._archive.get(self._archive.list_url, {"limit": 1}, wire.decode_metadata_list)

    def close(self) -> None:
        """Note which requests may still be at work, and close the connections."""
        self._target.close()
        super().close()

    def refusal(self, series: Series) -> str | None:
        """Why a summary cannot be written: an archive makes its own."""
        if series.summary == BASE:
            return None
        return f"{series.summary}: only base data can be written: the archive makes its own summaries"

    @property
    def features(self) -> Features:
        """The abilities of an archive: it never replaces numbers, and other programs may have written some of them."""
        return Features(replaces=False, undoes=False, merges=True, one_a_second=True, summarizes=True)

    def target_keys(self, memory: Mapping[str, str]) -> dict[str, str]:
        """Metadata key in the source -> in the target, which makes its own keys."""
        return {name.removeprefix("key:"): key for name, key in memory.items() if name.startswith("key:")}

    def begin(self, task: Task) -> Load:
        """Begin the delivery of one task: each metadata is sent as soon as all its series have ended."""
        return EsmondLoad(task, self._target, self._reader, self._source)

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The target's datapoints of the source's `series` in `interval`; none if it does not have the metadata.

        Raises SinkError if they cannot be read.
        """
        try:
            entry = self._entry(series.metadata.key)
            if entry is None or series.summary not in entry.event_types.get(series.event_type, {}):
                return
            theirs = Series(entry, series.event_type, series.summary)
            for batch in self._reader.datapoints(theirs, interval):
                yield batch.with_series(series)
        except ArchiveError as error:
            raise SinkError(str(error)) from error

    def _entry(self, key: str) -> Metadata | None:
        """The target's own metadata for one of the source; None if it has none."""
        target_key = self._target.memory.get(f"key:{key}")
        if target_key is None:
            return None
        with self._lock:
            if target_key in self._entries:
                self._entries.move_to_end(target_key)
                return self._entries[target_key]
        entry = self._reader.entry(f"{self._archive.list_url}{target_key}/")
        with self._lock:
            self._entries[target_key] = entry
            if len(self._entries) > REMEMBERED:
                self._entries.popitem(last=False)
        return entry
