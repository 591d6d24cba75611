"""The archive's file: its tables, and connections to it."""

import os
import sqlite3
from pathlib import Path

VERSION = 1  #: of the tables, kept in the file's `user_version`

_TABLES = """
CREATE TABLE metadata (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    checksum TEXT NOT NULL UNIQUE,
    subject_type TEXT NOT NULL,
    source TEXT NOT NULL,
    destination TEXT,
    measurement_agent TEXT NOT NULL,
    tool_name TEXT NOT NULL,
    input_source TEXT NOT NULL,
    input_destination TEXT
);
CREATE TABLE parameter (
    metadata INTEGER NOT NULL REFERENCES metadata (id),
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (metadata, name)
) WITHOUT ROWID;
CREATE INDEX parameter_value ON parameter (name, value);
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    metadata INTEGER NOT NULL REFERENCES metadata (id),
    event_type TEXT NOT NULL,
    summary_type TEXT NOT NULL,
    summary_window INTEGER NOT NULL,
    time_updated INTEGER,
    UNIQUE (metadata, event_type, summary_type, summary_window)
);
CREATE TABLE datapoint (
    series INTEGER NOT NULL REFERENCES series (id),
    ts INTEGER NOT NULL,
    json TEXT NOT NULL,    -- {"ts":...,"val":...} just as it is served: a page is made by joining them
    numerator INTEGER,     -- of a number, as it was added up
    denominator INTEGER,
    PRIMARY KEY (series, ts)
) WITHOUT ROWID;
"""


def connect(path: str | Path) -> sqlite3.Connection:
    """A connection to the archive in `path`, whose commits are on disk when they return; a new file is private to its owner."""
    if str(path) != ":memory:":
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600))
    db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA cache_size = -16384")  # KiB
    return db


def prepare(db: sqlite3.Connection) -> None:
    """Create the tables, if the file is new.

    Raises sqlite3.DatabaseError if it is another kind of file.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            _make_tables(db)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _make_tables(db: sqlite3.Connection) -> None:
    if db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise sqlite3.DatabaseError("file is not an archive of this version")
    for statement in _TABLES.split(";\n"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")
