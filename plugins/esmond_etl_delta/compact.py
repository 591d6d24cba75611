"""Merging the small files of a day, and removing files of old versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from esmond_etl.tables import catalog
from esmond_etl_delta.names import METADATA, OWNERS, table_of
from esmond_etl_delta.tables import Tables, entries

if TYPE_CHECKING:
    from deltalake import DeltaTable

#: How often a table is tried again because another process changed it meanwhile.
TRIES: Final = 5


class Compacted(NamedTuple):
    """The result for one table."""

    before: int  #: files
    after: int
    removed: int  #: files that no version of the last week has


def compact(tables: Tables) -> Iterator[Compacted]:
    """Compact each table, and return the results; raises DeltaError.

    Versions of the last week stay readable, for present readers and for `as_of`.
    """
    for name in names(tables):
        table = tables.open(name)
        if table is None:
            continue
        done = _compacted(table)
        removed = table.vacuum(dry_run=False, full=True)  # also files that a killed process left
        yield Compacted(done["numFilesRemoved"], done["numFilesAdded"], len(removed))


def _compacted(table: DeltaTable) -> dict[str, Any]:
    """What compacting a table did; nothing if other processes keep changing the files that it merges: the next time will do."""
    from deltalake import WriterProperties
    from deltalake.exceptions import CommitFailedError

    for _ in range(TRIES):
        try:
            return table.optimize.compact(writer_properties=WriterProperties(compression="ZSTD", compression_level=1))
        except CommitFailedError:
            table.update_incremental()
    return {"numFilesRemoved": 0, "numFilesAdded": 0}


def names(tables: Tables) -> list[str]:
    """The names of all tables, from the table of metadata."""
    described = catalog.entries(entries(tables.open(METADATA)))
    found = {table_of(series.event_type, series.summary) for entry in described for series in entry.series()}
    return [*sorted(found), METADATA, OWNERS]
