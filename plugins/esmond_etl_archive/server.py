"""An archive on a socket."""

import logging
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waitress.server import create_server

from esmond_etl_archive.app import app
from esmond_etl_archive.store import Archive

_MIB = 2**20

logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of every request that waits for a thread


class Running:
    """An archive that is being served."""

    def __init__(
        self, archive: Archive, listening: socket.socket, token: str, script_alias: str, slow: float | None = None
    ) -> None:
        host, port = listening.getsockname()[:2]
        alias = script_alias.strip("/")
        path = f"/{alias}/perfsonar/archive/" if alias else "/perfsonar/archive/"
        self.archive = archive
        self.token = token  #: what writing takes
        self.port: int = port
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"  #: without a slash at its end
        self.archive_url = self.url + path  #: of the list of metadata
        self.requests: Counter[str] = Counter()  #: answered so far, by method
        self._pulled = threading.Event()
        self._server = _waitress(app(archive, token, path, self.requests, slow), listening)
        self._thread = threading.Thread(target=self._server.run, name="archive", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop once the requests that are under way have been answered."""
        self._server.task_dispatcher.shutdown(timeout=30)
        self._server.trigger.pull_trigger(self._close)
        self._pulled.set()
        self._thread.join(timeout=30)

    def _close(self) -> None:
        """Called in the server's own thread, whose loop ends when nothing is open."""
        self._pulled.wait(30)  # another event may have woken the loop: the trigger stays open until it has been pulled
        for channel in self._server.active_channels.values():
            channel.close_when_flushed = True
        self._server.close()


@contextmanager
def serve(
    archive: Archive | str | Path,
    port: int = 0,
    token: str | None = None,
    host: str = "127.0.0.1",
    script_alias: str = "esmond",
    slow: float | None = None,
) -> Iterator[Running]:
    """An archive, or the one in a file, served in the background until the context ends.

    Port 0 is one that is free; without a token, one is made up. With `slow`, it writes so many values a second.

    Raises OSError if it cannot listen there.
    """
    with _listen(host, port) as listening:
        store = archive if isinstance(archive, Archive) else Archive(archive)
        running = Running(store, listening, token or secrets.token_hex(16), script_alias, slow)
        try:
            yield running
        finally:
            running.stop()
            if store is not archive:
                store.close()


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address, family=family, backlog=1024)


def _waitress(application: Any, listening: socket.socket) -> Any:
    return create_server(
        application,
        sockets=[listening],
        threads=8,
        ident=None,
        connection_limit=1000,
        asyncore_use_poll=True,
        recv_bytes=256 * 1024,
        inbuf_overflow=64 * _MIB,  # a page or a bulk write stays in memory
        outbuf_overflow=64 * _MIB,
    )
