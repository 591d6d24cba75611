"""The tables of a ledger, and changes of intervals in them; each change is part of a transaction of the caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from esmond_etl.model.digest import Window
from esmond_etl.model.interval import Interval, IntervalSet
from esmond_etl.model.series import Metadata, SeriesId
from esmond_etl.plugin.sink import Reject

SCHEMA = """
create table if not exists about (name text primary key, value text not null) without rowid;
create table if not exists done (
    metadata_key text, event_type text, summary text, start integer, end integer,
    primary key (metadata_key, event_type, summary, start)) without rowid;
create table if not exists former (
    metadata_key text, event_type text, summary text, start integer, end integer,
    primary key (metadata_key, event_type, summary, start)) without rowid;
create table if not exists partly (
    sink text, metadata_key text, event_type text, summary text, start integer, end integer,
    primary key (metadata_key, event_type, summary, sink, start)) without rowid;
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
    series integer, start integer, number integer, digest blob, first integer, last integer, primary key (series, start))
    without rowid;
create table if not exists run (started integer, ended integer, result text);
"""


def create(db: sqlite3.Connection) -> None:
    """Create the tables that are missing, and the columns that an older version did not have."""
    db.executescript(SCHEMA)
    if "first" not in (name for _, name, *_ in db.execute("pragma table_info(digest)")):
        db.execute("alter table digest add column first integer")
        db.execute("alter table digest add column last integer")


#: The condition that selects the rows of one series, in every table that has it.
SERIES = "metadata_key = ? and event_type = ? and summary = ?"


def all_series(db: sqlite3.Connection) -> list[tuple[str, str, str]]:
    columns = "metadata_key, event_type, summary"
    return db.execute(f"select {columns} from done union select {columns} from partly").fetchall()


def merge(db: sqlite3.Connection, series: SeriesId, interval: Interval, table: str = "done", sink: str | None = None) -> None:
    owner, row = _row(series, sink)
    touching = f"{owner} and start <= ? and end >= ?"
    bounds = (*row, interval.end, interval.start)
    first, last = db.execute(f"select min(start), max(end) from {table} where {touching}", bounds).fetchone()
    if first is not None:
        db.execute(f"delete from {table} where {touching}", bounds)
        interval = Interval(min(first, interval.start), max(last, interval.end))
    db.execute(f"insert into {table} values ({', '.join('?' * len(row))}, ?, ?)", (*row, *interval))


def _row(series: SeriesId, sink: str | None) -> tuple[str, tuple[str, ...]]:
    """The condition that selects the rows of a series, of one sink if the table has that column, and the values that it compares."""
    return (SERIES, series) if sink is None else (f"sink = ? and {SERIES}", (sink, *series))


def prove(db: sqlite3.Connection, series: SeriesId, interval: Interval, windows: Sequence[Window]) -> None:
    merge(db, series, interval, "proven")
    known = db.execute(f"select id from series where {SERIES}", series).fetchone()
    if known is None:
        if not windows:
            return
        known = (db.execute("insert into series values (null, ?, ?, ?)", series).lastrowid,)
    else:
        db.execute("delete from digest where series = ? and start >= ? and start < ?", (*known, *interval))
    db.executemany("insert into digest values (?, ?, ?, ?, ?, ?)", ((*known, *window) for window in windows))


def cut(db: sqlite3.Connection, series: SeriesId, interval: Interval | None, table: str = "done", sink: str | None = None) -> int:
    owner, row = _row(series, sink)
    rows = db.execute(f"select start, end from {table} where {owner}", row).fetchall()
    before = IntervalSet.of(rows)
    left = before.minus(IntervalSet([interval])) if interval else IntervalSet()
    if left == before:
        return 0
    db.execute(f"delete from {table} where {owner}", row)
    db.executemany(f"insert into {table} values ({', '.join('?' * len(row))}, ?, ?)", ((*row, *each) for each in left))
    return 1


def cut_partly(db: sqlite3.Connection, series: SeriesId, interval: Interval | None, sinks: Sequence[str] = ()) -> int:
    """Remove `interval` from what single sinks (`sinks`, or all) have of `series`; returns how many sinks that changed."""
    known = [sink for (sink,) in db.execute(f"select distinct sink from partly where {SERIES}", series).fetchall()]
    return sum(cut(db, series, interval, "partly", sink) for sink in known if not sinks or sink in sinks)


def note_done(
    db: sqlite3.Connection,
    series: SeriesId,
    interval: Interval,
    windows: Sequence[Window],
    sinks: Sequence[str],
    tables: Sequence[str],
) -> None:
    """Every sink has taken `series` in `interval`; `tables` are those of "former" and "partly" that are not empty."""
    merge(db, series, interval)
    prove(db, series, interval, windows)
    if "former" in tables:
        cut(db, series, interval, "former")
    if "partly" in tables:
        cut_partly(db, series, interval)
    db.execute(f"delete from failed where {SERIES} and start < ? and end > ?", (*series, interval.end, interval.start))
    forget_rejected(db, series, interval, sinks)


def forget_rejected(db: sqlite3.Connection, series: SeriesId, interval: Interval, sinks: Sequence[str]) -> None:
    """Forget the rejected datapoints of `series` in `interval`: of the source, and of `sinks` or, if that is empty, of all."""
    which = f" and sink in ('source', {', '.join('?' * len(sinks))})" if sinks else ""
    db.execute(f"delete from rejected where {SERIES} and ts >= ? and ts < ?{which}", (*series, *interval, *sinks))


def insert_metadata(db: sqlite3.Connection, metadata: Iterable[Metadata]) -> None:
    rows = ((each.key, each.source, each.destination, each.tool_name) for each in metadata)
    db.executemany("insert or replace into metadata values (?, ?, ?, ?)", rows)


def insert_rejected(db: sqlite3.Connection, rejected: Mapping[str, Iterable[Reject]], now: int) -> None:
    for sink, rejects in rejected.items():
        rows = ((sink, *each.series.id, each.ts, each.val, each.reason, now) for each in rejects)
        db.executemany("insert or replace into rejected values (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def insert_failures(db: sqlite3.Connection, failures: Mapping[SeriesId, str], interval: Interval, now: int) -> None:
    rows = ((*series, *interval, message, now) for series, message in failures.items())
    db.executemany("insert or replace into failed values (?, ?, ?, ?, ?, ?, ?)", rows)
