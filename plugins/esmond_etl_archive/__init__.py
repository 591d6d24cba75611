"""A small esmond archive in one process on SQLite: for the demo, for tests, and for sites whose archive is gone.

import esmond_etl_archive

with esmond_etl_archive.serve("archive.db", token="secret") as running:
    print(running.archive_url)
"""

from typing import TYPE_CHECKING, Any

from esmond_etl import hookimpl

if TYPE_CHECKING:
    import click

    from esmond_etl_archive.loading import Loaded, load, records
    from esmond_etl_archive.refusal import Conflict, Refused
    from esmond_etl_archive.samples import sample
    from esmond_etl_archive.server import Running, serve
    from esmond_etl_archive.store import Archive

_HOME = {
    "Archive": "store",
    "Conflict": "refusal",
    "Loaded": "loading",
    "Refused": "refusal",
    "Running": "server",
    "load": "loading",
    "records": "loading",
    "sample": "samples",
    "serve": "server",
}

__all__ = ["Archive", "Conflict", "Loaded", "Refused", "Running", "load", "records", "sample", "serve"]


@hookimpl
def esmond_etl_commands() -> "dict[str, click.Command]":
    """The commands `archive` and `demo`."""
    from esmond_etl_archive.commands import archive  # late import: click is loaded when a command is looked up
    from esmond_etl_archive.demo import demo

    return {"archive": archive, "demo": demo}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
