"""The Delta sink and source: datapoints as Delta tables, on a disk or in an object store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esmond_etl import hookimpl

if TYPE_CHECKING:  # imports are late: the command line loads every plugin to look for commands
    from esmond_etl import Sink, Source


@hookimpl
def esmond_etl_sources() -> dict[str, type[Source]]:
    """The source `delta`."""
    from esmond_etl_delta.source import DeltaSource

    return {"delta": DeltaSource}


@hookimpl
def esmond_etl_sinks() -> dict[str, type[Sink]]:
    """The sink `delta`."""
    from esmond_etl_delta.sink import DeltaSink

    return {"delta": DeltaSink}
