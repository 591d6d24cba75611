"""The tables, and the statements that make, fill and read them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import pyarrow as pa

from esmond_etl import JSON_TEXT, NUMBER, Interval, Series
from esmond_etl.tables import catalog
from esmond_etl_sql.dialects import Dialect
from esmond_etl_sql.values import Kind

#: The columns of each series, and of each metadata key; they are text, and `parameters` is JSON in the table of metadata.
SERIES: Final = ("metadata_key", "event_type", "summary", "source", "destination")
METADATA: Final = catalog.TEXTS

#: Temporary tables for the rows of a task.
STAGED: Final = "esmond_etl_{}"
STAGED_SERIES: Final = "esmond_etl_series"
STAGED_METADATA: Final = "esmond_etl_metadata"
FAULTS: Final = "esmond_etl_faults"

#: Kind -> its table, after the prefix; the table of metadata.
NAMES: Final[dict[Kind, str]] = {"number": "datapoints", "json": "datapoints_json"}
METADATA_NAME: Final = "metadata"
OWNERS_NAME: Final = "owners"


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Tables:
    """The tables of one sink, in one database."""

    dialect: Dialect
    schema: str | None
    prefix: str

    def name(self, name: str) -> str:
        """A table's name in SQL."""
        quoted = identifier(self.prefix + name)
        return f"{identifier(self.schema)}.{quoted}" if self.schema else quoted

    @property
    def lock(self) -> str:
        """The statement that excludes other deliveries to these tables until the transaction ends; or ""."""
        digest = sha256(f"esmond-etl {self.schema}.{self.prefix}".encode()).digest()
        return self.dialect.lock.format(int.from_bytes(digest[:8], signed=True))

    def missing_schema(self) -> tuple[str, str] | None:
        """The query for the schema, and the statement that creates it."""
        if not self.schema:
            return None
        make = f"create schema if not exists {identifier(self.schema)}"
        ask = self.dialect.schema_exists.format(self.schema.replace("'", "''"))
        return ask, make

    def definitions(self) -> dict[str, list[str]]:
        """For each table, the statements that create it and its indexes."""
        d = self.dialect
        texts = "".join(f"{name} text{' not null' if name in SERIES[:3] else ''}, " for name in SERIES)
        made = {
            self.name(name): [
                f"create table if not exists {self.name(name)} (ts {d.moment} not null, {texts}val {self.type(kind)})",
                *(self._index(name, number, definition) for number, definition in enumerate(d.indexes)),
            ]
            for kind, name in NAMES.items()
        }
        columns = "".join(f"{name} text{' primary key' if name == 'metadata_key' else ''}, " for name in METADATA)
        columns += f"parameters {d.json} not null, first_seen {d.moment} not null, last_seen {d.moment} not null"
        metadata = self.name(METADATA_NAME)
        owners = self.name(OWNERS_NAME)
        made[owners] = [f"create table if not exists {owners} (name text primary key, note text not null)"]
        return {**made, metadata: [f"create table if not exists {metadata} ({columns})"]}

    def _index(self, table: str, number: int, definition: str) -> str:
        name = identifier(f"{self.prefix}{table}_{'ts' if number else 'series'}")
        return f"create index if not exists {name} on {self.name(table)} {definition}"

    def exists(self, table: str) -> str:
        """The query whether a table exists; "" if none is needed."""
        return self.dialect.exists.format(table.replace("'", "''"))

    def type(self, kind: Kind) -> str:
        """The type of `val`."""
        return self.dialect.number if kind == "number" else self.dialect.json

    def staging(self) -> list[str]:
        """The statements that create the temporary tables."""
        d = self.dialect
        rows = [
            f"create temporary table {STAGED.format(kind)} (n integer, ts {d.moment}, val {d.number if kind == 'number' else 'text'})"
            for kind in NAMES
        ]
        series = ", ".join(f"{name} text" for name in SERIES)
        metadata = ", ".join(f"{name} text" for name in (*METADATA, "parameters"))
        return [
            *rows,
            f"create temporary table {STAGED_SERIES} (n integer, {series})",
            f"create temporary table {STAGED_METADATA} ({metadata}, first_seen {d.moment}, last_seen {d.moment})",
        ]

    def dropping(self) -> list[str]:
        """The statements that drop the temporary tables."""
        return [f"drop table {name}" for name in (*map(STAGED.format, NAMES), STAGED_SERIES, STAGED_METADATA)]

    def statistics(self) -> list[str]:
        """The statements that tell the database how large the temporary tables are."""
        names = (*map(STAGED.format, NAMES), STAGED_SERIES)
        return [self.dialect.statistics.format(name) for name in names if self.dialect.statistics]

    def replacing(self, interval: Interval) -> list[str]:
        """The statements that replace the rows of the staged series in `interval` by the staged rows."""
        deletions = [
            f"delete from {self.name(name)} where ts >= {self.moment(interval.start)} and ts < {self.moment(interval.end)}"
            f" and (event_type, summary, metadata_key) in (select event_type, summary, metadata_key from {STAGED_SERIES})"
            for name in NAMES.values()
        ]
        columns = ", ".join(f"s.{name}" for name in SERIES)
        insertions = [
            f"insert into {self.name(name)} (ts, {', '.join(SERIES)}, val)"
            f" select r.ts, {columns}, cast(r.val as {self.type(kind)})"
            f" from {STAGED.format(kind)} r join {STAGED_SERIES} s on s.n = r.n"
            for kind, name in NAMES.items()
        ]
        return [*deletions, *insertions, self._describing()]

    def _describing(self) -> str:
        d, table = self.dialect, self.name(METADATA_NAME)
        columns = ", ".join((*METADATA, "parameters", "first_seen", "last_seen"))
        updates = [f"{name} = excluded.{name}" for name in (*METADATA[1:], "parameters")]
        updates.append(f"first_seen = {d.least}(known.first_seen, excluded.first_seen)")
        updates.append(f"last_seen = {d.greatest}(known.last_seen, excluded.last_seen)")
        return (
            f"insert into {table} as known ({columns})"
            f" select {', '.join(METADATA)}, cast(parameters as {d.json}), first_seen, last_seen from {STAGED_METADATA} where true"
            f" on conflict (metadata_key) do update set {', '.join(updates)}"
        )

    def finding_faults(self) -> list[str]:
        """The statements that move staged rows with invalid JSON to the temporary table of faults."""
        rows, fault = STAGED.format("json"), "pg_temp.esmond_etl_fault(val)"
        return [
            self.dialect.fault,
            f"create temporary table {FAULTS} on commit drop as select n, ts, val, {fault} as reason from {rows}"
            f" where {fault} is not null",
            f"delete from {rows} where {fault} is not null",
        ]

    def selecting(self, kind: Kind, series: Series, interval: Interval) -> str:
        """The query for the rows of one series."""
        key = {"event_type": series.event_type, "summary": str(series.summary), "metadata_key": series.metadata.key}
        where = " and ".join(f"{name} = {literal(value)}" for name, value in key.items())
        return (
            f"select ts, {'val' if kind == 'number' else 'cast(val as text)'} as val from {self.name(NAMES[kind])} where {where}"
            f" and ts >= {self.moment(interval.start)} and ts < {self.moment(interval.end)} order by ts"
        )

    def noted(self) -> str:
        """The query for the notes of owners."""
        return f"select name, note from {self.name(OWNERS_NAME)}"

    def noting(self, name: str, note: str | None) -> list[str]:
        """The statements that replace, or remove, the note of an owner."""
        table = self.name(OWNERS_NAME)
        insertion = [f"insert into {table} values ({literal(name)}, {literal(note)})"] if note is not None else []
        return [f"delete from {table} where name = {literal(name)}", *insertion]

    def moment(self, ts: int) -> str:
        """A Unix time in SQL."""
        return self.dialect.epoch.format(ts)

    @property
    def ts(self) -> pa.DataType:
        """A time as a driver accepts it."""
        return pa.int64() if self.dialect.moment == "integer" else pa.timestamp("s", "UTC")

    def rows(self, kind: Kind) -> pa.Schema:
        """The columns of a staged row."""
        return pa.schema([("n", pa.int32()), ("ts", self.ts), ("val", NUMBER if kind == "number" else JSON_TEXT)])
