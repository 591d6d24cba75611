"""Rows for one file: gathered in memory, spilled if memory is short, written in large row groups."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import IO

from esmond_etl.tables.parts import NewFile, Written
from esmond_etl.tables.rows import Gathered, Rows, Subjects


@dataclass(kw_only=True)
class Partition(Gathered):
    """The rows of one event type and summary on one day."""

    create: Callable[[], NewFile]
    file: NewFile | None = None

    def write_group(self, subjects: Subjects) -> None:
        """Write the rows in memory to the file, as a row group."""
        rows, self.rows = self.rows.sorted(), Rows()
        if rows.count:
            self._write(rows, subjects)

    def _write(self, rows: Rows, subjects: Subjects) -> None:
        self.file = self.file or self.create()
        self.file.write(rows.table(subjects, self.layout, self.event_type))

    def finish(self, subjects: Subjects, keys: Collection[str], spill: IO[bytes] | None) -> Written | None:
        """Write the rest and complete the file; None if there were no rows, and so no file."""
        for rows in self.groups(spill):
            self._write(rows, subjects)
            del rows  # freed before the next ones are fetched
        self.rows = Rows()
        if self.file is None:
            return None
        written = self.file.finish(keys)
        self.file = None
        return written
