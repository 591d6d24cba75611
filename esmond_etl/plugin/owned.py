"""Sinks whose targets note which pipelines deliver to them."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field

from esmond_etl.plugin.sink import Sink
from esmond_etl.plugin.stage import Context


class OwnedSink(Sink):
    """A sink in whose target two pipelines would overwrite each other's datapoints: each leaves a note there that it delivers to it."""

    shared: bool = Field(
        False, description="whether other pipelines deliver other series to the same place; none may deliver the same"
    )

    @property
    def is_local(self) -> bool:
        """Whether the target is on a disk of this machine: then `check` reads its notes without a connection."""
        return False

    @abstractmethod
    def owners(self, context: Context) -> dict[str, str]:
        """The notes (JSON text) in the target, by name; asked of an open sink, and by `check --connect` of one that is not.

        Writes nothing. Raises SinkError if they cannot be read.
        """

    @abstractmethod
    def set_owner(self, name: str, note: str | None) -> None:
        """Leave, replace or, with None, remove a note; durable when it returns. The sink is open."""
