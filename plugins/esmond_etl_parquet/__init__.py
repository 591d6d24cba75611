"""The Parquet sink and source: datapoints as files that any analytics tool reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esmond_etl import hookimpl

if TYPE_CHECKING:  # imports are late: the command line loads every plugin to look for commands
    from esmond_etl import Sink, Source


@hookimpl
def esmond_etl_sources() -> dict[str, type[Source]]:
    """The source `parquet`."""
    from esmond_etl_parquet.source import ParquetSource

    return {"parquet": ParquetSource}


@hookimpl
def esmond_etl_sinks() -> dict[str, type[Sink]]:
    """The sink `parquet`."""
    from esmond_etl_parquet.sink import ParquetSink

    return {"parquet": ParquetSink}
