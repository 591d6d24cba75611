"""Many small files of a day merged into few, and files of old versions removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from esmond_etl.tables import catalog
from esmond_etl_delta.tables import METADATA, OWNERS, Tables, entries, table_of


class Compacted(NamedTuple):
    """What became of one table."""

    before: int  #: files
    after: int
    removed: int  #: files that only versions older than a week had


def compact(tables: Tables) -> Iterator[Compacted]:
    """What became of each table; raises DeltaError.

    Versions of the last week stay as they are, so that whoever reads one goes on, and `as_of` can name it.
    """
    from deltalake import WriterProperties

    for name in names(tables):
        table = tables.open(name)
        if table is None:
            continue
        done = table.optimize.compact(writer_properties=WriterProperties(compression="ZSTD", compression_level=1))
        removed = table.vacuum(dry_run=False)
        yield Compacted(done["numFilesRemoved"], done["numFilesAdded"], len(removed))


def names(tables: Tables) -> list[str]:
    """All tables, by what the table of metadata says."""
    described = catalog.entries(entries(tables.open(METADATA)))
    found = {table_of(series.event_type, series.summary) for entry in described for series in entry.series()}
    return [*sorted(found), METADATA, OWNERS]
