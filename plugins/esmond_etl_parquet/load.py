"""The delivery of one task to the tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa

from esmond_etl import Batch, Interval, Receipt, SinkError, Task
from esmond_etl.tables.columns import Layout
from esmond_etl.tables.load import DAY, DayLoad, Shelf
from esmond_etl.tables.parts import Cut, NewFile
from esmond_etl_parquet import catalog, files
from esmond_etl_parquet.files import Part
from esmond_etl_parquet.place import reported
from esmond_etl_parquet.tree import Change, Tree, sync_all


class ParquetLoad(DayLoad):
    """At commit the file of each day replaces the earlier rows."""

    def __init__(self, tree: Tree, groups: files.Groups, task: Task, layout: Callable[[Batch], Layout]) -> None:
        """`layout` returns the layout of the files that a batch belongs to; it raises SinkError if the batch does not fit there."""
        super().__init__(task, layout, tree.shown)
        self.tree, self._groups = tree, groups
        self._staged: list[str] = []

    def create(self, shelf: Shelf, day: int, layout: Layout) -> NewFile:
        """Begin a local file that is to be staged."""
        self._staged.append(self.tree.scratch())
        return NewFile(self._staged[-1], pa.OSFile(self._staged[-1], "wb"), layout)

    def spill(self) -> IO[bytes]:
        """A file beside the staged ones."""
        return self.tree.spill()

    def commit(self) -> Receipt:
        """Put the files into place, and return when they are durable. Raises SinkError if that fails."""
        seen = self.seen()
        with reported(SinkError, self.tree.shown):
            new = {(each.shelf, each.day): each.written.path for each in self.finished()}
            sync_all(new.values())
            with self.tree.exclusive():
                changes = self._replacements(new)
                changes += catalog.update(self.tree, self.delivered, seen)
                self._staged.clear()
                self.tree.commit(changes)
        self.forget()
        return self.receipt()

    def _replacements(self, new: dict[tuple[Shelf, int], str]) -> list[Change]:
        """The changes of a commit: for each day, first remove the earlier rows, then add the new ones."""
        changes: list[Change] = []
        for shelf, keys in self.replaced.items():
            days = {day for new_shelf, day in new if new_shelf == shelf}
            for day in sorted(days.union(files.days(self.tree, shelf, self.task.interval))):
                changes += self._replacement(shelf, day, keys, new.get((shelf, day)))
        return changes

    def _replacement(self, shelf: Shelf, day: int, keys: frozenset[str], staged: str | None) -> list[Change]:
        interval = self.task.interval.intersection(Interval(day * DAY, day * DAY + DAY))
        group = files.group_of(keys)
        parts = [part for part in files.parts(self.tree, shelf, day, interval) if self._groups.may_concern(part, keys)]
        same = next((part for part in parts if staged and (part.interval, part.group) == (interval, group)), None)
        away = [change for part in parts if part is not same for change in self._away(part, interval, keys)]
        if not staged:
            return away
        if same and not away:
            return [Change(same.path, staged)]
        # rows from another file go to a new name, which no reader can have listed together with that file
        gone = [Change(same.path, None)] if same else []
        return [*away, *gone, Change(f"{files.day_folder(shelf, day)}/{files.name_of(interval, group, bool(away))}", staged)]

    def _away(self, part: Part, interval: Interval, keys: frozenset[str]) -> Iterator[Change]:
        left = files.take_out(self.tree, part, Cut(keys, interval))
        if not left.rows:
            yield Change(part.path, None)
        if left.written is None:
            return
        sync_all([left.written.path])
        if self.tree.swaps:  # a reader that listed the old file must not find other rows under its name
            yield Change(part.path, None)
            yield Change(f"{part.folder}/{files.name_of(part.interval, part.group, fresh=True)}", left.written.path)
        else:
            yield Change(part.path, left.written.path)

    def rollback(self) -> None:
        """Remove what has been staged."""
        self.forget()
        for path in self._staged:
            Path(path).unlink(missing_ok=True)
