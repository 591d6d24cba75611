"""The differences between the databases: drivers, types, and how two deliveries exclude each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Dialect:
    """One kind of database."""

    name: str  #: its name for people
    driver: str  #: the module of its ADBC driver
    package: str  #: the package that has it
    moment: str  #: type of a point in time
    number: str
    json: str
    epoch: str  #: SQL of the point in time that is {} seconds of Unix time
    version: str  #: asks for the server's version
    least: str = "least"
    greatest: str = "greatest"
    keeps_nan: bool = True
    has_schemas: bool = True
    first: tuple[str, ...] = ()  #: for each connection; {wait} is the time it waits for others, s
    begin: tuple[str, ...] = ()  #: for each transaction
    lock: str = ""  #: makes a second delivery wait for the first; {} is a number for the tables
    statistics: str = ""  #: makes the database plan with a new table {}
    exists: str = ""  #: asks whether there is a table {}, if `create table if not exists` needs rights that a user may lack
    schema_exists: str = ""
    indexes: tuple[str, ...] = ()  #: the text after `create index NAME on TABLE`
    fault: str = ""  #: makes a function of the session that tells why the database refuses a text as JSON, or null


POSTGRESQL: Final = Dialect(
    name="PostgreSQL",
    driver="adbc_driver_postgresql",
    package="'esmond-etl[sql]'",
    moment="timestamptz",
    number="double precision",
    json="jsonb",
    epoch="to_timestamp({})",
    version="select current_setting('server_version') as version",
    begin=(
        "set local standard_conforming_strings = on",
        "set local lock_timeout = '{wait}s'",
        "set local idle_in_transaction_session_timeout = '5min'",  # a machine that is gone must not hold locks for long
        "set local tcp_keepalives_idle = 60",
    ),
    lock="do $$ begin perform pg_advisory_xact_lock({}); end $$",
    statistics="analyze {}",
    exists="select to_regclass('{}') is not null",
    schema_exists="select exists (select from pg_namespace where nspname = '{}')",
    indexes=("(event_type, summary, metadata_key, ts)", "using brin (ts)"),
    fault="""
        create function pg_temp.esmond_etl_fault(text text) returns text language plpgsql as
        $$ begin perform text::jsonb; return null; exception when others then return sqlerrm; end $$
    """,
)

SQLITE: Final = Dialect(
    name="SQLite",
    driver="adbc_driver_sqlite",
    package="'esmond-etl[sql]'",
    moment="integer",
    number="real",
    json="text",
    epoch="{}",
    version="select sqlite_version() as version",
    least="min",
    greatest="max",
    keeps_nan=False,
    has_schemas=False,
    first=("pragma busy_timeout = {wait}000",),
    indexes=("(event_type, summary, metadata_key, ts)",),
)

DUCKDB: Final = Dialect(
    name="DuckDB",
    driver="adbc_driver_duckdb",
    package="duckdb",
    moment="timestamptz",
    number="double",
    json="json",
    epoch="to_timestamp({})",
    version="select version() as version",
)

#: The scheme of a URL -> its database.
SCHEMES: Final = {"postgresql": POSTGRESQL, "postgres": POSTGRESQL, "sqlite": SQLITE, "duckdb": DUCKDB}
