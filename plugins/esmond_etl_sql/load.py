"""The delivery of one task to a database."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import pyarrow as pa

from esmond_etl import Batch, Load, Receipt, Reject, Series, Task, Traffic
from esmond_etl_sql import tables, values
from esmond_etl_sql.database import Database, Session, Unfit
from esmond_etl_sql.stage import Stage
from esmond_etl_sql.tables import Tables
from esmond_etl_sql.values import Kind


@dataclass
class Begun:
    """What was written of a series."""

    number: int  #: number of the series in its rows
    rows: int = 0
    first: int = 2**63 - 1  #: Unix time of its first datapoint
    last: int = -(2**63)
    ended: bool = False


class SQLLoad(Load):
    """Keeps the rows of a task, and puts them into the database in one transaction at the commit.

    The rows go into temporary tables; then the rows of the ended series replace what these series had in the task's interval.
    Before the commit nothing is sent to the database.
    """

    def __init__(self, database: Database, names: Tables, task: Task, traffic: Traffic) -> None:
        self._database, self._tables, self._task, self._traffic = database, names, task, traffic
        self._lock = threading.Lock()
        self._stages: dict[Kind, Stage] = {kind: Stage(names.rows(kind)) for kind in tables.NAMES}
        self._begun: dict[Series, Begun] = {}
        self._rejects: list[Reject] = []

    def write(self, batch: Batch) -> None:
        """Keep the rows of `batch`."""
        rejects: list[Reject] = []
        if not self._tables.dialect.keeps_nan:
            batch, rejects = values.without_nan(batch)
        val, seconds = values.column(batch.val), batch.ts.cast(pa.int64())
        with self._lock:
            self._rejects += rejects
            begun = self._of(batch.series)
            if len(batch):
                number = values.repeated(begun.number, len(batch))
                self._stages[values.kind_of(batch.val.type)].add(number, batch.ts.cast(pa.int64()).cast(self._tables.ts), val)
                begun.rows += len(batch)
                begun.first, begun.last = min(begun.first, seconds[0].as_py()), max(begun.last, seconds[-1].as_py())

    def end(self, series: Series) -> None:
        """Note that `series` is complete."""
        with self._lock:
            self._of(series).ended = True

    def _of(self, series: Series) -> Begun:
        return self._begun.setdefault(series, Begun(len(self._begun)))

    def commit(self) -> Receipt:
        """Replace the rows of the ended series; values that the database refuses as JSON are rejected."""
        ended = {series: begun for series, begun in self._begun.items() if begun.ended}
        rejects = [each for each in self._rejects if each.series in ended]
        if ended:
            try:
                self._database.deliver(lambda session: self._deliver(session, ended))
            except Unfit:
                if not self._tables.dialect.fault:
                    raise
                rejects += self._database.deliver(lambda session: self._deliver(session, ended, sort_out=True))
            self._traffic.count()
        self._close()
        rows = sum(begun.rows for begun in ended.values())
        refused_by_database = len(rejects) - sum(each.series in ended for each in self._rejects)
        return Receipt(written=rows - refused_by_database, rejected=tuple(rejects))

    def _deliver(self, session: Session, ended: dict[Series, Begun], sort_out: bool = False) -> list[Reject]:
        """Do all steps of the transaction; returns the rows that were sorted out, if that was asked for."""
        names = self._tables
        session.execute(*names.staging())
        for kind, stage in self._stages.items():
            if stage.rows:
                session.ingest(tables.STAGED.format(kind), stage.reader())
        for table, rows in ((tables.STAGED_SERIES, _series(ended)), (tables.STAGED_METADATA, self._metadata(ended))):
            session.ingest(table, pa.RecordBatchReader.from_batches(rows.schema, [rows]))
        faults = self._sorted_out(session, ended) if sort_out else []
        session.execute(*names.statistics())
        if names.lock:
            session.execute(names.lock)
        session.execute(*names.replacing(self._task.interval), *names.dropping())
        return faults

    def _sorted_out(self, session: Session, ended: dict[Series, Begun]) -> list[Reject]:
        session.execute(*self._tables.finding_faults())
        by_number = {begun.number: series for series, begun in ended.items()}
        query = f"select n, cast(extract(epoch from ts) as bigint) as ts, val, reason from {tables.FAULTS}"
        return [
            Reject(by_number[row["n"]], row["ts"], row["val"], f"{self._tables.dialect.name}: {row['reason']}")
            for row in session.rows(query)
            if row["n"] in by_number
        ]

    def _metadata(self, ended: dict[Series, Begun]) -> pa.RecordBatch:
        """One row for each metadata key with datapoints."""
        spans: dict[str, tuple[Series, int, int]] = {}
        for series, begun in sorted(ended.items(), key=lambda each: str(each[0])):
            if begun.rows:
                _, first, last = spans.get(series.metadata.key, (series, begun.first, begun.last))
                spans[series.metadata.key] = (series, min(first, begun.first), max(last, begun.last))
        found = [series.metadata for series, _, _ in spans.values()]
        columns = [pa.array([each.key for each in found], pa.string())]
        columns += [pa.array([getattr(each, name) for each in found], pa.string()) for name in tables.METADATA[1:]]
        columns.append(pa.array([msgspec.json.encode(dict(each.parameters)).decode() for each in found], pa.string()))
        for place in (1, 2):
            columns.append(pa.array([span[place] for span in spans.values()], pa.int64()).cast(self._tables.ts))
        return pa.RecordBatch.from_arrays(columns, [*tables.METADATA, "parameters", "first_seen", "last_seen"])

    def rollback(self) -> None:
        """Forget the rows."""
        self._close()

    def _close(self) -> None:
        for stage in self._stages.values():
            stage.close()


def _series(ended: dict[Series, Begun]) -> pa.RecordBatch:
    """One row for each series: its number, and its columns."""
    rows: Iterable[tuple[str | None, ...]] = [
        (each.metadata.key, each.event_type, str(each.summary), each.metadata.source, each.metadata.destination) for each in ended
    ]
    numbers = pa.array([begun.number for begun in ended.values()], pa.int32())
    texts = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays([numbers, *texts], ["n", *tables.SERIES])
