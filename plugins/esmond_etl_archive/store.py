"""The archive itself: metadata and their datapoints in one SQLite file."""

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, NamedTuple

from esmond_etl_archive.fold import Fold, Point
from esmond_etl_archive.metadata import FIELDS, SUBJECTS, Kept, Posted
from esmond_etl_archive.refusal import NotFound, Refused
from esmond_etl_archive.schema import connect, prepare
from esmond_etl_archive.search import Search, Slice, Times
from esmond_etl_archive.values import text, time_of

_PAGE = """
SELECT CAST('[' || coalesce(group_concat(json), '') || ']' AS BLOB), count(*), max(ts)
FROM (SELECT ts, json FROM datapoint WHERE series = ? AND ts BETWEEN ? AND ? ORDER BY ts LIMIT ? OFFSET ?)
"""
_SERIES = """
SELECT series.id FROM series JOIN metadata ON metadata.id = series.metadata
WHERE key = ? AND event_type = ? AND summary_type = ? AND summary_window = ?
"""
_DATAPOINTS = "SELECT ts, json FROM datapoint WHERE series = ? AND ts IN (SELECT value FROM json_each(?))"
_ENDS = """
SELECT (SELECT min(ts) FROM datapoint WHERE series = ? AND ts BETWEEN ? AND ?),
       (SELECT max(ts) FROM datapoint WHERE series = ? AND ts BETWEEN ? AND ?)
"""
_NEW_SERIES = "INSERT INTO series (metadata, event_type, summary_type, summary_window) VALUES (?, ?, ?, ?)"
_COLUMNS = ", ".join(["id", "key", "subject_type", *(name.replace("-", "_") for name in FIELDS)])
_PARAMETERS = """
SELECT metadata, name, value FROM parameter WHERE metadata IN (SELECT value FROM json_each(?)) ORDER BY metadata, name
"""
_EVENT_TYPES = """
SELECT metadata, event_type, summary_type, summary_window, time_updated FROM series
WHERE metadata IN (SELECT value FROM json_each(?)) ORDER BY metadata, event_type, summary_type, summary_window
"""
_LATEST = 2**62  # s

Row = tuple[Any, ...]


class Page(NamedTuple):
    """Some datapoints of a series, oldest first."""

    json: bytes  #: as served
    more: bool = False  #: whether the archive knows that there are more; with a limit it usually does not


class Archive:
    """An esmond archive in one file; any number of threads and processes may use it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._writer = connect(self.path)
        self._writing = Lock()
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        prepare(self._writer)

    def close(self) -> None:
        """Close the file."""
        with suppress(Empty):
            while True:
                self._readers.get_nowait().close()
        with self._writing:
            self._writer.close()

    def add(self, posted: Posted) -> str:
        """The key of metadata: a new one, or that of the same metadata posted before."""
        with self._transaction() as db:
            row = db.execute("SELECT key FROM metadata WHERE checksum = ?", (posted.checksum,)).fetchone()
            return str(row[0]) if row else _insert(db, posted)

    def write(self, key: str, points: Iterable[Point], work: Callable[[int], None] | None = None) -> None:
        """Write datapoints in order, in one transaction; they are on disk when this returns.

        Raises Refused for the first one that is refused (Conflict if there is already a number): those before it are written, those
        after it are not.

        With `work`, which is called with the number of datapoints and takes its time, a write is as careless as a real esmond's: it looks
        first for what is there already, and writes afterwards, so that two writes of one number at the same time add up.
        """
        taken, refused = _until_refused(points)
        known = None
        if work and taken:
            with self._reader() as db:
                known = Fold(db, key, _times(taken)).existing()
            work(len(taken))
        with self._transaction() as db:
            fold = Fold(db, key, _times(taken), known)
            try:
                for point in taken:
                    fold.add(point)
            except Refused as error:
                refused = error
            fold.write(int(time.time()))
        if refused:
            raise refused

    def page(self, key: str, event_type: str, summary_type: str, window: int, times: Times, part: Slice) -> Page:
        """Some datapoints of one series; none if the series does not exist."""
        with self._reader() as db:
            series = db.execute(_SERIES, (key, event_type, summary_type, window)).fetchone()
            if series is None:
                return Page(b"[]")
            end = _LATEST if times.end is None else times.end
            json, count, last = db.execute(_PAGE, (series[0], times.begin, end, part.limit, part.offset)).fetchone()
            more = count == part.limit > 0 and _more(db, (series[0], times.begin, end), last, part.given)
            return Page(json, more)

    def datapoints(self, key: str, event_type: str, times: Iterable[int]) -> dict[int, str]:
        """The JSON of the base datapoints at some times, by time; missing ones are left out."""
        with self._reader() as db:
            series = db.execute(_SERIES, (key, event_type, "base", 0)).fetchone() or (None,)
            return dict(db.execute(_DATAPOINTS, (series[0], text(list(times)).decode())).fetchall())

    def metadata(self, key: str) -> Kept:
        """One metadata by its key."""
        search = Search()
        search.add("key = ?", key)
        _, found = self.search(search, Slice())
        if not found:
            raise NotFound
        return found[0]

    def search(self, search: Search, part: Slice) -> tuple[int, list[Kept]]:
        """The number of metadata that meet the condition, and some of them by ascending key."""
        with self._reader() as db:
            some = f"FROM metadata WHERE {search.where} ORDER BY key LIMIT {part.limit} OFFSET {part.offset}"
            total = db.execute(f"SELECT count(*) FROM metadata WHERE {search.where}", search.values).fetchone()[0]
            rows = db.execute(f"SELECT {_COLUMNS} {some}", search.values).fetchall()
            chosen = text([row[0] for row in rows]).decode()
            return total, _kept(rows, db.execute(_PARAMETERS, (chosen,)), db.execute(_EVENT_TYPES, (chosen,)))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._writing:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except OverflowError:
                self._writer.execute("ROLLBACK")
                raise Refused("A sum is too large to be kept") from None
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection for this thread that sees one state of the archive."""
        try:
            db = self._readers.get_nowait()
        except Empty:
            db = connect(self.path)
        db.execute("BEGIN")
        try:
            yield db
        finally:
            db.execute("ROLLBACK")
            self._readers.put(db)


def _until_refused(points: Iterable[Point]) -> tuple[list[Point], Refused | None]:
    taken = []
    try:
        for point in points:
            taken.append(point)
    except Refused as refused:
        return taken, refused
    return taken, None


def _times(points: Iterable[Point]) -> set[int]:
    """The valid times of what may be written; an invalid one is refused later."""
    times = set()
    for point in points:
        try:
            times.add(time_of(point.ts))
        except Refused:
            break
    return times


def _insert(db: sqlite3.Connection, posted: Posted) -> str:
    key = uuid.uuid4().hex
    subject = {name.replace("-", "_"): value for name, value in posted.subject.items()}
    row = {"key": key, "checksum": posted.checksum, "subject_type": posted.subject_type, **subject}
    sql = f"INSERT INTO metadata ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
    metadata = db.execute(sql, list(row.values())).lastrowid
    db.executemany("INSERT INTO parameter VALUES (?, ?, ?)", [(metadata, *item) for item in posted.parameters.items()])
    db.executemany(_NEW_SERIES, [(metadata, *declared) for declared in posted.series])
    return key


def _more(db: sqlite3.Connection, window: tuple[int, int, int], last: int, limited: bool) -> bool:
    """Whether esmond knows that there is more of a series in a window than a page that ends at `last`.

    It reads year by year, and with a limit no more than that of each year: so it knows only of other years.
    """
    first, end = db.execute(_ENDS, window * 2).fetchone()
    return last < end and not (limited and time.gmtime(first).tm_year == time.gmtime(end).tm_year)


def _kept(rows: Iterable[Row], parameters: Iterable[Row], event_types: Iterable[Row]) -> list[Kept]:
    kept = {row[0]: Kept(row[1], row[2], {name: row[3 + FIELDS.index(name)] for name in SUBJECTS[row[2]]}, {}, {}) for row in rows}
    for metadata, name, value in parameters:
        kept[metadata].parameters[name] = value
    for metadata, name, *series in event_types:
        kept[metadata].event_types.setdefault(name, []).append((series[0], series[1], series[2]))
    return list(kept.values())
