"""Requests must not last for ever: each has a deadline, and all end when the run is told to stop.

The socket's own time-out is not enough: a server that sends one byte per second never exceeds it, and nothing interrupts a thread
that waits for an answer. So one thread watches the requests of an archive, and shuts down the connection of those that must end.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from esmond_etl.model.errors import StoppedError
from esmond_etl.model.stopping import unless_stopped

#: How often the requests are checked, s.
_OFTEN: Final = 0.2

_here = threading.local()  # the request that this thread waits for


@dataclass(eq=False)
class Watched:
    """One request that a thread waits for."""

    deadline: float  #: monotonic
    connection: Any = None  #: the connection that it uses
    sent: bool = False  #: the connection is made, and the request has been sent over it
    ended: str = ""  #: why it was ended: "stop" or "deadline"; "" if it was not ended
    over: threading.Event = field(default_factory=threading.Event)  #: set when the request is ended
    handshake: socket.socket | None = None  #: during the TLS handshake, which takes the connection's own socket, another one for it

    def end(self, reason: str) -> None:
        """Shut down the connection: the thread that waits gets an error at once."""
        self.ended = reason
        self.over.set()
        sock = self.handshake or getattr(self.connection, "sock", None)
        if sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not the one of TLS, which would wait for the other side


class Guard:
    """Watches the requests of one archive."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop, self._closed = stop, threading.Event()
        self._watched: set[Watched] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, seconds: float) -> Iterator[Watched]:
        """Watch the request that this thread sends in the context; it may take `seconds`."""
        watched = Watched(time.monotonic() + seconds)
        with self._lock:
            self._watched.add(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="guard", daemon=True)
                self._thread.start()
        _here.watched = watched
        try:
            yield watched
        finally:
            _here.watched = None
            with self._lock:
                self._watched.discard(watched)

    def close(self) -> None:
        """End the thread that watches."""
        self._closed.set()

    def _look(self) -> None:
        while not self._closed.wait(_OFTEN):
            now, stopped = time.monotonic(), self._stop.is_set()
            with self._lock:
                late = [each for each in self._watched if stopped or now > each.deadline]
            for each in late:
                each.end("stop" if stopped else "deadline")


def _watched() -> Watched | None:
    found: Watched | None = getattr(_here, "watched", None)
    return found


def _note(connection: Any) -> None:
    if watched := _watched():
        watched.connection, watched.sent = connection, True


def _connected(connect: Callable[[], socket.socket], watched: Watched) -> socket.socket:
    """What `connect` returns; raises OSError when the request is ended. Nothing else interrupts the look-up of a name."""
    try:
        return unless_stopped(connect, watched.over)
    except StoppedError:
        raise OSError(watched.ended) from None


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        watched = _watched()
        return _connected(super()._new_conn, watched) if watched else super()._new_conn()

    def request(self, *args: Any, **kwargs: Any) -> None:
        _note(self)
        super().request(*args, **kwargs)


class _TLSConnection(HTTPSConnection):
    def connect(self) -> None:
        try:
            super().connect()
        finally:
            if (watched := _watched()) and watched.handshake:
                watched.handshake.close()
                watched.handshake = None

    def _new_conn(self) -> socket.socket:
        watched = _watched()
        if watched is None:
            return super()._new_conn()
        connected = _connected(super()._new_conn, watched)
        watched.handshake = connected.dup()
        return connected

    def request(self, *args: Any, **kwargs: Any) -> None:
        _note(self)
        super().request(*args, **kwargs)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


#: Makes the connections of a PoolManager such that a guard can shut them down.
POOLS: Final = {"http": _Pool, "https": _TLSPool}
