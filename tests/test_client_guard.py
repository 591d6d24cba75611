"""Answers that never end, are too large, or lead elsewhere."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from esmond_etl.client.archive import Archive
from esmond_etl.model.errors import ContentError, RequestError, StoppedError

LIST = "/esmond/perfsonar/archive/"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture
def raw() -> Iterator[Callable[[Callable[[socket.socket, threading.Event], None]], str]]:
    """Starts a server that answers each connection as a function does; returns its URL."""
    ended = threading.Event()
    listening: list[socket.socket] = []

    def start(answer: Callable[[socket.socket, threading.Event], None]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(65536)
                    answer(connection, ended)
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/"

    yield start
    ended.set()
    for server in listening:
        server.close()


def drip(first: bytes, byte: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def answer(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(first)
        while not ended.wait(0.05):
            connection.sendall(byte)

    return answer


@pytest.mark.parametrize(
    "answer",
    [drip(HEAD + b"Content-Length: 100000\r\n\r\n", b" "), drip(HEAD, b"X"), drip(b"", b"")],
    ids=["body", "head", "silence"],
)
def test_an_answer_that_drips_ends_at_the_deadline(raw: Any, answer: Any) -> None:
    archive = Archive(raw(answer), timeout=5, deadline=0.5, retries=0)
    with pytest.raises(RequestError, match=r"no complete answer within 0\.5 s") as caught:
        archive.get(LIST, {}, len)
    assert caught.value.timed_out


def test_a_stop_is_heard_while_an_answer_drips(raw: Any) -> None:
    archive = Archive(raw(drip(HEAD + b"Content-Length: 100000\r\n\r\n", b" ")), timeout=60)
    threading.Timer(0.3, archive.stop.set).start()
    started = time.monotonic()
    with pytest.raises(StoppedError):
        archive.get(LIST, {}, len)
    assert time.monotonic() - started < 2


def test_a_server_that_says_nothing_of_tls_is_asked_once_whether_it_is_http(raw: Any) -> None:
    asked: list[int] = []

    def silent(connection: socket.socket, ended: threading.Event) -> None:
        asked.append(1)
        ended.wait()

    archive = Archive(raw(silent).replace("http:", "https:"), timeout=0.3)
    with pytest.raises(RequestError, match=r"did not answer the TLS handshake within 0\.3 s: is it http\?$"):
        archive.get(LIST, {}, len)
    assert len(asked) == 1


@pytest.fixture
def busy() -> Iterator[str]:
    """The URL of a server to which no connection can be made."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as stack:
        for _ in range(4):  # they fill the queue, and nobody accepts them
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_a_stop_is_heard_while_a_connection_is_made(busy: str) -> None:
    archive = Archive(busy, timeout=60)
    threading.Timer(0.3, archive.stop.set).start()
    started = time.monotonic()
    with pytest.raises(StoppedError):
        archive.get(LIST, {}, len)
    assert time.monotonic() - started < 2


def test_a_connection_that_is_not_made_ends_at_the_deadline(busy: str) -> None:
    started = time.monotonic()
    with pytest.raises(RequestError, match=r"no complete answer within 0\.5 s"):
        Archive(busy, timeout=60, deadline=0.5, retries=0).get(LIST, {}, len)
    assert time.monotonic() - started < 2


def test_a_stop_is_heard_during_the_tls_handshake(raw: Any) -> None:
    archive = Archive(raw(drip(b"", b"")).replace("http:", "https:"), timeout=60)
    threading.Timer(0.3, archive.stop.set).start()
    started = time.monotonic()
    with pytest.raises(StoppedError):
        archive.get(LIST, {}, len)
    assert time.monotonic() - started < 2


def test_it_is_said_how_often_a_request_was_tried(raw: Any) -> None:
    archive = Archive(raw(lambda connection, ended: None), retries=2, backoff=0)
    with pytest.raises(RequestError, match=r"\(tried 3 times\)$"):
        archive.get(LIST, {}, len)


def test_a_stop_is_heard_while_a_write_waits(raw: Any) -> None:
    archive = Archive(raw(drip(b"", b"")), timeout=60)
    threading.Timer(0.3, archive.stop.set).start()
    with pytest.raises(StoppedError):
        archive.write("PUT", LIST, b"{}")


def test_an_answer_without_end_is_refused_at_the_bound(raw: Any) -> None:
    def endless(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(HEAD + b"\r\n[")
        while not ended.is_set():
            connection.sendall(b" " * 65536)

    with pytest.raises(ContentError, match="larger than 1,000,000 bytes"):
        Archive(raw(endless), retries=0, largest=1_000_000).get(LIST, {}, len)


@pytest.mark.slow
def test_a_compressed_bomb_is_refused_at_the_bound(raw: Any) -> None:
    bomb = gzip.compress(bytes(300_000_000), 9)

    def answer(connection: socket.socket, _ended: threading.Event) -> None:
        connection.sendall(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)

    with pytest.raises(ContentError, match="larger than 1,000,000 bytes"):
        Archive(raw(answer), retries=0, largest=1_000_000).get(LIST, {}, len)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_server_is_refused(serve: Any, answer: Any, status: int) -> None:
    other = serve(lambda asked: answer(200, b"[]"))
    server = serve(lambda asked: answer(status, b"", {"Location": f"{other.url}x"}))
    with pytest.raises(ContentError, match=r'which is on another server: to allow it, write follow = \["127\.0\.0\.1"\]'):
        Archive(server.url, retries=0).get(LIST, {}, len)
    assert other.asked == []
    assert Archive(server.url, retries=0, follow=["127.0.0.1"]).get(LIST, {}, len) == 2
    assert len(other.asked) == 1


def test_redirects_in_a_circle_end(serve: Any, answer: Any) -> None:
    server = serve(lambda asked: answer(302, b"", {"Location": "/again"}))
    with pytest.raises(ContentError, match="more than 5 redirects"):
        Archive(server.url, retries=0).get(LIST, {}, len)


@pytest.mark.parametrize(
    "location", ["http://archive.example.net/x", "ftp://archive.example.net/x", "http://[::1/", "https://evil.example.net/"]
)
def test_nothing_leads_away_from_https(location: str) -> None:
    archive = Archive("https://archive.example.net/", follow=["archive.example.net"])
    with pytest.raises(ContentError):
        archive.get(location, {}, len)
