"""An archive on a socket."""

import logging
import resource
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import create_server

from esmond_etl_archive.app import Gate, app
from esmond_etl_archive.store import Archive

_MIB = 2**20
_CONNECTIONS = 10_000
_OTHER_FILES = 200  # that a process has open beside connections

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
        self.token = token  #: token for writing
        self.port: int = port
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"  #: without a slash at its end
        self.archive_url = self.url + path  #: of the list of metadata
        self.requests: Counter[str] = Counter()  #: requests answered so far, by method
        self._pulled = threading.Event()
        gate = Gate(token, self.requests)
        self._server = _waitress(app(archive, gate, path, slow), listening, gate)
        self._thread = threading.Thread(target=self._server.run, name="archive", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the requests under way have been answered."""
        self._server.task_dispatcher.shutdown(timeout=30)
        self._server.trigger.pull_trigger(self._close)
        self._pulled.set()
        self._thread.join(timeout=30)

    def _close(self) -> None:
        """Close the server from its own thread: its loop ends when nothing is open."""
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

    Port 0 picks a free one; without a token, a random one is made. With `slow`, it writes that many values per second.

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


def _waitress(application: Any, listening: socket.socket, gate: Gate) -> Any:
    server = create_server(
        application,
        sockets=[listening],
        threads=8,
        ident=None,
        connection_limit=_most_connections(),
        channel_timeout=60,
        cleanup_interval=5,
        asyncore_use_poll=True,
        recv_bytes=256 * 1024,
        max_request_body_size=16 * _MIB,
        inbuf_overflow=64 * _MIB,  # a page or a bulk write stays in memory
        outbuf_overflow=64 * _MIB,
    )
    server.channel_class = _channel(gate)
    return server


def _most_connections() -> int:
    """Nearly as many as the process may have files: clients that are connected and ask nothing keep no others out."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, _CONNECTIONS + _OTHER_FILES) if hard != resource.RLIM_INFINITY else _CONNECTIONS + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(wanted - _OTHER_FILES, 100)


def _channel(gate: Gate) -> Any:
    """The class of connections that do not read the body of a request that the gate refuses."""

    class Parser(HTTPRequestParser):  # type: ignore[misc,unused-ignore]
        body_rcv: Any = None

        def parse_header(self, header_plus: bytes) -> None:
            super().parse_header(header_plus)
            if self.body_rcv is not None and gate.refusal(self.command, self.headers.get("AUTHORIZATION", "")):
                # the application refuses it again, with the answer; the body that follows is not read as a request
                self.headers.pop("CONTENT_LENGTH", None)
                self.body_rcv, self.content_length, self.chunked = None, 0, False
                self.expect_continue, self.connection_close, self.version = False, True, "1.0"

    class Channel(HTTPChannel):  # type: ignore[misc,unused-ignore]
        parser_class = Parser

    return Channel
