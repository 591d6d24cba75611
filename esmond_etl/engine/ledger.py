"""What has been moved: done intervals of each series, rejected datapoints, last errors; one SQLite file a pipeline."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from esmond_etl.model.digest import Window
from esmond_etl.model.errors import ConfigError, EsmondEtlError, LockedError
from esmond_etl.model.interval import Interval, IntervalSet
from esmond_etl.model.series import Metadata, SeriesId
from esmond_etl.plugin.sink import Reject

_SCHEMA = """
create table if not exists about (name text primary key, value text not null) without rowid;
create table if not exists done (
    metadata_key text, event_type text, summary text, start integer, end integer,
    primary key (metadata_key, event_type, summary, start)) without rowid;
create table if not exists former (
    metadata_key text, event_type text, summary text, start integer, end integer,
    primary key (metadata_key, event_type, summary, start)) without rowid;
create table if not exists metadata (key text primary key, source text, destination text, tool_name text) without rowid;
create table if not exists failed (
    metadata_key text, event_type text, summary text, start integer, end integer, message text, at integer,
    primary key (metadata_key, event_type, summary)) without rowid;
create table if not exists rejected (
    sink text, metadata_key text, event_type text, summary text, ts integer, val text, reason text, at integer,
    primary key (sink, metadata_key, event_type, summary, ts, val)) without rowid;
create table if not exists memory (sink text, name text, value text, primary key (sink, name)) without rowid;
create table if not exists proven (
    metadata_key text, event_type text, summary text, start integer, end integer,
    primary key (metadata_key, event_type, summary, start)) without rowid;
create table if not exists series (
    id integer primary key, metadata_key text, event_type text, summary text, unique (metadata_key, event_type, summary));
create table if not exists digest (
    series integer, start integer, number integer, digest blob, primary key (series, start)) without rowid;
create table if not exists run (started integer, ended integer, result text);
"""

_VERSION = "2"

#: Versions whose tables are a part of ours.
_OLDER = frozenset({"1"})


class Failure(NamedTuple):
    """Why a series is not done."""

    series: SeriesId
    interval: Interval
    message: str
    at: int  #: Unix time


class Rejected(NamedTuple):
    """A datapoint that a sink would not have."""

    sink: str
    series: SeriesId
    ts: int
    val: str  #: JSON text
    reason: str
    at: int  #: Unix time


class Ledger:
    """What a pipeline has delivered; every change is durable when the method returns. Usable from several threads."""

    def __init__(self, path: Path) -> None:
        """Open the ledger in the file `path`, made if it is missing; raises ConfigError if that cannot be done."""
        self.path = path
        self._lock = threading.RLock()
        self._others: list[Ledger] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_private(path)
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = full")
            self._db.executescript(_SCHEMA)
            self._check()
            version = self.about("version") or _VERSION
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"{path}: cannot be used as a ledger: {error}{_remedy(error)}") from None
        if version not in (_VERSION, *_OLDER):
            raise ConfigError(f"{path}: this ledger was written by another version of esmond-etl ({version})")
        self.set_about("version", _VERSION)

    @classmethod
    def to_read(cls, path: Path) -> Ledger:
        """The ledger in the file `path`; an empty one in memory if there is none: no file is made."""
        return cls(path if path.exists() else Path(":memory:"))

    @classmethod
    def of_all(cls, paths: Sequence[Path]) -> Ledger:
        """What several ledgers, of the shards of one pipeline, say together, in memory; the ledger itself if there is one alone."""
        if len(paths) == 1:
            return cls(paths[0])
        together = cls(Path(":memory:"))
        for path in paths:
            together._add(path)
        return together

    def _add(self, path: Path) -> None:
        """Take in all that another ledger says."""
        with closing(Ledger(path)) as other:
            for series, intervals in other.all_done():
                for interval in intervals:
                    _merge(self._db, series, interval)
                for interval in other.proven(series):
                    _prove(self._db, series, interval, other.digests(series, interval))
            for table in ("former", "metadata", "failed", "rejected", "memory", "run"):
                rows = other._rows(f"select * from {table}")
                for row in rows:
                    self._db.execute(f"insert or replace into {table} values ({', '.join('?' * len(row))})", row)
            for name, value in other._rows("select name, value from about where name <> 'version'"):
                self._db.execute("insert or replace into about values (?, ?)", (name, value))

    def _check(self) -> None:
        """Raises sqlite3.DatabaseError if the file is damaged: what it says must not be taken for the truth."""
        found = self._db.execute("pragma quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"the file is damaged ({' '.join(found.split())})")

    def close(self) -> None:
        """Close the file, and those of other shards."""
        for other in self._others:
            other.close()
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
            raise EsmondEtlError(f"{self.path}: the ledger cannot be read or written: {error}{_remedy(error)}") from None

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

    def beside(self, others: Iterable[Path]) -> None:
        """From now on, what `others` (of other shards) say is done counts as done."""
        self._others = [Ledger(path) for path in others if path.resolve() != self.path.resolve()]

    def done(self, metadata_key: str) -> dict[tuple[str, str], IntervalSet]:
        """What every sink has taken of the series under one metadata, by (event type, summary)."""
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

    def record(
        self,
        series: Iterable[SeriesId],
        interval: Interval,
        metadata: Iterable[Metadata] = (),
        rejected: Mapping[str, Iterable[Reject]] | None = None,
        failures: Mapping[SeriesId, str] | None = None,
        digests: Mapping[SeriesId, Sequence[Window]] | None = None,
    ) -> None:
        """Note in one transaction that every sink has taken `series` in `interval`, what was rejected, and what failed.

        `digests` are those of the windows that the sinks were given; without them, `series` have no datapoints there.
        """
        now = _now()
        with self._transaction() as db:
            replaces = bool(db.execute("select 1 from former limit 1").fetchone())
            for each in series:
                _merge(db, each, interval)
                _prove(db, each, interval, (digests or {}).get(each, ()))
                if replaces:
                    _cut(db, each, interval, "former")
                db.execute(f"delete from failed where {_SERIES} and start < ? and end > ?", (*each, interval.end, interval.start))
                bounds = (*each, interval.start, interval.end)
                db.execute(f"delete from rejected where {_SERIES} and ts >= ? and ts < ?", bounds)
            db.executemany(
                "insert or replace into metadata values (?, ?, ?, ?)",
                ((each.key, each.source, each.destination, each.tool_name) for each in metadata),
            )
            for sink, rejects in (rejected or {}).items():
                rows = ((sink, *each.series.id, each.ts, each.val, each.reason, now) for each in rejects)
                db.executemany("insert or replace into rejected values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            rows_failed = ((*each, *interval, message, now) for each, message in (failures or {}).items())
            db.executemany("insert or replace into failed values (?, ?, ?, ?, ?, ?, ?)", rows_failed)

    def redefine(self, delivery: str, keep: bool) -> None:
        """Note that the pipeline delivers `delivery`; what was done before, if that is another, is from then on of a former definition.

        With `keep`, what a former definition delivered counts as done and stays as it is; else it is to be delivered again.
        """
        with self._transaction() as db:
            known = db.execute("select value from about where name = 'delivery'").fetchone()
            for *series, start, end in db.execute("select * from done").fetchall() if known != (delivery,) else ():
                _merge(db, SeriesId(*series), Interval(start, end), "former")
            for *series, start, end in db.execute("select * from former").fetchall():
                (_merge if keep else _cut)(db, SeriesId(*series), Interval(start, end), "done")
            if not keep:
                db.execute("delete from failed")
            facts = (("delivery", delivery), ("former", "keep" if keep else "replace"))
            db.executemany("insert or replace into about values (?, ?)", facts)

    @property
    def replaces(self) -> bool:
        """Whether something that a former definition delivered is still to be delivered again."""
        return self.about("former") == "replace" and bool(self._rows("select 1 from former limit 1"))

    def former(self) -> dict[SeriesId, IntervalSet]:
        """What a former definition of the pipeline delivered, and the present one has not delivered again."""
        found: dict[SeriesId, list[tuple[int, int]]] = {}
        for *series, start, end in self._rows("select * from former"):
            found.setdefault(SeriesId(*series), []).append((start, end))
        return {series: IntervalSet.of(intervals) for series, intervals in found.items()}

    def forget(self, interval: Interval | None = None, series: Iterable[SeriesId] | None = None) -> int:
        """Take `interval` (default: all time) of `series` (default: all) off what is done; returns how many series that changed."""
        changed = 0
        with self._transaction() as db:
            targets = list(series) if series is not None else _all_series(db)
            for each in targets:
                changed += _cut(db, SeriesId(*each), interval)
            if interval is None and series is None:
                db.execute("delete from failed")
        return changed

    def all_done(self) -> Iterator[tuple[SeriesId, IntervalSet]]:
        """Every series that the ledger knows, with what is done of it."""
        for key, *_ in self._rows("select distinct metadata_key from done order by metadata_key"):
            for (event_type, summary), intervals in self.done(key).items():
                yield SeriesId(key, event_type, summary), intervals

    def proven(self, series: SeriesId) -> IntervalSet:
        """The time in which the digests say all that the sinks were given of `series`."""
        return IntervalSet.of(self._rows(f"select start, end from proven where {_SERIES}", *series))

    def digests(self, series: SeriesId, interval: Interval) -> list[Window]:
        """The digests of the windows of `series` that begin in `interval` and have datapoints, oldest first."""
        query = (
            f"select start, number, digest from digest where series = (select id from series where {_SERIES})"
            " and start >= ? and start < ? order by start"
        )
        return [Window(*row) for row in self._rows(query, *series, *interval)]

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


_SERIES = "metadata_key = ? and event_type = ? and summary = ?"


def _all_series(db: sqlite3.Connection) -> list[tuple[str, str, str]]:
    return db.execute("select distinct metadata_key, event_type, summary from done").fetchall()


def _merge(db: sqlite3.Connection, series: SeriesId, interval: Interval, table: str = "done") -> None:
    touching = f"{_SERIES} and start <= ? and end >= ?"
    bounds = (*series, interval.end, interval.start)
    first, last = db.execute(f"select min(start), max(end) from {table} where {touching}", bounds).fetchone()
    if first is not None:
        db.execute(f"delete from {table} where {touching}", bounds)
        interval = Interval(min(first, interval.start), max(last, interval.end))
    db.execute(f"insert into {table} values (?, ?, ?, ?, ?)", (*series, *interval))


def _prove(db: sqlite3.Connection, series: SeriesId, interval: Interval, windows: Sequence[Window]) -> None:
    _merge(db, series, interval, "proven")
    known = db.execute(f"select id from series where {_SERIES}", series).fetchone()
    if known is None:
        if not windows:
            return
        known = (db.execute("insert into series values (null, ?, ?, ?)", series).lastrowid,)
    db.execute("delete from digest where series = ? and start >= ? and start < ?", (*known, *interval))
    db.executemany("insert into digest values (?, ?, ?, ?)", ((*known, *window) for window in windows))


def _cut(db: sqlite3.Connection, series: SeriesId, interval: Interval | None, table: str = "done") -> int:
    rows = db.execute(f"select start, end from {table} where {_SERIES}", series).fetchall()
    before = IntervalSet.of(rows)
    left = before.minus(IntervalSet([interval])) if interval else IntervalSet()
    if left == before:
        return 0
    db.execute(f"delete from {table} where {_SERIES}", series)
    db.executemany(f"insert into {table} values (?, ?, ?, ?, ?)", ((*series, *each) for each in left))
    return 1


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


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock that lets one run of a pipeline go at a time; raises LockedError, saying who has it, if it is taken.

    The lock goes with the process, however it ends.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_private(path)
        file = path.open("a+")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}{_remedy(error)}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LockedError(f"{path}: another run is under way: {file.read().strip() or 'of a process just started'}") from None
        file.truncate(0)
        started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {started}\n")
        file.flush()
        yield


def _make_private(path: Path) -> None:
    """Create the file, for its owner alone, if it is missing; SQLite gives its own files beside it the same mode."""
    if str(path) != ":memory:":
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600))


#: What to do about an error of SQLite or of the file system, by a part of its text.
_REMEDIES = {
    "full": "free some space, and run it again: nothing is lost",
    "No space": "free some space, and run it again: nothing is lost",
    "locked": "another program is using the file: close it, and run it again",
    "readonly": "make the folder writable, or give another one with `ledger`",
    "Read-only": "make the folder writable, or give another one with `ledger`",
    "Permission": "make the folder writable, or give another one with `ledger`",
    "unable to open": "make the folder writable, or give another one with `ledger`",
    "malformed": "restore the file from a backup, or move it away: the next run then delivers everything again",
    "damaged": "restore the file from a backup, or move it away: the next run then delivers everything again",
    "not a database": "restore the file from a backup, or move it away: the next run then delivers everything again",
}


def _remedy(error: Exception) -> str:
    return next((f"; {remedy}" for part, remedy in _REMEDIES.items() if part in str(error)), "")


def _now() -> int:
    return int(datetime.now(UTC).timestamp())
