"""Commits to the tables: deliveries that wait for each other share one."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from esmond_etl import Interval, Series, SinkError
from esmond_etl.tables import catalog
from esmond_etl.tables.catalog import NOTHING, Seen
from esmond_etl_delta.load import Delivery, Shelf, schema
from esmond_etl_delta.tables import METADATA, Tables, entries, partition_of, quoted, schema_of

if TYPE_CHECKING:
    from deltalake import DeltaTable

_METADATA: pa.Schema = schema_of(catalog.SCHEMA)


class Commits:
    """Commits the deliveries of several threads: deliveries that come during a commit wait, and share the next one."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._waiting: list[Delivery] = []
        self._failed: dict[int, BaseException] = {}  # by identity of the delivery
        self._made: dict[int, dict[str, int]] = {}  # versions of tables, by identity of the delivery

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
        keys = {id(each): each.keys() for each in together}
        names = sorted({shelf.table for found in keys.values() for shelf in found})
        versions: dict[str, int | None] = {}
        about = {"esmond_etl.tasks": " ".join(sorted(each.task.id for each in together))}
        for name in names:
            parts = [(each, shelf) for each in together for shelf in keys[id(each)] if shelf.table == name]
            predicate = " OR ".join(_selecting(shelf, keys[id(each)][shelf], each.task.interval) for each, shelf in parts)
            columns = self._columns(name, parts)
            if columns is not None:  # otherwise there is nothing to add, and nothing to remove
                versions[name] = self._tables.replace(name, columns, predicate, partial(_reader, columns, parts), about)
        if names:
            versions[METADATA] = self._describe(together, about)
        return {name: version for name, version in versions.items() if version is not None}

    def _columns(self, name: str, parts: Iterable[tuple[Delivery, Shelf]]) -> pa.Schema | None:
        """The columns of the new rows, or else of the table; None if there is neither."""
        for delivery, shelf in parts:
            if shelf in delivery.shelves:
                return schema(delivery.shelves[shelf].kind)
        table = self._tables.held(name)
        return None if table is None else pa.schema(table.schema())

    def _describe(self, together: Sequence[Delivery], about: dict[str, str]) -> int | None:
        """Update the table of metadata; returns its version."""
        seen: dict[Series, Seen] = {}
        for each in together:
            for series, lane in each.lanes.items():
                seen[series] = seen.get(series, NOTHING).with_rows(*lane.seen)
        keys = sorted({series.metadata.key for series in seen})
        return self._tables.replace(METADATA, _METADATA, f"metadata_key IN ({_list(keys)})", partial(_described, keys, seen), about)


def _described(keys: list[str], seen: dict[Series, Seen], table: DeltaTable) -> pa.RecordBatchReader | None:
    old = entries(table)
    held = old.filter(catalog.of_keys(old, keys)).sort_by("metadata_key")
    rows = catalog.updated(held, seen, seen).sort_by("metadata_key")
    return None if rows.equals(held) else rows.cast(_METADATA).to_reader()


def _reader(columns: pa.Schema, parts: Iterable[tuple[Delivery, Shelf]], _: DeltaTable) -> pa.RecordBatchReader:
    def batches() -> Iterator[pa.RecordBatch]:
        for delivery, shelf in parts:
            for table in delivery.rows(shelf):
                yield from table.to_batches()

    return pa.RecordBatchReader.from_batches(columns, batches())


def _selecting(shelf: Shelf, keys: Iterable[str], interval: Interval) -> str:
    """The predicate of the rows that a delivery replaces; it names dates, so that only their files are read."""
    first, end = (datetime.fromtimestamp(moment, UTC) for moment in (interval.start, interval.end))
    last = datetime.fromtimestamp(interval.end - 1, UTC)
    return (
        f"(summary = {quoted(partition_of(shelf.summary))} AND date >= '{first.date()}' AND date <= '{last.date()}'"
        f" AND ts >= '{first.isoformat()}' AND ts < '{end.isoformat()}' AND metadata_key IN ({_list(sorted(keys))}))"
    )


def _list(texts: Iterable[str]) -> str:
    return ", ".join(map(quoted, texts))
