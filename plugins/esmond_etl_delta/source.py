"""The Delta source: it reads the tables of the sink, now or as they were."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, field_validator

from esmond_etl import Batch, Context, Interval, Series, Source, SourceError, parse_moment
from esmond_etl.tables import catalog
from esmond_etl.tables.places import without_secrets
from esmond_etl_delta.names import METADATA, needed, plain, reported, table_of
from esmond_etl_delta.reading import Reader
from esmond_etl_delta.tables import Tables, entries


class DeltaSource(Source):
    """The tables of the Delta sink: every series with its metadata, for an archive or for another sink.

    With `as_of`, the tables are read as they were at that time, as long as their old versions are kept.
    """

    place: ClassVar[tuple[str, ...]] = ("path",)
    paths: ClassVar[tuple[str, ...]] = ("path",)

    example: ClassVar[str] = """
        [source]
        type = "delta"
        path = "lake/"
    """

    path: Annotated[str, AfterValidator(plain)] = Field(
        description="folder, or URL of one in an object store", examples=["lake/", "s3://bucket/measurements"]
    )
    storage: dict[str, SecretStr] = Field(
        {},
        description="options of the connection to the object store, besides those in the environment",
        examples=[{"AWS_REGION": "eu-central-1"}],
    )
    as_of: str | None = Field(None, description="read the tables as they were at this time", examples=["2026-11-01T00:00:00Z"])
    event_types: list[str] | None = Field(None, description="only these event types; default: all")
    summaries: list[str] = Field(
        ["all"], description='series of each event type: "base", a summary such as "average/86400", or "all"', min_length=1
    )

    _tables: Tables = PrivateAttr()
    _reader: Reader = PrivateAttr()

    @field_validator("as_of")
    @classmethod
    def _is_moment(cls, given: str | None) -> str | None:
        if given is not None:
            parse_moment(given, int(time.time()))
        return given

    @classmethod
    def at(cls, place: str) -> Self | None:
        """The tables in a folder."""
        return cls(path=place) if Path(place, METADATA, "_delta_log").is_dir() else None

    def wanted_event_types(self) -> list[str] | None:
        """The event types that the options name."""
        return self.event_types

    def wanted_summaries(self) -> list[str]:
        """The summaries that the options name."""
        return self.summaries

    def open(self, context: Context) -> None:
        """Check that the tables exist; raises SourceError if they do not."""
        needed()
        as_of = None if self.as_of is None else datetime.fromtimestamp(parse_moment(self.as_of, int(time.time())), UTC)
        self._tables = Tables(self.path, {name: value.get_secret_value() for name, value in self.storage.items()}, as_of)
        self._reader = Reader(self._tables)
        with reported(SourceError, without_secrets(self.path)):
            there = self._tables.open(METADATA)
        if there is None:
            when = f" at {self.as_of}" if self.as_of else ""
            raise SourceError(
                f"{without_secrets(self.path)}: there are no tables{when}: check `path`{' and `as_of`' if when else ''}"
            )

    def series(self, interval: Interval) -> Iterator[Series]:
        """Every series of the table of metadata whose event type and summary have rows for a day in `interval`."""
        with reported(SourceError, self._tables.shown):
            described = list(catalog.entries(entries(self._tables.open(METADATA))))
        fresh: set[str] = set()
        for entry in described:
            for series in entry.series():
                if self._selects(series) and self._has(series, interval, fresh):
                    yield series

    def _selects(self, series: Series) -> bool:
        if self.event_types is not None and series.event_type not in self.event_types:
            return False
        return "all" in self.summaries or str(series.summary) in self.summaries

    def _has(self, series: Series, interval: Interval, fresh: set[str]) -> bool:
        name = table_of(series.event_type, series.summary)
        with reported(SourceError, self._tables.shown, series):
            snapshot = self._reader.snapshot(name, newest=name not in fresh)
        fresh.add(name)
        return snapshot is not None and bool(snapshot.days(series.summary, interval))

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series` in `interval`, oldest first: numbers, or JSON text (of a map: equal, not byte for byte).

        They come from the version that `series` listed. Raises SourceError if any of them could not be read.
        """
        return self._reader.datapoints(series, interval, SourceError, newest=False)
