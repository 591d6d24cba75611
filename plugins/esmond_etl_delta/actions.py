"""The actions of a commit, and the files that a table has."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esmond_etl import Interval, Summary
from esmond_etl.tables.load import DAY
from esmond_etl.tables.parts import Written
from esmond_etl_delta.names import MOMENT, partition_of

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

#: Columns whose smallest and largest values a commit tells, so that readers skip files.
_TOLD: Final = ("ts", "metadata_key")


def folder(summary: Summary, day: int) -> tuple[str, dict[str, str | None]]:
    """The folder of a partition in its table, and its values."""
    values: dict[str, str | None] = {"summary": partition_of(summary), "date": str(datetime.fromtimestamp(day * DAY, UTC).date())}
    return "/".join(f"{name}={value}" for name, value in values.items()), values


def added(table: str, written: Written, values: Mapping[str, str | None]) -> AddAction:
    """The action that adds a file to a table; `values`: those of its partition."""
    from deltalake.transaction import AddAction

    path = written.path.removeprefix(f"{table}/")
    stats = msgspec.json.encode(_stats(written.metadata)).decode()
    return AddAction(path, written.size, values, time.time_ns() // 1_000_000, True, stats)


def _stats(metadata: pq.FileMetaData) -> dict[str, Any]:
    """As https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics says."""
    told: dict[str, list[Any]] = {name: [] for name in _TOLD}
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema in told and column.statistics is not None and column.statistics.has_min_max:
                told[column.path_in_schema] += [column.statistics.min, column.statistics.max]
    complete = {name: values for name, values in told.items() if len(values) == 2 * metadata.num_row_groups > 0}
    return {
        "numRecords": metadata.num_rows,
        "minValues": {name: _said(min(values)) for name, values in complete.items()},
        "maxValues": {name: _said(max(values)) for name, values in complete.items()},
        "nullCount": dict.fromkeys(complete, 0),
    }


def _said(value: Any) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


class Live:
    """The files that a table has at one version."""

    def __init__(self, table: DeltaTable) -> None:
        self._rows = pa.table(table.get_add_actions(flatten=True))

    def paths(self) -> list[str]:
        """All of them."""
        found: list[str] = self._rows.column("path").to_pylist()
        return found

    def has(self, path: str) -> bool:
        """Whether the table has that file."""
        return bool(pc.any(pc.equal(self._rows.column("path"), path)).as_py())

    def overlapping(self, summary: Summary, interval: Interval) -> list[str]:
        """The files that may have rows of a summary in `interval`."""
        first, last = (datetime.fromtimestamp(moment, UTC) for moment in (interval.start, interval.end - 1))
        rows = self._rows
        if not len(rows):
            return []
        mask = pc.equal(rows.column("partition.summary"), partition_of(summary))
        mask = pc.and_(mask, pc.greater_equal(rows.column("partition.date"), pa.scalar(first.date())))
        mask = pc.and_(mask, pc.less_equal(rows.column("partition.date"), pa.scalar(last.date())))
        if "min.ts" in rows.column_names:  # files without statistics have nulls there
            before = pc.less_equal(rows.column("min.ts"), pa.scalar(last, MOMENT))
            after = pc.greater_equal(rows.column("max.ts"), pa.scalar(first, MOMENT))
            mask = pc.and_(mask, pc.fill_null(pc.and_(before, after), True))
        found: list[str] = rows.filter(mask).column("path").to_pylist()
        return found

    def removed(self, path: str) -> RemoveAction:
        """The action that removes a file from the table."""
        from deltalake.transaction import RemoveAction

        return RemoveAction(path, True, time.time_ns() // 1_000_000, self._row(path)["size_bytes"], self.values(path))

    def values(self, path: str) -> dict[str, str | None]:
        """The values of the partition that a file is in."""
        row = self._row(path)
        return {name.removeprefix("partition."): str(value) for name, value in row.items() if name.startswith("partition.")}

    def _row(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._rows.filter(pc.equal(self._rows.column("path"), path)).to_pylist()[0]
        return found
