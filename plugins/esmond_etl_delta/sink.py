"""The Delta sink."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, ClassVar, Literal, Self

import pyarrow as pa
from pydantic import AfterValidator, Field, PrivateAttr, SecretStr

from esmond_etl import Batch, Context, Features, Interval, IntervalSet, Load, OwnedSink, Series, SeriesId, SinkError, Task
from esmond_etl.tables import catalog, columns
from esmond_etl.tables.columns import Layout
from esmond_etl.tables.layouts import Layouts
from esmond_etl.tables.load import DAY, Shelf
from esmond_etl.tables.places import without_secrets
from esmond_etl_delta.commits import Commits
from esmond_etl_delta.compact import compact
from esmond_etl_delta.load import Delivery
from esmond_etl_delta.names import METADATA, OWNERS, needed, plain, reported, table_of
from esmond_etl_delta.reading import Reader
from esmond_etl_delta.tables import Tables, entries


class DeltaSink(OwnedSink):
    """Delta tables for warehouses: one table per event type under `path`, partitioned by `summary` and `date`.

    Columns: `summary` (`base`, `average-86400`), `date`, `ts` (UTC), `val` (a number; for histograms a map<string, int64> of counts by
    bucket; for everything else the value's JSON text); beside it, where there is something to open, `hops`, `traces`, `intervals`,
    `streams` or `delays`; `metadata_key`, `source`, `destination`, `measurement_agent`, `tool_name`, `input_source`,
    `input_destination` (texts); `parameters` (JSON text: all other metadata); `archive` if the pipeline names its archives. Statistics of
    histograms have a table of their own, such as `histogram-owdelay-statistics`. The table `metadata` has a row for each metadata
    key; `owners` a note of each pipeline that delivers here.

    Each delivery replaces what the same series had in the same time, in one commit a table: readers see all of it or nothing.
    The ids of its tasks are in the commit's metadata.
    """

    place: ClassVar[tuple[str, ...]] = ("path",)
    paths: ClassVar[tuple[str, ...]] = ("path",)

    example: ClassVar[str] = """
        [[sink]]
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
    histograms: Literal["delays", "map", "json"] = Field(
        "delays",
        description="as maps with a list of delays in milliseconds beside them, only as maps, or as JSON text, byte for byte",
    )
    lists: bool = Field(True, description="whether packet traces and subintervals have typed lists beside their JSON text")

    _tables: Tables = PrivateAttr()
    _commits: Commits = PrivateAttr()
    _reader: Reader = PrivateAttr()
    _layouts: Layouts = PrivateAttr()

    def open(self, context: Context) -> None:
        """Import the heavy modules; tables are created when there are rows for them."""
        self._tables = self._unopened()
        self._commits, self._reader = Commits(self._tables), Reader(self._tables)
        self._layouts = Layouts(
            self._tables.shown, "table", lambda shelf: table_of(*shelf), self._held, self.histograms, self.lists
        )

    def _unopened(self) -> Tables:
        needed()
        return Tables(self.path, {name: value.get_secret_value() for name, value in self.storage.items()})

    @property
    def features(self) -> Features:
        """Several hosts may write to an object store."""
        return Features(several_hosts="://" in self.path, together=DAY, compacts=True, remembers=True)

    @classmethod
    def at(cls, place: str) -> Self | None:
        """The sink that wrote some tables."""
        if "://" not in place:
            return cls(path=place) if Path(place, METADATA, "_delta_log").is_dir() else None
        if not find_spec("deltalake"):
            return None
        with reported(SinkError, without_secrets(place)):
            return cls(path=place) if Tables(place, {}).open(METADATA) is not None else None

    def compact(self) -> str:
        """Merge small files day by day, and remove files that no version of the last week needs."""
        with reported(SinkError, without_secrets(self.path)):
            done = list(compact(self._unopened()))
        before, after, removed = (sum(numbers) for numbers in zip(*done, strict=True)) if done else (0, 0, 0)
        return (
            f"{without_secrets(self.path)}: {before:,} files of {len(done):,} tables merged into {after:,},"
            f" {removed:,} of old versions removed"
        )

    def reach(self, context: Context) -> None:
        """Check that the folder, or the nearest existing one above it, can be written to, or that the object store can be read."""
        if "://" in self.path:
            with reported(SinkError, without_secrets(self.path)):
                self._unopened().open(METADATA)
            return
        folder = Path(self.path)
        while not folder.exists():
            folder = folder.parent
        try:
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise SinkError(f"{self.path}: {folder} cannot be written to: {error.strerror}") from None

    @property
    def is_local(self) -> bool:
        """Tables in a folder are local."""
        return "://" not in self.path

    def owners(self, context: Context) -> dict[str, str]:
        """The rows of the table `owners`."""
        with reported(SinkError, without_secrets(self.path)):
            return self._unopened().notes()

    def delivered(self) -> dict[SeriesId, IntervalSet]:
        """The column `delivered` of the table `metadata`."""
        with reported(SinkError, self._tables.shown):
            return catalog.delivered(entries(self._tables.open(METADATA)))

    def set_owner(self, name: str, note: str | None) -> None:
        """Change a row of the table `owners`."""
        with reported(SinkError, without_secrets(self.path)):
            self._tables.set_note(name, note)

    def refusal(self, series: Series) -> str | None:
        """Why `series` cannot be stored: its event type has the name of another table."""
        taken = table_of(series.event_type, series.summary) in (METADATA, OWNERS)
        return f"{series}: the table {series.event_type!r} is for something else" if taken else None

    def begin(self, task: Task) -> Load:
        """Begin the delivery of one task to the tables."""
        return Delivery(self._tables.files, self._commits.deliver, task, self._layouts.of, self._tables.shown)

    def _held(self, shelf: Shelf) -> Layout | None:
        table = self._tables.known(table_of(*shelf))
        return None if table is None else columns.layout_of(pa.schema(table.schema()))

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The tables' datapoints of `series` in `interval`, oldest first.

        Values are numbers or JSON text; the text of a histogram that is kept as a map equals what came as JSON, not byte for byte.
        Raises SinkError if it cannot be read.
        """
        return self._reader.datapoints(series, interval, SinkError)
