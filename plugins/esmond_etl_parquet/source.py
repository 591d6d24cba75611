"""The Parquet source: it reads the files of the sink."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Self

from pydantic import Field, PrivateAttr

from esmond_etl import Batch, Context, Interval, Series, Source, SourceError
from esmond_etl.tables.load import Shelf
from esmond_etl.tables.places import without_secrets
from esmond_etl_parquet import catalog, files, reading
from esmond_etl_parquet.place import Place, reported
from esmond_etl_parquet.tree import Tree


class ParquetSource(Source):
    """The files of the Parquet sink: every series with its metadata, for an archive or for another sink."""

    place: ClassVar[tuple[str, ...]] = ("path",)
    paths: ClassVar[tuple[str, ...]] = ("path",)

    example: ClassVar[str] = """
        [source]
        type = "parquet"
        path = "out/"
    """

    path: str = Field(description="folder, or URL of one in an object store that an older version wrote to", examples=["out/"])
    event_types: list[str] | None = Field(None, description="only these event types; default: all")
    summaries: list[str] = Field(
        ["all"], description='series of each event type: "base", a summary such as "average/86400", or "all"', min_length=1
    )

    _tree: Place = PrivateAttr()

    @classmethod
    def at(cls, place: str) -> Self | None:
        """The tree in a folder, or in an object store."""
        return cls(path=place) if "://" not in place or place.startswith(("s3://", "gs://")) else None

    def wanted_event_types(self) -> list[str] | None:
        """The event types that the options name."""
        return self.event_types

    def wanted_summaries(self) -> list[str]:
        """The summaries that the options name."""
        return self.summaries

    def open(self, context: Context) -> None:
        """Check that the tree is there and complete: finish the commit of a killed run; raises SourceError if that is impossible."""
        with reported(SourceError, without_secrets(self.path)):
            self._tree = Place(self.path) if "://" in self.path else Tree(self.path)
            found = self._tree.names("")
        if not found:
            raise SourceError(f"{self._tree.shown}: there are no data: check `path`")
        with reported(SourceError, self._tree.shown, "a commit there was interrupted, and cannot be finished from here"):
            self._tree.finish()

    def series(self, interval: Interval) -> Iterator[Series]:
        """Every series of the table of metadata whose event type and summary have a folder for a day in `interval`."""
        with reported(SourceError, self._tree.shown):
            held = {
                shelf
                for shelf in files.shelves(self._tree)
                if self._selects(shelf) and any(files.days(self._tree, shelf, interval))
            }
            entries = list(catalog.entries(self._tree))
        for entry in entries:
            for series in entry.series():
                if Shelf.of(series) in held:
                    yield series

    def _selects(self, shelf: Shelf) -> bool:
        if self.event_types is not None and shelf.event_type not in self.event_types:
            return False
        return "all" in self.summaries or str(shelf.summary) in self.summaries

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series` in `interval`, oldest first: numbers, or JSON text (of a map: equal, not byte for byte).

        Raises SourceError if any of them could not be read.
        """
        return reading.datapoints(self._tree, series, interval, SourceError)
