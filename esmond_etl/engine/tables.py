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
    series: Sequence[SeriesId],
    interval: Interval,
    digests: Mapping[SeriesId, Sequence[Window]],
    sinks: Sequence[str],
    tables: Sequence[str],
) -> None:
    """Every sink has taken `series` in `interval`; `tables` are those of "former" and "partly" that are not empty."""
    _choose(db, series)
    for table in ("done", "proven"):
        _merge_chosen(db, interval, table)
    _replace_digests(db, interval, {each: windows for each in series if (windows := digests.get(each))})
    for each in series if tables else ():
        cut(db, each, interval, "former")
        cut_partly(db, each, interval)
    db.execute(f"delete from failed where {_IS_CHOSEN} and start < ? and end > ?", (interval.end, interval.start))
    _forget_rejected(db, interval, sinks)


_IS_CHOSEN = "(metadata_key, event_type, summary) in chosen"


def _choose(db: sqlite3.Connection, series: Iterable[SeriesId]) -> None:
    """Put `series` into the temporary table `chosen`: one statement for all of them is several times as fast as one for each."""
    columns = "metadata_key text, event_type text, summary text"
    key = "primary key (metadata_key, event_type, summary)"
    db.execute(f"create temp table if not exists chosen ({columns}, {key}) without rowid")
    db.execute(f"create temp table if not exists merged ({columns}, start integer, end integer, {key}) without rowid")
    db.execute("delete from chosen")
    db.executemany("insert or ignore into chosen values (?, ?, ?)", series)


def _merge_chosen(db: sqlite3.Connection, interval: Interval, table: str) -> None:
    """`merge` for all chosen series."""
    same = "o.metadata_key = c.metadata_key and o.event_type = c.event_type and o.summary = c.summary"
    db.execute("delete from merged")
    db.execute(
        "insert into merged select c.metadata_key, c.event_type, c.summary, min(?1, ifnull(min(o.start), ?1)),"
        f" max(?2, ifnull(max(o.end), ?2)) from chosen c left join {table} o on {same} and o.start <= ?2 and o.end >= ?1"
        " group by 1, 2, 3",
        tuple(interval),
    )
    db.execute(
        f"delete from {table} where (metadata_key, event_type, summary, start) in (select o.metadata_key, o.event_type, o.summary,"
        f" o.start from merged c cross join {table} o on {same} and o.start > c.start and o.start <= c.end)"
    )
    db.execute(f"insert or replace into {table} select * from merged")


def _replace_digests(db: sqlite3.Connection, interval: Interval, digests: Mapping[SeriesId, Sequence[Window]]) -> None:
    """Replace the digests of the chosen series in `interval`."""
    db.executemany("insert or ignore into series values (null, ?, ?, ?)", digests)
    query = "select series.* from chosen cross join series using (metadata_key, event_type, summary)"
    numbers = {(key, event_type, summary): number for number, key, event_type, summary in db.execute(query)}
    db.execute(f"delete from digest where series in (select id from ({query})) and start >= ? and start < ?", interval)
    rows = ((numbers[series], *window) for series, windows in digests.items() for window in windows)
    db.executemany("insert into digest values (?, ?, ?, ?, ?, ?)", rows)


def note_partly(db: sqlite3.Connection, series: Sequence[SeriesId], interval: Interval, sink: str) -> None:
    """One sink has taken `series` in `interval`, and others have not."""
    for each in series:
        merge(db, each, interval, "partly", sink)
    _choose(db, series)
    _forget_rejected(db, interval, (sink,))


def _forget_rejected(db: sqlite3.Connection, interval: Interval, sinks: Sequence[str]) -> None:
    """Forget the rejected datapoints of the chosen series: of the source, and of `sinks` or, if that is empty, of all."""
    which = f" and sink in ('source', {', '.join('?' * len(sinks))})" if sinks else ""
    db.execute(f"delete from rejected where {_IS_CHOSEN} and ts >= ? and ts < ?{which}", (*interval, *sinks))


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
