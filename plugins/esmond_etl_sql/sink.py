"""The SQL sink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, ClassVar, Final

import pyarrow as pa
from pydantic import Field, PrivateAttr, SecretStr, model_validator

from esmond_etl import NUMBER, TS, Batch, Context, Duration, Features, Interval, Load, OwnedSink, Series, SinkError, Task, Traffic
from esmond_etl_sql import tables, urls
from esmond_etl_sql.database import Database, Session
from esmond_etl_sql.dialects import POSTGRESQL
from esmond_etl_sql.load import SQLLoad
from esmond_etl_sql.tables import Tables
from esmond_etl_sql.values import Kind

#: PostgreSQL cuts longer names, B.
_LONGEST_NAME: Final = 63

#: A database in memory.
_NOWHERE: Final = Path(":memory:")


class SQLSink(OwnedSink):
    """Rows in PostgreSQL, SQLite or DuckDB, loaded in bulk.

    Tables, which are created if they are missing: `esmond_datapoints` (`ts`, `metadata_key`, `event_type`, `summary`, `source`,
    `destination`, `val` a number); `esmond_datapoints_json` (the same with `val` as JSON: histograms, packet traces, failures and
    any other value that is not a number); `esmond_metadata` (a row for each `metadata_key`: its ends, its tool, `parameters` as
    JSON, `first_seen`, `last_seen`); `esmond_owners` (a note of each pipeline that delivers here). A task replaces what the same
    series had in the same time, in one transaction.
    """

    place: ClassVar[tuple[str, ...]] = ("url", "schema_", "prefix")

    example: ClassVar[str] = """
        [[sink]]
        type = "sql"
        url = "postgresql://perfsonar@db.example.net/warehouse"
        password = "${WAREHOUSE_PASSWORD}"
    """

    url: str = Field(
        description="the database: postgresql://USER@HOST/DATABASE, sqlite:PATH or duckdb:PATH",
        examples=["postgresql://perfsonar@db.example.net/warehouse", "sqlite:/data/perfsonar.db"],
    )
    password: SecretStr | None = Field(None, description='password of PostgreSQL; write "${NAME}" to take it from the environment')
    schema_: str | None = Field(
        None,
        alias="schema",
        description="schema that the tables are in; default: the database's own",
        min_length=1,
        pattern=r"^[^\x00]+$",
    )
    prefix: str = Field("esmond_", description="prefix of the table names", pattern=r"^[^\x00]*$")
    timeout: Duration = Field(600, gt=0, description="how long to wait for another delivery to the same tables")

    _tables: Tables = PrivateAttr()
    _database: Database = PrivateAttr()
    _traffic: Traffic = PrivateAttr()
    _is_open: bool = PrivateAttr(default=False)

    @classmethod
    def located(cls, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Make the path of a database file relative to the folder of the pipeline file."""
        url = options.get("url")
        return {**options, "url": urls.located(url, folder)} if isinstance(url, str) else dict(options)

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, given: Any) -> Any:
        """The options with the URL in a normal form without the password: the URL is shown, and a new password is not a new place."""
        url = given.get("url") if isinstance(given, dict) else None
        if not isinstance(url, str):
            return given
        if urls.dialect_of(url) is not POSTGRESQL:
            return {**given, "url": urls.plain(url)}
        bare, password = urls.without_password(urls.plain(url))
        return {**given, "url": bare} | ({"password": password} if password and not given.get("password") else {})

    @model_validator(mode="after")
    def _fits(self) -> SQLSink:
        dialect = urls.dialect_of(self.url)
        if dialect is not POSTGRESQL and self.password:
            raise ValueError(f"{dialect.name} has no password: leave it out")
        if self.schema_ and not dialect.has_schemas:
            raise ValueError(f"{dialect.name} has no schemas: leave it out")
        longest = max(len(f"{self.prefix}{name}_series".encode()) for name in tables.NAMES.values())
        if longest > _LONGEST_NAME or len((self.schema_ or "").encode()) > _LONGEST_NAME:
            raise ValueError(f"names of tables and schemas must be shorter: the longest would have {longest} bytes, of at most 63")
        return self

    def open(self, context: Context) -> None:
        """Connect, and create missing tables; raises SinkError if the database refuses that."""
        self._connect(context, self._file())
        try:
            self._database.deliver(self._make)
        except BaseException:
            self._database.close()
            raise
        self._is_open = True

    @property
    def features(self) -> Features:
        """Several hosts may write to PostgreSQL; a database file belongs to one host."""
        return Features(several_hosts=self.url.startswith("postgresql:"))

    def reach(self, context: Context) -> str:
        """Connect, and return the database's name and version; tables are made in a transaction that is rolled back, no file is made."""
        file = self._file()
        try:
            with file.open("r+b") if file and file.exists() else TemporaryFile(dir=file.parent if file else None):
                pass
        except OSError as error:
            raise SinkError(f"{self.url}: cannot be written to: {error.strerror}") from None
        self._connect(context, file if file is None or file.exists() else _NOWHERE)
        try:
            with self._database.reading() as session:
                self._make(session)
                (row,) = session.rows(self._tables.dialect.version)
        finally:
            self._database.close()
        return f"opens: {self._tables.dialect.name} {str(row['version']).removeprefix('v')}"

    def _file(self) -> Path | None:
        """The file of the database; None if it is a server. Raises SinkError if its folder is missing."""
        if urls.dialect_of(self.url) is POSTGRESQL:
            return None
        file = Path(urls.connectable(self.url, None))
        if not file.parent.is_dir():
            raise SinkError(f"{self.url}: there is no folder {file.parent}: make it, or correct `url`")
        return file

    def _connect(self, context: Context, file: Path | None) -> None:
        dialect = urls.dialect_of(self.url)
        secret = self.password.get_secret_value() if self.password else None
        uri = str(file or urls.connectable(self.url, secret))
        self._tables, self._traffic = Tables(dialect, self.schema_, self.prefix), Traffic()
        self._database = Database(dialect, uri, self.url, secret, self.timeout, context.stop)

    def _make(self, session: Session) -> None:
        names = self._tables
        schema, definitions = names.missing_schema(), names.definitions()
        if all(self._is_there(session, names.exists(table)) for table in definitions):
            return
        if names.lock:
            session.execute(names.lock)
        if schema and not self._is_there(session, schema[0]):
            session.execute(schema[1])
        for table, statements in definitions.items():
            if not self._is_there(session, names.exists(table)):
                session.execute(*statements)

    @staticmethod
    def _is_there(session: Session, query: str) -> bool:
        return bool(query) and all(value for row in session.rows(query) for value in row.values())

    def close(self) -> None:
        """Close the connections."""
        self._is_open = False
        self._database.close()

    @property
    def traffic(self) -> Traffic:
        """Transactions so far."""
        return self._traffic

    def refusal(self, series: Series) -> str | None:
        """Why the series cannot be stored: no text in a database can contain the character NUL."""
        entry = series.metadata
        subject = [getattr(entry, name) for name in tables.METADATA[1:]]
        if _has_nul([entry.key, series.event_type, subject, entry.parameters]):
            return f"{series}: its metadata contain a NUL character, which no SQL database can store"
        return None

    @property
    def is_local(self) -> bool:
        """A database file is local."""
        return not self.url.startswith("postgresql:")

    def owners(self, context: Context) -> dict[str, str]:
        """The rows of the table of owners; for a sink that is not open, none if there is no such table, and it is not created."""
        if self._is_open:
            with self._database.reading() as session:
                return self._notes(session)
        file = self._file()
        self._connect(context, file if file is None or file.exists() else _NOWHERE)
        try:
            with self._database.reading() as session:
                self._make(session)
                return self._notes(session)
        finally:
            self._database.close()

    def _notes(self, session: Session) -> dict[str, str]:
        return {row["name"]: row["note"] for row in session.rows(self._tables.noted())}

    def set_owner(self, name: str, note: str | None) -> None:
        """Change a row of the table of owners."""
        self._database.deliver(lambda session: session.execute(*self._tables.noting(name, note)))

    def begin(self, task: Task) -> Load:
        """Begin the delivery of one task to the database."""
        return SQLLoad(self._database, self._tables, task, self._traffic)

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The tables' datapoints of `series` in `interval`, oldest first: numbers, or JSON text that is equal to the original.

        Raises SinkError if they cannot be read.
        """
        for kind in tables.NAMES:
            with self._database.reading() as session:
                for rows in session.batches(self._tables.selecting(kind, series, interval)):
                    if rows.num_rows:
                        yield _batch(series, kind, rows)


def _batch(series: Series, kind: Kind, rows: pa.RecordBatch) -> Batch:
    ts, val = rows.columns
    moment = ts if pa.types.is_integer(ts.type) else ts.cast(pa.timestamp("s", "UTC")).cast(pa.int64())
    return Batch.of(series, moment.cast(TS), val.cast(NUMBER) if kind == "number" else val)


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(each) for pair in value.items() for each in pair)
    return isinstance(value, list | tuple) and any(map(_has_nul, value))
