"""The files of the engine beside a pipeline: private to their owner, locked by one run at a time, with errors that say what to do."""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from esmond_etl.model.errors import ConfigError, LockedError


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock that allows one run of a pipeline at a time; raises LockedError, with the name of the holder, if it is taken.

    The system releases the lock when the process ends, however it ends.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        make_private(path)
        file = path.open("a+")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}{remedy(error)}") from None
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


def make_private(path: Path) -> None:
    """Create the file, with access for its owner only, if it is missing; SQLite gives its files beside it the same mode."""
    if str(path) != ":memory:":
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600))


def database(path: Path) -> sqlite3.Connection:
    """A connection to the SQLite database in the file `path`, which is created if it is missing; commits are durable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_private(path)
    found = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    found.execute("pragma journal_mode = wal")
    found.execute("pragma synchronous = full")
    found.execute("pragma wal_autocheckpoint = 10000")  # ten times the default: noting 200,000 series takes a quarter less time
    return found


def database_to_read(path: Path, version: str) -> sqlite3.Connection:
    """A connection that cannot change the ledger in the file `path`; if it is not of `version`, to a copy in memory, which can be."""
    found = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", timeout=60, uri=True, check_same_thread=False)
    if found.execute("select value from about where name = 'version'").fetchone() == (version,):
        return found
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    with closing(found):
        found.backup(copy)
    return copy


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


def remedy(error: Exception) -> str:
    return next((f"; {remedy}" for part, remedy in _REMEDIES.items() if part in str(error)), "")
