"""HTTP as cheap as it can be, for the servers of the benchmarks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import Final

HEAD: Final = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nDate: Mon, 14 Apr 2014 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n"

#: From method, target and body of a request to status and body of the answer.
Answer = Callable[[str, str, bytes], tuple[bytes, bytes]]


class Connection(asyncio.Protocol):
    """One connection that is kept alive; requests one after the other."""

    def __init__(self, answer: Answer, latency: float) -> None:
        self.answer, self.latency = answer, latency
        self.parts, self.missing = list[bytes](), 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write to."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer when a request has come whole."""
        self.parts.append(data)
        self.missing -= len(data)
        if self.missing > 0:
            return
        head, found, body = b"".join(self.parts).partition(b"\r\n\r\n")
        length = re.search(rb"content-length:\s*(\d+)", head.lower())
        self.missing = int(length[1]) - len(body) if length else 0
        if found and self.missing > 0 and not body and b"100-continue" in head:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not found or self.missing > 0:
            return
        self.parts, self.missing = [], 0
        method, target, _ = head.split(b" ", 2)
        status, text = self.answer(method.decode(), target.decode(), body)
        answer = HEAD % (status, len(text)) + text
        if self.latency:
            asyncio.get_running_loop().call_later(self.latency, self.transport.write, answer)
        else:
            self.transport.write(answer)


async def listen(answer: Answer, latency: float = 0) -> None:
    """Listen, and print the port."""
    server = await asyncio.get_running_loop().create_server(partial(Connection, answer, latency), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
