"""An archive that costs next to nothing: pages cut out of texts made beforehand. `python -m tests.benchmarks.server` is one.

It answers any time-start, time-end and limit, and lists with offset and limit; what is posted or put elsewhere it takes and forgets.
"""

from __future__ import annotations

import asyncio
import os
import sys
from argparse import ArgumentParser
from collections import Counter
from urllib.parse import parse_qsl

from tests.benchmarks.connection import listen
from tests.benchmarks.data import HISTOGRAMS, LATENCY, NUMBERS, ROOT, START, Size, Texts, entry, results, series


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

    def answer(self, method: str, target: str, body: bytes) -> tuple[bytes, bytes]:
        """Status and body; what the body of the request says does not matter."""
        del body
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


async def serve(archive: Archive, latency: float) -> None:
    """Serve until stdin closes; the port is the first line on stdout, that of the same with latency the second."""
    for wait in (0, latency):
        await listen(archive.answer, wait)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


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
