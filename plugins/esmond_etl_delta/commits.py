"""Commits to the tables: deliveries that wait for each other share one."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pyarrow as pa

from esmond_etl import SinkError, Summary
from esmond_etl.tables import catalog, columns
from esmond_etl.tables.catalog import NOTHING
from esmond_etl.tables.columns import Layout
from esmond_etl.tables.load import DayFile
from esmond_etl.tables.parts import Cut, NewFile, keys_in, take_out
from esmond_etl_delta.actions import Live, added, folder
from esmond_etl_delta.load import Delivery
from esmond_etl_delta.names import METADATA, schema_of, table_of
from esmond_etl_delta.tables import Tables

if TYPE_CHECKING:
    from deltalake import DeltaTable

_METADATA: Final[pa.Schema] = schema_of(catalog.SCHEMA)

#: Files whose metadata keys are in the cache at most.
REMEMBERED: Final = 10_000


@dataclass
class Change:
    """What changes in one table."""

    new: list[DayFile] = field(default_factory=list)
    cuts: list[tuple[Summary, Cut]] = field(default_factory=list)


class Commits:
    """Commits the deliveries of several threads: deliveries that come during a commit wait, and share the next one."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._waiting: list[Delivery] = []
        self._failed: dict[int, BaseException] = {}  # by identity of the delivery
        self._made: dict[int, dict[str, int]] = {}  # versions of tables, by identity of the delivery
        self._keys: dict[str, frozenset[str] | None] = {}  # of files, by path; None if a file does not tell them

    def deliver(self, delivery: Delivery) -> dict[str, int]:
        """Return the versions of the changed tables when `delivery` is durable; raises the error of its commit."""
        with self._lock:
            self._waiting.append(delivery)
        with self._turn:
            with self._lock:
                together, self._waiting = self._waiting, []
            try:
                versions = self._commit(together)
                self._made.update({id(each): versions for each in together})
            except BaseException as error:  # a panic of the library is not an Exception: it must not be taken for success
                self._failed.update({id(each): error for each in together})
            failed, made = self._failed.pop(id(delivery), None), self._made.pop(id(delivery), {})
        if isinstance(failed, Exception):
            raise failed
        if failed is not None:
            raise SinkError(f"the commit broke off: {failed!r}") from failed
        return made

    def _commit(self, together: Sequence[Delivery]) -> dict[str, int]:
        """Commit to one table after the other; the versions of those that changed."""
        about = {"esmond_etl.tasks": " ".join(sorted(each.task.id for each in together))}
        versions: dict[str, int | None] = {}
        for name, change in sorted(_changes(together).items()):
            wanted = schema(change.new[0].layout) if change.new else None
            self._remember(change)
            versions[name] = self._tables.change(name, wanted, partial(self._actions, name, change), about)
        if versions:
            versions[METADATA] = self._tables.rewrite(METADATA, _METADATA, partial(_described, together), about)
        return {name: version for name, version in versions.items() if version is not None}

    def _actions(self, name: str, change: Change, table: DeltaTable) -> list[Any] | None:
        """What changes in a table; None if it has been committed, though the answer was lost."""
        live = Live(table)
        adds = [added(name, each.written, folder(each.shelf.summary, each.day)[1]) for each in change.new]
        if adds and live.has(adds[0].path):
            return None
        removes, rests = [], []
        for path, cuts in self._cuts(name, change, live).items():
            with self._tables.files.opened(f"{name}/{path}") as file:
                left = take_out(file, cuts, partial(self._create, f"{name}/{path}"))
            if left.dropped:
                removes.append(live.removed(path))
            if left.written:
                rests.append(left.written.path)
                adds.append(added(name, left.written, live.values(path)))
        self._tables.files.sync(rests)
        return [*removes, *adds]

    def _cuts(self, name: str, change: Change, live: Live) -> dict[str, list[Cut]]:
        """By file of a table, the rows that are replaced."""
        cuts: dict[str, list[Cut]] = defaultdict(list)
        for summary, cut in change.cuts:
            for path in live.overlapping(summary, cut.interval):
                known = self._keys_of(f"{name}/{path}")
                if known is None or not known.isdisjoint(cut.keys):
                    cuts[path].append(cut)
        return cuts

    def _remember(self, change: Change) -> None:
        if len(self._keys) + len(change.new) > REMEMBERED:
            self._keys.clear()
        self._keys.update({each.written.path: each.keys for each in change.new})

    def _keys_of(self, path: str) -> frozenset[str] | None:
        if path not in self._keys:
            if len(self._keys) >= REMEMBERED:
                self._keys.clear()
            with self._tables.files.opened(path) as file:
                self._keys[path] = keys_in(file)
        return self._keys[path]

    def _create(self, old: str, layout: Layout) -> NewFile:
        path = f"{old.rpartition('/')[0]}/{uuid4().hex}.parquet"
        return NewFile(path, self._tables.files.create(path), layout, is_delta=True)


def _changes(together: Sequence[Delivery]) -> dict[str, Change]:
    """By table, what the deliveries change there."""
    changes: dict[str, Change] = defaultdict(Change)
    for delivery in together:
        for shelf, keys in delivery.replaced.items():
            changes[table_of(*shelf)].cuts.append((shelf.summary, Cut(keys, delivery.task.interval)))
        for new in delivery.new:
            changes[table_of(*new.shelf)].new.append(new)
    return changes


def schema(layout: Layout) -> pa.Schema:
    """The columns of a table."""
    first = pa.schema([("summary", pa.string()), ("date", pa.date32())])
    return schema_of(pa.schema([*first, *columns.SCHEMAS[layout]]))


def _described(together: Sequence[Delivery], old: pa.Table) -> pa.Table | None:
    """The table of metadata with the series of the deliveries in it; None if that changes nothing."""
    delivered, seen = together[0].delivered, dict(together[0].rows)
    for each in together[1:]:
        delivered |= {series: intervals.union(delivered.get(series, ())) for series, intervals in each.delivered.items()}
        seen |= {series: seen.get(series, NOTHING).with_rows(*rows) for series, rows in each.rows.items()}
    rows = catalog.replaced(catalog.completed(old), delivered, seen)
    return None if rows is None else rows.cast(_METADATA)
