"""The Delta tables under one path; every change replaces the rows that a predicate selects."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from esmond_etl import EsmondEtlError, PluginError, Summary
from esmond_etl.tables import catalog
from esmond_etl.tables.places import without_secrets
from esmond_etl_delta.files import whole

if TYPE_CHECKING:
    from deltalake import DeltaTable

#: The tables besides those of the event types.
METADATA: Final = "metadata"
OWNERS: Final = "owners"

#: The partition columns of the tables of event types.
PARTITIONS: Final = ("summary", "date")

#: Microseconds, as Delta stores times.
MOMENT: Final = pa.timestamp("us", "UTC")

#: How often a change is retried because another process changed the same rows first.
TRIES: Final = 20


#: Characters that are not used in table names: readers encode them differently in URLs.
_ODD: Final = re.compile(r"[^A-Za-z0-9.-]")


def table_of(event_type: str, summary: Summary) -> str:
    """The name of the table that holds the datapoints. Statistics are always JSON text, and have their own table."""
    name = _ODD.sub(lambda found: "".join(f"_{byte:02x}" for byte in found[0].encode()), event_type)
    return f"{name}-statistics" if summary.type == "statistics" else name


def partition_of(summary: Summary) -> str:
    """A summary as in the column `summary`: its folders then have names without escapes."""
    return str(summary).replace("/", "-")


def schema_of(fields: pa.Schema) -> pa.Schema:
    """Columns with the types that Delta has."""
    return pa.schema([pa.field(field.name, _type(field.type)) for field in fields])


def _type(given: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(given):
        return given.value_type
    return MOMENT if pa.types.is_timestamp(given) else given


def plain(path: str) -> str:
    """The path; raises ValueError for one that the library would take for another."""
    if "%" in path and "://" not in path:
        raise ValueError('a "%" would be taken for an escape: choose a path without it')
    return path


class Tables:
    """The tables under a path, or a URL; usable from several threads."""

    def __init__(self, path: str, storage: Mapping[str, str], as_of: datetime | None = None) -> None:
        """`as_of`: the time whose state is read; None for the newest."""
        self.path, self.storage, self.as_of = path.rstrip("/"), dict(storage), as_of
        self.shown = without_secrets(path)
        self._held: dict[str, DeltaTable] = {}

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

    def held(self, name: str) -> DeltaTable | None:
        """A table that is to be changed: opened once, and from then on read only as far as its log has grown. For one thread alone."""
        if name in self._held:
            self._held[name].update_incremental()
        elif (table := self.open(name)) is not None:
            self._held[name] = table
        return self._held.get(name)

    def replace(
        self,
        name: str,
        schema: pa.Schema,
        predicate: str,
        rows: Callable[[DeltaTable], pa.RecordBatchReader | None],
        about: Mapping[str, str],
    ) -> int | None:
        """Replace the rows that `predicate` selects by `rows`, in one commit, and return the table's version; None if nothing changes.

        `about` goes into the commit's metadata.

        `rows` is called with the table as the commit finds it, and called again if another process changed the same rows meanwhile;
        it returns None to change nothing. One thread changes tables at a time. Raises DeltaError.
        """
        from deltalake import CommitProperties, WriterProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError

        if not predicate.strip():
            raise ValueError("an empty predicate would replace the whole table")
        for left in reversed(range(TRIES)):
            table = self.held(name) or self._make(name, schema)
            found = rows(table)
            if found is None:
                return None
            try:
                write_deltalake(
                    table,
                    found,
                    mode="overwrite",
                    predicate=predicate,
                    writer_properties=WriterProperties(compression="ZSTD", compression_level=1),
                    commit_properties=CommitProperties(custom_metadata=dict(about), max_commit_retries=TRIES),
                )
                return table.version()
            except CommitFailedError:
                self._held.pop(name, None)
                if not left:
                    raise
        return None

    def _make(self, name: str, schema: pa.Schema) -> DeltaTable:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        partitions = [column for column in PARTITIONS if column in schema.names]
        try:
            # "ignore": another process may have created it meanwhile
            return DeltaTable.create(self.uri(name), schema, mode="ignore", partition_by=partitions, storage_options=self.storage)
        except DeltaError:  # it may also have done so at the very same moment
            table = self.held(name)
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
        rows = pa.Table.from_pylist([] if note is None else [{"name": name, "note": note}], schema=schema)
        self.replace(OWNERS, schema, f"name = {quoted(name)}", lambda _: rows.to_reader(), {})


def needed() -> None:
    """Raises PluginError if the library is not installed."""
    if not find_spec("deltalake"):
        raise PluginError("delta needs deltalake: pip install 'esmond-etl[delta]'")


def entries(table: DeltaTable | None) -> pa.Table:
    """The table of metadata, with the columns of `esmond_etl.tables.catalog`."""
    return catalog.SCHEMA.empty_table() if table is None else whole(table).cast(catalog.SCHEMA)


def quoted(text: str) -> str:
    """A text in a predicate."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def reported(error: type[EsmondEtlError], *places: object) -> Iterator[None]:
    """Turn errors of Delta or Arrow into an `error` that names the places."""
    try:
        yield
    except EsmondEtlError:
        raise
    except Exception as problem:  # a damaged log is a bare Exception in some versions of the library
        said = " ".join(str(problem).split())
        raise error(": ".join(map(str, [*places, said]))) from problem
