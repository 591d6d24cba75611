"""The row groups of Parquet files."""

from __future__ import annotations

import pyarrow.parquet as pq


def groups_with(file: pq.ParquetFile, key: str) -> list[int]:
    """The numbers of the row groups that may hold rows of a metadata key, by their statistics."""
    return [number for number in range(file.num_row_groups) if _may_hold(file.metadata.row_group(number), key)]


def _may_hold(group: pq.RowGroupMetaData, key: str) -> bool:
    for column in map(group.column, range(group.num_columns)):
        if column.path_in_schema == "metadata_key" and column.statistics is not None and column.statistics.has_min_max:
            return bool(column.statistics.min <= key <= column.statistics.max)
    return True
