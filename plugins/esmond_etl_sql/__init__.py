"""The SQL sink: datapoints as rows in PostgreSQL, SQLite or DuckDB, over Arrow and the database's own bulk load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esmond_etl import hookimpl

if TYPE_CHECKING:  # imports are late: the command line loads every plugin to look for commands
    from esmond_etl import Sink


@hookimpl
def esmond_etl_sinks() -> dict[str, type[Sink]]:
    """The sink `sql`."""
    from esmond_etl_sql.sink import SQLSink

    return {"sql": SQLSink}
