"""The Parquet sink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr

from esmond_etl import Batch, Context, Features, Interval, IntervalSet, Load, OwnedSink, Series, SeriesId, SinkError, Task
from esmond_etl.tables.columns import Layout
from esmond_etl.tables.layouts import Layouts
from esmond_etl.tables.load import DAY, Shelf
from esmond_etl_parquet import catalog, files, owners, reading
from esmond_etl_parquet.compact import compact
from esmond_etl_parquet.load import ParquetLoad
from esmond_etl_parquet.place import STAGING, Place, reported
from esmond_etl_parquet.recent import Recent
from esmond_etl_parquet.tree import Tree


def _folder(path: str) -> str:
    """The path; raises ValueError for a URL."""
    if "://" in path:
        raise ValueError('files are written into folders alone: for an object store, use the sink "delta"')
    return path


class ParquetSink(OwnedSink):
    """Parquet files for analytics: `event_type=throughput/summary=base/date=2014-03-01/*.parquet` under `path`.

    Columns: `ts` (UTC, seconds); `val` (a number; for histograms a map<string, int64> of counts by bucket; for everything else the
    value's JSON text); beside it, where there is something to open, `hops` (packet-trace), `traces` (packet-trace-multi), `intervals`
    (subintervals), `streams` (subintervals of streams), `delays` (histograms of delays): typed lists; `metadata_key`, `source`,
    `destination`, `measurement_agent`, `tool_name`, `input_source`, `input_destination` (texts); `parameters` (JSON text: all other
    metadata); `archive` if the pipeline names its archives. The event type, the summary (`base`, `average-86400`) and the date are in
    the folders' names. A folder keeps the columns that it began with. `metadata/_table.pq` has a row for each metadata key; `_owners/`
    has a note of each pipeline that delivers here.

    A task is committed whole: its files are written aside and made durable, then a journal says what goes where, then that is carried
    out. Killed before the journal, nothing has changed; killed after, the next run, source or `compact` carries it out to its end first.
    For an object store use the sink `delta`: there are no locks there, and nothing is renamed.
    """

    place: ClassVar[tuple[str, ...]] = ("path",)
    paths: ClassVar[tuple[str, ...]] = ("path",)

    example: ClassVar[str] = """
        [[sink]]
        type = "parquet"
        path = "out/"
    """

    path: Annotated[str, AfterValidator(_folder)] = Field(description="folder", examples=["out/"])
    histograms: Literal["delays", "map", "json"] = Field(
        "delays",
        description="as maps with a list of delays in milliseconds beside them, only as maps, or as JSON text, byte for byte",
    )
    shared_disk: bool = Field(
        False, description="whether all hosts see the folder under this path, so that workers on several hosts may write to it"
    )
    lists: bool = Field(True, description="whether packet traces and subintervals have typed lists beside their JSON text")

    _tree: Tree = PrivateAttr()
    _groups: files.Groups = PrivateAttr()
    _layouts: Layouts = PrivateAttr()
    _recent: Recent = PrivateAttr()

    def open(self, context: Context) -> None:
        """Create the folder if it is missing; finish or remove what a killed run left there."""
        with reported(SinkError, self.path):
            self._tree = Tree(self.path)
            self._tree.open()
        self._groups = files.Groups(self._tree)
        self._layouts = Layouts(self._tree.shown, "folder", files.folder_of, self._held, self.histograms, self.lists)
        self._recent = Recent(self._tree)

    @property
    def features(self) -> Features:
        """Several hosts may write to a disk that they share."""
        return Features(several_hosts=self.shared_disk, together=DAY, compacts=True, remembers=True)

    @classmethod
    def at(cls, place: str) -> Self | None:
        """The sink that wrote a tree."""
        if "://" in place or not Path(place).is_dir():
            return None
        with reported(SinkError, place):
            names = Place(place).names("")
        return cls(path=place) if any(name.startswith(("event_type=", STAGING)) for name in names) else None

    def compact(self) -> str:
        """Merge small files, until no event type has more than two a day."""
        with reported(SinkError, self.path):
            tree = Tree(self.path)
            tree.open()
            try:
                done = list(compact(tree))
            finally:
                tree.close()
        before, after = sum(each.before for each in done), sum(each.after for each in done)
        return f"{tree.shown}: {before:,} files in {len(done):,} folders merged into {after:,}"

    def reach(self, context: Context) -> None:
        """Check that the folder, or the nearest existing one above it, can be written to."""
        folder = Path(self.path, STAGING).absolute()
        while not folder.exists():
            folder = folder.parent
        try:
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise SinkError(f"{self.path}: {folder} cannot be written to: {error.strerror}") from None

    def close(self) -> None:
        """Remove everything that was not committed."""
        self._tree.close()

    @property
    def is_local(self) -> bool:
        """A tree is local."""
        return True

    def owners(self, context: Context) -> dict[str, str]:
        """The notes in `_owners/`."""
        with reported(SinkError, self.path):
            return owners.read(Place(self.path))

    def delivered(self) -> dict[SeriesId, IntervalSet]:
        """The column `delivered` of the table of metadata."""
        with reported(SinkError, self.path):
            return catalog.delivered(self._tree)

    def set_owner(self, name: str, note: str | None) -> None:
        """Change a note in `_owners/`."""
        with reported(SinkError, self.path):
            owners.write(self._tree, name, note)

    def begin(self, task: Task) -> Load:
        """Begin the delivery of one task to the tree."""
        return ParquetLoad(self._tree, self._groups, task, self._layouts.of)

    def _held(self, shelf: Shelf) -> Layout | None:
        with self._tree.exclusive():
            return files.held_layout(self._tree, shelf)

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The tree's datapoints of `series` in `interval`, oldest first.

        Values are numbers or JSON text; the text of a histogram that is kept as a map equals what came as JSON, not byte for byte.
        Raises SinkError if it cannot be read.
        """
        return reading.datapoints(self._tree, series, interval, SinkError, self._recent)
