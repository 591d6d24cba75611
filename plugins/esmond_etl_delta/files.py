"""Reading the files of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esmond_etl.tables.parts import groups_with

if TYPE_CHECKING:
    from deltalake import DeltaTable

#: Bytes of a file that is read in one piece at most.
LARGE: Final = 16 << 20


def whole(table: DeltaTable) -> pa.Table:
    """All rows of a table without partitions."""
    dataset = table.to_pyarrow_dataset()
    names = dataset.schema.names
    return pa.concat_tables([dataset.schema.empty_table(), *(read(fragment, names) for fragment in dataset.get_fragments())])


def read(fragment: Any, columns: Sequence[str], key: str | None = None) -> pa.Table:
    """Some columns of one file, of all metadata keys or of one.

    This does not use Arrow's scanner: if its threads still hold buffers of the library's file system when Python ends, the process
    aborts.
    """
    with fragment.filesystem.open_input_file(fragment.path) as opened:
        small = opened.size() <= LARGE
        file = pq.ParquetFile(pa.BufferReader(opened.read()) if small else opened, pre_buffer=False)
        if key is None:
            return file.read(list(columns), use_threads=False)
        rows = file.read_row_groups(groups_with(file, key), list(columns), use_threads=False)
        return rows.filter(pc.equal(rows.column("metadata_key"), key))
