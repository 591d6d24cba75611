"""perfSONAR 5's archive: a source that reads its documents, and a sink that writes results of esmond as such documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esmond_etl import hookimpl

if TYPE_CHECKING:  # imports are late: the command line loads every plugin to look for commands
    from esmond_etl import Sink, Source


@hookimpl
def esmond_etl_sources() -> dict[str, type[Source]]:
    """The source `opensearch`."""
    from esmond_etl_opensearch.source import OpenSearchSource

    return {"opensearch": OpenSearchSource}


@hookimpl
def esmond_etl_sinks() -> dict[str, type[Sink]]:
    """The sink `opensearch`."""
    from esmond_etl_opensearch.sink import OpenSearchSink

    return {"opensearch": OpenSearchSink}
