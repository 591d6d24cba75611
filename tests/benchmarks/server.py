"""An archive that costs next to nothing: pages cut out of texts made beforehand. `python -m tests.benchmarks.server` is one.

It answers any time-start, time-end and limit, and lists with offset and limit; what is posted or put elsewhere it takes and forgets.
"""

from __future__ import annotations

import asyncio
import os
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qsl

from tests.benchmarks.data import HISTOGRAMS, LATENCY, NUMBERS, ROOT, START, Size, Texts, entry, results, series

HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nDate: Mon, 14 Apr 2014 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n"


class Archive:
    """What is served."""

    def __init__(self, size: Size, empty: bool, alike: bool, latency_tests: bool) -> None:
        names = LATENCY if latency_tests else NUMBERS + (HISTOGRAMS if size.histograms else ())
        updated = START + 60 * (size.numbers + 10)
        self.entries = [entry(number, names, updated) for number in range(size.metadata)]
        make = results if latency_tests else series
        self.alike = alike
        self.texts: dict[str, Texts] = {}
        for key, name, texts in make(size._replace(metadata=1) if alike else size) if not empty else ():
            self.texts[f"{name}/base" if alike else f"{ROOT}{key}/{name}/base"] = texts
        self.total, self.names = size.metadata, names
        self.asked: Counter[str] = Counter()

    def answer(self, method: str, target: str) -> tuple[bytes, bytes]:
        """Status and body."""
        path, _, query = target.partition("?")
        if method != "GET":
            self.asked["write"] += 1
            return b"204 No Content", b""
        if path == "/asked":
            return b"200 OK", b"%d" % self.asked["data"]
        options = dict(parse_qsl(query))
        if path == ROOT:
            return b"200 OK", self._list(int(options.get("offset", 0)), int(options.get("limit", 1500)))
        self.asked["data"] += 1
        texts = self.texts.get("/".join(path.split("/")[-2:]) if self.alike else path)
        if texts is None:
            return b"200 OK", b"[]"
        start, end = int(options.get("time-start", 0)), int(options.get("time-end", 1 << 40))
        return b"200 OK", texts.page(start, end, int(options.get("limit", 1500)))

    def _list(self, offset: int, limit: int) -> bytes:
        some = self.entries[offset : offset + limit]
        if not some:
            return b"[]"
        return b'[{"metadata-count-total": %d, %b]' % (self.total, b", {".join(some))


class Connection(asyncio.Protocol):
    """One connection that is kept alive; requests one after the other."""

    def __init__(self, answer: Callable[[str, str], tuple[bytes, bytes]], latency: float) -> None:
        self.answer, self.latency, self.pending = answer, latency, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write to."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer when a request has come whole."""
        self.pending = self.pending + data if self.pending else data
        head, found, rest = self.pending.partition(b"\r\n\r\n")
        if not found or len(rest) < self._length(head):
            return
        if b"100-continue" in head:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.pending = b""
        method, target, _ = head.split(b" ", 2)
        status, body = self.answer(method.decode(), target.decode())
        answer = HEAD % (status, len(body)) + body
        if self.latency:
            asyncio.get_running_loop().call_later(self.latency, self.transport.write, answer)
        else:
            self.transport.write(answer)

    @staticmethod
    def _length(head: bytes) -> int:
        _, found, rest = head.lower().partition(b"content-length:")
        return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def serve(archive: Archive, latency: float) -> None:
    """Serve until stdin closes; the port is the first line on stdout, that of the same with latency the second."""
    loop = asyncio.get_running_loop()
    for wait in (0, latency):
        server = await loop.create_server(partial(Connection, archive.answer, wait), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Make the measurements, then serve them."""
    parser = ArgumentParser()
    for name in Size._fields:
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.05, help="s")
    parser.add_argument("--empty", action="store_true", help="list metadata that have no datapoints")
    parser.add_argument("--alike", action="store_true", help="all series of an event type have the same datapoints")
    parser.add_argument("--latency-tests", action="store_true", help="tests of one-way latency, with NUMBERS results each")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the measured have the others for themselves
    archive = Archive(
        Size(options.metadata, options.numbers, options.histograms), options.empty, options.alike, options.latency_tests
    )
    asyncio.run(serve(archive, options.latency))


if __name__ == "__main__":
    main()
