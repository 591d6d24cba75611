"""The ledger: delivered intervals of each series, rejected datapoints, last errors; one SQLite file per pipeline."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from esmond_etl.engine import tables
from esmond_etl.engine.files import database, database_to_read, remedy
from esmond_etl.model.digest import Window
from esmond_etl.model.errors import ConfigError, EsmondEtlError
from esmond_etl.model.interval import Interval, IntervalSet
from esmond_etl.model.series import Metadata, SeriesId
from esmond_etl.plugin.sink import Reject

_VERSION = "3"

#: Older versions whose tables are a subset of ours.
_OLDER = frozenset({"1", "2"})


class Failure(NamedTuple):
    """Why a series is not done."""

    series: SeriesId
    interval: Interval
    message: str
    at: int  #: Unix time


class Rejected(NamedTuple):
    """A datapoint that a sink rejected."""

    sink: str
    series: SeriesId
    ts: int
    val: str  #: JSON text
    reason: str
    at: int  #: Unix time


class Totals(NamedTuple):
    """How much of a series was delivered."""

    first: int  #: Unix time of the first datapoint; if an older version delivered it, of the beginning of its window
    last: int  #: and of the last one
    number: int  #: of datapoints


class Ledger:
    """The record of what a pipeline has delivered; every change is durable when the method returns. Thread-safe."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        """Open the ledger in the file `path`, and create it if it is missing; raises ConfigError if that fails.

        With `read_only`, the file must exist, and is not changed.
        """
        self.path = path
        self._lock = threading.RLock()
        self._others: list[Ledger] = []
        try:
            self._db = database_to_read(path, _VERSION) if read_only else database(path)
            tables.create(self._db)
            self._check()
            version = self.about("version") or _VERSION
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"{path}: cannot be used as a ledger: {error}{remedy(error)}") from None
        if version not in (_VERSION, *_OLDER):
            raise ConfigError(f"{path}: this ledger was written by another version of esmond-etl ({version})")
        if self.about("version") != _VERSION:
            self.set_about("version", _VERSION)

    @classmethod
    def to_read(cls, path: Path) -> Ledger:
        """The ledger in the file `path`, which is not changed; an empty one in memory if there is no such file: none is created."""
        return cls(path, read_only=True) if path.exists() else cls(Path(":memory:"))

    @classmethod
    def of_all(cls, paths: Sequence[Path]) -> Ledger:
        """The ledgers of all shards of a pipeline merged in memory; if there is only one, that ledger itself."""
        if len(paths) == 1:
            return cls(paths[0])
        together = cls(Path(":memory:"))
        for path in paths:
            together._add(path)
        return together

    def _add(self, path: Path) -> None:
        """Merge another ledger into this one."""
        with closing(Ledger.to_read(path)) as other:
            for series, intervals in other.all_done():
                for interval in intervals:
                    tables.merge(self._db, series, interval)
                for interval in other.proven(series):
                    tables.prove(self._db, series, interval, other.digests(series, interval))
            for table in ("former", "partly", "metadata", "failed", "rejected", "memory", "run"):
                rows = other._rows(f"select * from {table}")
                for row in rows:
                    self._db.execute(f"insert or replace into {table} values ({', '.join('?' * len(row))})", row)
            for name, value in other._rows("select name, value from about where name <> 'version'"):
                self._db.execute("insert or replace into about values (?, ?)", (name, value))

    def _check(self) -> None:
        """Raises sqlite3.DatabaseError if the file is damaged: its content cannot be trusted."""
        found = self._db.execute("pragma quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"the file is damaged ({' '.join(found.split())})")

    def close(self) -> None:
        """Close the file, and those of other shards."""
        for ledger in self._others:
            ledger.close()
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            self._db.execute("begin immediate")
            try:
                yield self._db
                self._db.execute("commit")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._db.execute("rollback")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """An error of SQLite as one sentence that names the file and says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise EsmondEtlError(f"{self.path}: the ledger cannot be read or written: {error}{remedy(error)}") from None

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, self._explained():
            return self._db.execute(query, values).fetchall()

    def about(self, name: str) -> str | None:
        """A fact about the pipeline that an earlier run noted."""
        rows = self._rows("select value from about where name = ?", name)
        return rows[0][0] if rows else None

    def set_about(self, name: str, value: str) -> None:
        """Note a fact about the pipeline."""
        if self.about(name) != value:
            with self._transaction() as db:
                db.execute("insert or replace into about values (?, ?)", (name, value))

    def last_read(self) -> int | None:
        """When the last complete run began (Unix time); None if there was none.

        For a shard that has not run yet it is that of the other shards: series come to it from them.
        """
        own = self.about("read")
        known = [own] if own else [read for other in self._others if (read := other.about("read"))]
        return min(map(int, known), default=None)

    def note_read(self, now: int) -> None:
        """Note that the run that began at `now` was complete."""
        self.set_about("read", str(now))

    def beside(self, others: Iterable[Path]) -> None:
        """Count what `others` (the ledgers of other shards) say is done as done."""
        self._others = [Ledger(path) for path in others if path.resolve() != self.path.resolve()]

    def done(self, metadata_key: str) -> dict[tuple[str, str], IntervalSet]:
        """The intervals that every sink has taken, of the series of one metadata, by (event type, summary)."""
        found = self._own_done(metadata_key)
        for other in self._others:
            for series, intervals in other.done(metadata_key).items():
                found[series] = found.get(series, IntervalSet()).union(intervals)
        return found

    def _own_done(self, metadata_key: str) -> dict[tuple[str, str], IntervalSet]:
        found: dict[tuple[str, str], list[tuple[int, int]]] = {}
        query = "select event_type, summary, start, end from done where metadata_key = ? order by event_type, summary, start"
        for event_type, summary, start, end in self._rows(query, metadata_key):
            found.setdefault((event_type, summary), []).append((start, end))
        return {series: IntervalSet.of(intervals) for series, intervals in found.items()}

    def partly(self, metadata_key: str) -> dict[tuple[str, str], dict[str, IntervalSet]]:
        """The intervals that some sinks have taken but not all, of the series of one metadata, by (event type, summary), by label."""
        query = "select event_type, summary, sink, start, end from partly where metadata_key = ?"
        rows: list[tuple[str, str, str, Iterable[tuple[int, int]]]] = [
            (*row[:3], [row[3:]]) for row in self._rows(query, metadata_key)
        ]
        for other in self._others:
            rows += [
                (*series, sink, taken) for series, sinks in other.partly(metadata_key).items() for sink, taken in sinks.items()
            ]
        found: dict[tuple[str, str], dict[str, IntervalSet]] = {}
        for event_type, summary, sink, intervals in rows:
            of_series = found.setdefault((event_type, summary), {})
            of_series[sink] = of_series.get(sink, IntervalSet()).union(intervals)
        return found

    def all_partly(self) -> Iterator[tuple[SeriesId, dict[str, IntervalSet]]]:
        """Every series that some sinks have more of than others, with the intervals of each sink, by label."""
        for (key,) in self._rows("select distinct metadata_key from partly order by metadata_key"):
            for (event_type, summary), sinks in self.partly(key).items():
                yield SeriesId(key, event_type, summary), sinks

    def record(
        self,
        series: Iterable[SeriesId],
        interval: Interval,
        metadata: Iterable[Metadata] = (),
        rejected: Mapping[str, Iterable[Reject]] | None = None,
        failures: Mapping[SeriesId, str] | None = None,
        digests: Mapping[SeriesId, Sequence[Window]] | None = None,
        sinks: Sequence[str] = (),
        partly: Mapping[str, Iterable[SeriesId]] | None = None,
    ) -> None:
        """Note in one transaction that every sink has taken `series` in `interval`, what was rejected, and what failed.

        `digests` are those of the windows that the sinks were given; without them, `series` have no datapoints there. `sinks` are
        those that lacked it, if the others had taken it before; `partly` says what single sinks alone have taken.
        """
        with self._transaction() as db:
            filled = [table for table in ("former", "partly") if db.execute(f"select 1 from {table} limit 1").fetchone()]
            tables.note_done(db, list(series), interval, digests or {}, sinks, filled)
            for each in failures or {}:  # the time may have been read again for late data
                tables.cut(db, each, interval)
                tables.cut_partly(db, each, interval, sinks)
            for sink, taken in (partly or {}).items():
                tables.note_partly(db, list(taken), interval, sink)
            tables.insert_metadata(db, metadata)
            tables.insert_rejected(db, rejected or {}, _now())
            tables.insert_failures(db, failures or {}, interval, _now())

    def note_failures(self, failures: Mapping[SeriesId, str], interval: Interval) -> None:
        """Note why series could not be tried in `interval`; what is done of them stays done."""
        with self._transaction() as db:
            tables.insert_failures(db, failures, interval, _now())

    def redefine(self, delivery: str, keep: bool) -> None:
        """Note the digest `delivery` of what the pipeline delivers.

        If it has changed, everything done so far belongs to a former definition: with `keep` it counts as done, otherwise it is to
        be delivered again.
        """
        with self._transaction() as db:
            known = db.execute("select value from about where name = 'delivery'").fetchone()
            for *series, start, end in db.execute("select * from done").fetchall() if known != (delivery,) else ():
                tables.merge(db, SeriesId(*series), Interval(start, end), "former")
            for *series, start, end in db.execute("select * from former").fetchall():
                (tables.merge if keep else tables.cut)(db, SeriesId(*series), Interval(start, end), "done")
            if not keep:
                for _, *series, start, end in db.execute("select * from partly").fetchall():
                    tables.merge(db, SeriesId(*series), Interval(start, end), "former")
                db.execute("delete from partly")
                db.execute("delete from failed")
            facts = (("delivery", delivery), ("former", "keep" if keep else "replace"))
            db.executemany("insert or replace into about values (?, ?)", facts)

    @property
    def replaces(self) -> bool:
        """Whether something that a former definition delivered is still to be delivered again."""
        return self.about("former") == "replace" and bool(self._rows("select 1 from former limit 1"))

    def former(self) -> dict[SeriesId, IntervalSet]:
        """The intervals that a former definition delivered and the present one has not delivered again."""
        found: dict[SeriesId, list[tuple[int, int]]] = {}
        for *series, start, end in self._rows("select * from former"):
            found.setdefault(SeriesId(*series), []).append((start, end))
        return {series: IntervalSet.of(intervals) for series, intervals in found.items()}

    def forget(self, interval: Interval | None = None, series: Iterable[SeriesId] | None = None) -> int:
        """Mark `interval` (default: all time) of `series` (default: all) as not done; returns how many series that changed."""
        changed = 0
        with self._transaction() as db:
            targets = list(series) if series is not None else tables.all_series(db)
            for each in targets:
                changed += bool(tables.cut(db, SeriesId(*each), interval) + tables.cut_partly(db, SeriesId(*each), interval))
            if interval is None and series is None:
                db.execute("delete from failed")
        return changed

    def all_done(self) -> Iterator[tuple[SeriesId, IntervalSet]]:
        """Every series that the ledger knows, with its delivered intervals."""
        for key, *_ in self._rows("select distinct metadata_key from done order by metadata_key"):
            for (event_type, summary), intervals in self.done(key).items():
                yield SeriesId(key, event_type, summary), intervals

    def proven(self, series: SeriesId) -> IntervalSet:
        """The time for which the digests cover everything that the sinks were given of `series`."""
        return IntervalSet.of(self._rows(f"select start, end from proven where {tables.SERIES}", *series))

    def digests(self, series: SeriesId, interval: Interval) -> list[Window]:
        """The digests of the windows of `series` that begin in `interval` and have datapoints, oldest first."""
        query = (
            f"select start, number, digest, first, last from digest where series = (select id from series where {tables.SERIES})"
            " and start >= ? and start < ? order by start"
        )
        return [Window(*row) for row in self._rows(query, *series, *interval)]

    def newest(self, series: SeriesId) -> int | None:
        """When the last window of `series` with datapoints begins (Unix time); None if no datapoints of it are known."""
        query = f"select max(start) from digest where series = (select id from series where {tables.SERIES})"
        known = [self._rows(query, *series)[0][0], *(other.newest(series) for other in self._others)]
        return max((each for each in known if each is not None), default=None)

    def totals(self) -> dict[SeriesId, Totals]:
        """The number of delivered datapoints of each series, the first and the last; only windows with digests count."""
        query = (
            "select metadata_key, event_type, summary, min(coalesce(first, start)), max(coalesce(last, start)), sum(number)"
            " from digest join series on series.id = digest.series group by digest.series"
        )
        return {SeriesId(*row[:3]): Totals(*row[3:]) for row in self._rows(query)}

    def failures(self) -> dict[SeriesId, Failure]:
        """The last error of each series that is not done."""
        rows = self._rows("select metadata_key, event_type, summary, start, end, message, at from failed")
        return {SeriesId(*row[:3]): Failure(SeriesId(*row[:3]), Interval(*row[3:5]), *row[5:]) for row in rows}

    def subjects(self) -> dict[str, tuple[str | None, str | None, str | None]]:
        """Metadata key -> (source, destination, tool name), for people."""
        return {key: (source, destination, tool) for key, source, destination, tool in self._rows("select * from metadata")}

    def rejected(self, sink: str | None = None) -> Iterator[Rejected]:
        """The rejected datapoints, of one sink or of all."""
        query = "select sink, metadata_key, event_type, summary, ts, val, reason, at from rejected where ? in (sink, '')"
        for row in self._rows(query, sink or ""):
            yield Rejected(row[0], SeriesId(*row[1:4]), *row[4:])

    def count_rejected(self) -> int:
        """How many rejected datapoints wait to be sent again or dropped."""
        return int(self._rows("select count(*) from rejected")[0][0])

    def drop_rejected(self) -> int:
        """Forget all rejected datapoints; returns how many."""
        with self._transaction() as db:
            return db.execute("delete from rejected").rowcount

    def add_run(self, started: int, result: Mapping[str, Any]) -> None:
        """Note how a run ended; the last hundred are kept."""
        with self._transaction() as db:
            db.execute("insert into run values (?, ?, ?)", (started, _now(), json.dumps(result)))
            db.execute("delete from run where rowid <= (select max(rowid) from run) - 100")

    def runs(self) -> list[dict[str, Any]]:
        """How the last runs ended, oldest first, with `started` and `ended` (Unix time)."""
        rows = self._rows("select started, ended, result from run order by started, rowid")
        return [{"started": started, "ended": ended, **json.loads(result)} for started, ended, result in rows]

    def last_run(self) -> dict[str, Any] | None:
        """How the last run ended; None if there was none."""
        return self.runs()[-1] if self._rows("select 1 from run limit 1") else None

    def memory(self, sink: str) -> MutableMapping[str, str]:
        """The notes of one sink."""
        return _Memory(self, sink)


class _Memory(MutableMapping[str, str]):
    """One sink's notes: a mapping whose changes are durable at once."""

    def __init__(self, ledger: Ledger, sink: str) -> None:
        self._ledger, self._sink = ledger, sink

    def __getitem__(self, name: str) -> str:
        rows = self._ledger._rows("select value from memory where sink = ? and name = ?", self._sink, name)
        if not rows:
            raise KeyError(name)
        value: str = rows[0][0]
        return value

    def __setitem__(self, name: str, value: str) -> None:
        with self._ledger._transaction() as db:
            db.execute("insert or replace into memory values (?, ?, ?)", (self._sink, name, value))

    def __delitem__(self, name: str) -> None:
        with self._ledger._transaction() as db:
            if not db.execute("delete from memory where sink = ? and name = ?", (self._sink, name)).rowcount:
                raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for (name,) in self._ledger._rows("select name from memory where sink = ?", self._sink))

    def __len__(self) -> int:
        count: int = self._ledger._rows("select count(*) from memory where sink = ?", self._sink)[0][0]
        return count


def _now() -> int:
    return int(datetime.now(UTC).timestamp())
