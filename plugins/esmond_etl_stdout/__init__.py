"""The stdout sink: datapoints as lines for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esmond_etl import hookimpl

if TYPE_CHECKING:  # imports are late: the command line loads every plugin to look for commands
    from esmond_etl import Sink


@hookimpl
def esmond_etl_sinks() -> dict[str, type[Sink]]:
    """The sink `stdout`."""
    from esmond_etl_stdout.sink import StdoutSink

    return {"stdout": StdoutSink}
