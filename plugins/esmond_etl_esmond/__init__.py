"""The esmond source, and the esmond sink: one archive mirrored into another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esmond_etl import hookimpl

if TYPE_CHECKING:  # imports are late: the command line loads every plugin to look for commands
    from esmond_etl import Sink, Source


@hookimpl
def esmond_etl_sources() -> dict[str, type[Source]]:
    """The source `esmond`."""
    from esmond_etl_esmond.source import EsmondSource

    return {"esmond": EsmondSource}


@hookimpl
def esmond_etl_sinks() -> dict[str, type[Sink]]:
    """The sink `esmond`."""
    from esmond_etl_esmond.sink import EsmondSink

    return {"esmond": EsmondSink}
