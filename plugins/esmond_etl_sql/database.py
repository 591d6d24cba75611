"""A database over ADBC: connections, and transactions with retries."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Final, TypeVar

import pyarrow as pa

from esmond_etl import EsmondEtlError, PluginError, SinkError, StoppedError, unless_stopped
from esmond_etl_sql.dialects import Dialect

T = TypeVar("T")

#: Classes of SQLSTATE for transient failures: broken connections, conflicts of transactions,
#: a server without memory or disk space, or during a restart.
_PASSING: Final = ("08", "40", "53", "57")

#: Classes for a wrong value; 54 is for one that is nested too deep.
_OF_VALUES: Final = ("22", "54")

#: Parts of drivers' messages that are not for people: codes, and the statement.
_NOISE: Final = re.compile(
    r"^.*ERROR:  |^[A-Z_]+: |\[(?:libpq|SQLite|Driver Manager|PostgreSQL)\] |FATAL:  "
    r"|\s*\n(?:LINE \d|CONTEXT:|\nQuery was|query:).*|\s*\.? SQLSTATE: .*",
    re.DOTALL,
)


class Unfit(SinkError):
    """The database refuses one of the values."""


class Session:
    """One connection inside a transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, *statements: str) -> None:
        """Execute statements, one after the other."""
        for statement in statements:
            with self._connection.cursor() as cursor:
                cursor.execute(statement)

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query with a small answer."""
        return [row for batch in self.batches(query) for row in batch.to_pylist()]

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The rows of a query, as they come."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            yield from cursor.fetch_record_batch()

    def ingest(self, table: str, rows: pa.RecordBatchReader) -> None:
        """Load rows into a temporary table."""
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(table, rows, mode="append", temporary=True)


class Database:
    """One database. Every failure is a SinkError with its name and its own reason."""

    def __init__(self, dialect: Dialect, uri: str, shown: str, secret: str | None, wait: int, stop: threading.Event) -> None:
        self.dialect, self.shown, self._secret, self._wait, self._stop = dialect, shown, secret, wait, stop
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        try:
            self._dbapi = import_module(f"{dialect.driver}.dbapi")
        except ImportError:
            raise PluginError(f"the sql sink needs the ADBC driver of {dialect.name}: pip install {dialect.package}") from None
        with self._reported():
            self._first = unless_stopped(lambda: self._dbapi.connect(uri, autocommit=True), stop)

    def close(self) -> None:
        """Close the connections."""
        for connection in (*self._idle, self._first):
            connection.close()
        self._idle = []

    def deliver(self, act: Callable[[Session], T], patience: float = 0.5, tries: int = 4) -> T:
        """Run `act` in one transaction, and return its result when it is durable; a transient failure is retried.

        Deliveries of this process take turns. Raises Unfit if a value is refused.
        """
        with self._turn:
            for attempt in range(tries):
                try:
                    with self._transaction() as session:
                        return act(session)
                except self._dbapi.Error as error:
                    if attempt == tries - 1 or not _passes(error):
                        raise self._as_error(error) from None
                self._stop.wait(patience * 2**attempt)
                if self._stop.is_set():
                    break
        raise StoppedError("told to stop")

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session whose transaction is rolled back."""
        with self._reported(), self._transaction(keep=False) as session:
            yield session

    @contextmanager
    def _transaction(self, keep: bool = True) -> Iterator[Session]:
        connection = self._taken()
        try:
            connection.adbc_connection.set_autocommit(False)
            session = Session(connection)
            session.execute(*(each.format(wait=self._wait) for each in self.dialect.begin))
            yield session
            if keep:
                connection.adbc_connection.commit()
            else:
                connection.adbc_connection.rollback()
            connection.adbc_connection.set_autocommit(True)
        except BaseException:
            _quietly(connection.adbc_connection.rollback)
            _quietly(connection.close)
            raise
        with self._lock:
            self._idle.append(connection)

    def _taken(self) -> Any:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            connection = self._first.adbc_clone()
        connection.adbc_connection.set_autocommit(True)
        Session(connection).execute(*(each.format(wait=self._wait) for each in self.dialect.first))
        return connection

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except self._dbapi.Error as error:
            raise self._as_error(error) from None
        except OSError as error:  # errors while rows are read
            raise SinkError(f"{self.shown}: {self._clean(str(error))}") from None

    def _as_error(self, error: Any) -> EsmondEtlError:
        kind = Unfit if (error.sqlstate or "").startswith(_OF_VALUES) else SinkError
        hint = ""
        if (error.sqlstate or "") == "55P03" or "is locked" in str(error):
            hint = f": another program has been writing to these tables for {self._wait} s; end it, or try again later"
        return kind(f"{self.shown}: {self._clean(str(error))}{hint}")

    def _clean(self, text: str) -> str:
        """A driver's message for people, without the password."""
        text = " ".join(_NOISE.sub("", text).split())
        return text.replace(self._secret, "***") if self._secret else text


def _passes(error: Any) -> bool:
    """Whether the same may succeed the next time."""
    return (
        (error.sqlstate or "").startswith(_PASSING)
        or "server closed the connection" in str(error)
        or "no connection to" in str(error)
    )


def _quietly(act: Callable[[], object]) -> None:
    """Clean up, and ignore errors: the connection may be broken."""
    with suppress(Exception):
        act()
