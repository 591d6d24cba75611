"""The delivery of one task to the tables."""

from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryFile
from typing import IO
from uuid import uuid4

from esmond_etl import Batch, Receipt, Series, SinkError, Task
from esmond_etl.tables.catalog import Seen
from esmond_etl.tables.columns import Layout
from esmond_etl.tables.load import DayFile, DayLoad, Shelf
from esmond_etl.tables.parts import NewFile
from esmond_etl_delta.actions import folder
from esmond_etl_delta.files import Files
from esmond_etl_delta.names import reported, table_of


class Delivery(DayLoad):
    """Each day becomes a file in the folder of its table; the commit names it."""

    def __init__(
        self, files: Files, deliver: Callable[[Delivery], dict[str, int]], task: Task, layout: Callable[[Batch], Layout], shown: str
    ) -> None:
        """`deliver` commits a delivery, and returns the versions of the tables that this changed."""
        super().__init__(task, layout, shown)
        self._files, self._deliver = files, deliver
        self._begun: list[str] = []  # files that no commit may name yet
        self.new: list[DayFile] = []
        self.rows: dict[Series, Seen] = {}

    def create(self, shelf: Shelf, day: int, layout: Layout) -> NewFile:
        """Begin a file where readers of the table do not look for it yet."""
        table = table_of(shelf.event_type, shelf.summary)
        path = f"{table}/{folder(shelf.summary, day)[0]}/{uuid4().hex}.parquet"
        self._begun.append(path)
        with reported(SinkError, self._shown, path):
            return NewFile(path, self._files.create(path), layout, is_delta=True)

    def spill(self) -> IO[bytes]:
        """A file in the system's temporary folder."""
        return TemporaryFile()

    def commit(self) -> Receipt:
        """Put the rows into the tables, and return when they are durable. Raises SinkError if that fails."""
        self.rows = self.seen()
        with reported(SinkError, self._shown):
            self.new = list(self.finished())
            self._files.sync(each.written.path for each in self.new)
            self._begun.clear()  # from now on a commit may name them, even if it seems to have failed
            versions = self._deliver(self)
        self.forget()
        return self.receipt(versions)

    def rollback(self) -> None:
        """Free the rows, and remove the files."""
        self.forget()
        with reported(SinkError, self._shown):
            self._files.remove(self._begun)
        self._begun.clear()
