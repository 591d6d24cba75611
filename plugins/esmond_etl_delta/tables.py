"""The Delta tables under one path: opening them, and commits that no other commit can have missed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from random import uniform
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esmond_etl.tables import catalog
from esmond_etl.tables.parts import Written
from esmond_etl.tables.places import without_secrets
from esmond_etl_delta.actions import Live, added
from esmond_etl_delta.files import Files, whole
from esmond_etl_delta.names import OWNERS, PARTITIONS

if TYPE_CHECKING:
    from deltalake import DeltaTable

#: How long a commit is tried again because other processes committed first, s.
PATIENCE: Final = 300

#: The longest pause before that, s.
PAUSE: Final = 0.2

#: Commits from one checkpoint of a table's log to the next: the library reads the log from there, several times a commit.
CHECKPOINT: Final = 10

#: How long a log tells of old versions: as long as `compact` keeps their files. A longer log makes each commit slower.
RETENTION: Final = "interval 7 days"


class Tables:
    """The tables under a path, or a URL; usable from several threads."""

    def __init__(self, path: str, storage: Mapping[str, str], as_of: datetime | None = None) -> None:
        """`as_of`: the time whose state is read; None for the newest."""
        self.path, self.storage, self.as_of = path.rstrip("/"), dict(storage), as_of
        self.shown = without_secrets(path)
        self.files = Files(self.path, storage)
        self._held: dict[str, DeltaTable] = {}  # those that are changed, as this process knows them

    def uri(self, name: str) -> str:
        """The location of a table."""
        return f"{self.path}/{name}"

    def open(self, name: str) -> DeltaTable | None:
        """A table at its newest version, or at `as_of`; None if it does not exist, or did not then."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            table = DeltaTable(self.uri(name), storage_options=self.storage)
        except TableNotFoundError:
            return None
        if self.as_of is not None:
            if table.history()[-1]["timestamp"] > self.as_of.timestamp() * 1000:  # it was created after that
                return None
            table.load_as_version(self.as_of)
        return table

    def known(self, name: str) -> DeltaTable | None:
        """A table that is to be changed, as this process knows it; None if it does not exist."""
        return self._held.get(name) or self._opened(name, None)

    def change(
        self, name: str, schema: pa.Schema | None, actions: Callable[[DeltaTable], list[Any] | None], about: Mapping[str, str]
    ) -> int | None:
        """Commit the actions, and return the table's version; None if nothing changes. `about` goes into the commit's metadata.

        `actions` is called with the table at its newest known version, and called again if another process committed meanwhile. It
        returns None if all is there already. A table that does not exist is created with `schema`, if there is one. One thread
        changes tables at a time. Raises DeltaError.
        """
        from deltalake.exceptions import CommitFailedError

        is_newest, until = name not in self._held, time.monotonic() + PATIENCE
        while (table := self._held.get(name) or self._opened(name, schema)) is not None:
            found = actions(table)
            if found is None:
                return table.version()
            try:
                if found:
                    return self._commit(name, table, found, about)
                if is_newest:
                    return None
                table.update_incremental()
            except CommitFailedError:
                if time.monotonic() > until:
                    raise
                self._held.pop(name, None)
                time.sleep(uniform(0, PAUSE))
            is_newest = True
        return None

    def _commit(self, name: str, table: DeltaTable, actions: list[Any], about: Mapping[str, str]) -> int:
        """Raises CommitFailedError if anybody committed since the table was read.

        The library would go on if it found no conflict, but it finds none between our removals and those of an `optimize` (1.6.6):
        what both removed would then be there twice.
        """
        from deltalake import CommitProperties

        before = table.version()
        table.create_write_transaction(
            actions,
            "append",
            table.schema(),
            table.metadata().partition_columns,
            commit_properties=CommitProperties(custom_metadata=dict(about), max_commit_retries=0),
        )
        table.update_incremental()
        self._held[name] = table
        self.files.sync(f"{name}/_delta_log/{version:020}.json" for version in range(before + 1, table.version() + 1))
        return table.version()

    def rewrite(
        self, name: str, schema: pa.Schema, rows: Callable[[pa.Table], pa.Table | None], about: Mapping[str, str]
    ) -> int | None:
        """Replace all rows of a table without partitions; as `change`. `rows` gets the present ones, and returns None to keep them."""

        def actions(table: DeltaTable) -> list[Any]:
            new = rows(whole(table))
            if new is None:
                return []
            live = Live(table)
            return [*map(live.removed, live.paths()), *self._written(name, new)]

        self._widen(name, schema)
        return self.change(name, schema, actions, about)

    def _widen(self, name: str, schema: pa.Schema) -> None:
        """Add the columns that a table of an older version lacks."""
        from deltalake import Schema

        table = self.known(name)
        missing = [] if table is None else [field for field in schema if field.name not in pa.schema(table.schema()).names]
        if table is not None and missing:
            table.alter.add_columns(Schema.from_arrow(pa.schema(missing)).fields)
            table.update_incremental()

    def _written(self, name: str, rows: pa.Table) -> Iterator[Any]:
        if not len(rows):
            return
        path = f"{name}/{uuid4().hex}.parquet"
        collected: list[pq.FileMetaData] = []
        with self.files.create(path) as stream:
            pq.write_table(rows, stream, compression="zstd", store_schema=False, metadata_collector=collected)
            size = stream.tell()
        self.files.sync([path])
        yield added(name, Written(path, size, collected[0]), {})

    def _opened(self, name: str, schema: pa.Schema | None) -> DeltaTable | None:
        table = self.open(name)
        if table is None and schema is not None:
            table = self._make(name, schema)
        if table is not None:
            self._held[name] = table
        return table

    def _make(self, name: str, schema: pa.Schema) -> DeltaTable:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            # "ignore": another process may have created it meanwhile
            return DeltaTable.create(
                self.uri(name),
                schema,
                mode="ignore",
                partition_by=[column for column in PARTITIONS if column in schema.names],
                configuration={"delta.checkpointInterval": str(CHECKPOINT), "delta.logRetentionDuration": RETENTION},
                storage_options=self.storage,
            )
        except DeltaError:  # it may also have done so at the very same moment
            table = self.open(name)
            if table is None:
                raise
            return table

    def notes(self) -> dict[str, str]:
        """The notes of the pipelines that deliver here, by name."""
        table = self.open(OWNERS)
        rows = [] if table is None else whole(table).to_pylist()
        return {row["name"]: row["note"] for row in rows}

    def set_note(self, name: str, note: str | None) -> None:
        """Leave, replace or remove a note."""
        schema = pa.schema([("name", pa.string()), ("note", pa.string())])
        new = pa.Table.from_pylist([] if note is None else [{"name": name, "note": note}], schema=schema)

        def rows(old: pa.Table) -> pa.Table:
            return pa.concat_tables([old.filter(pc.not_equal(old.column("name"), name)), new])

        self.rewrite(OWNERS, schema, rows, {})


def entries(table: DeltaTable | None) -> pa.Table:
    """The table of metadata, with the columns of `esmond_etl.tables.catalog`."""
    return catalog.SCHEMA.empty_table() if table is None else catalog.completed(whole(table))
