"""What the databases do not have in common: their drivers, their types, and how they keep two deliveries apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Dialect:
    """One kind of database."""

    name: str  #: as people write it
    driver: str  #: the module of its ADBC driver
    package: str  #: what has to be installed to have that
    moment: str  #: type of a point in time
    number: str
    json: str
    epoch: str  #: SQL of the point in time that is {} seconds of Unix time
    version: str  #: asks for the server's version
    least: str = "least"
    greatest: str = "greatest"
    keeps_nan: bool = True
    has_schemas: bool = True
    first: tuple[str, ...] = ()  #: of each connection; {wait} is for how many seconds it waits for others
    begin: tuple[str, ...] = ()  #: of each transaction
    lock: str = ""  #: at which the second of two deliveries waits for the first; {} is a number for the tables
    statistics: str = ""  #: what lets the database plan with a new table {}
    exists: str = ""  #: asks whether there is a table {}, where making one that is there wants rights that a user may not have
    schema_exists: str = ""
    indexes: tuple[str, ...] = ()  #: what stands after `create index NAME on TABLE`
    fault: str = ""  #: makes a function of a session that tells why a text is no JSON of this database's, or null


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
        "set local idle_in_transaction_session_timeout = '5min'",  # of a machine that is gone nothing stays locked for long
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

#: What stands before the colon of a URL -> the database that it leads to.
SCHEMES: Final = {"postgresql": POSTGRESQL, "postgres": POSTGRESQL, "sqlite": SQLITE, "duckdb": DUCKDB}
