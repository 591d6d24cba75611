"""An OpenSearch that costs next to nothing: it keeps documents in memory. `python -m tests.benchmarks.opensearch` is one.

It answers what the sink, the source and `helpers` of opensearch-py ask; it is given a filter of fields once, and remembers the result.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from tests.benchmarks.connection import listen

_ACTION: Final = re.compile(rb'"_id":\s?"(\w+)-(\d+)"')

_encode, _decode = msgspec.json.encode, msgspec.json.decode


class Node:
    """The documents, by key of their test and time; all of them are of one index."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[int, bytes]] = defaultdict(dict)
        self.filtered: dict[tuple[str, tuple[str, ...]], dict[int, bytes]] = {}
        self.scrolls: dict[str, Iterator[bytes]] = {}

    def answer(self, method: str, target: str, body: bytes) -> tuple[bytes, bytes]:
        """Status and body."""
        path = target.partition("?")[0]
        if path == "/":
            if method == "DELETE":
                self.__init__()  # type: ignore[misc]
            found: Any = {"version": {"number": "2.19.6"}}
        elif path.endswith("/_bulk"):
            return b"200 OK", self._bulk(body)
        elif path == "/_search/scroll":
            return b"200 OK", next(self.scrolls["all"], b'{"_scroll_id":"all","hits":{"hits":[]}}') if method == "POST" else b"{}"
        elif path.endswith("/_search"):
            size = re.search(r"size=(\d+)", target) if "scroll=" in target else None
            return b"200 OK", self._scroll(_decode(body), int(size[1])) if size else self._search(_decode(body))
        elif path.endswith("/_count"):
            found = {"count": self._count(_decode(body)), "_shards": {"failed": 0}}
        elif path == "/_index_template":
            template = {"index_patterns": ["pscheduler_*"], "data_stream": {}}
            found = {"index_templates": [{"name": "all", "index_template": template}]}
        elif path.startswith("/_plugins"):
            return b"404 Not Found", b"{}"
        else:
            found = {"pit_id": "now"}
        return b"200 OK", _encode(found)

    def _bulk(self, body: bytes) -> bytes:
        lines = body.split(b"\n")
        number = len(lines) // 2
        for action, document in zip(lines[::2], lines[1::2], strict=False):
            key, ts = _ACTION.search(action).groups()  # type: ignore[union-attr]
            self.documents[key.decode()][int(ts)] = document
        return b'{"took":1,"errors":false,"items":[%b]}' % b",".join([b'{"create":{"status":201}}'] * number)

    def _count(self, body: Any) -> int:
        if "query" not in body:
            return sum(map(len, self.documents.values()))
        keys, start, end = _asked(body["query"])
        return sum(start <= ts < end for key in keys for ts in self.documents.get(key, ()))

    def _scroll(self, body: Any, size: int) -> bytes:
        fields = tuple(body.get("_source") or ())
        about = b'{"_index":".ds-pscheduler_esmond_latencybg-000001","_id":"%b-%d","_score":null,'
        hits = [
            about % (key.encode(), ts) + hit[1:]
            for key in self.documents
            for ts, hit in zip(sorted(self.documents[key]), self._hits(key, fields, 0, 1 << 40), strict=True)
        ]
        pages = [hits[first : first + size] for first in range(0, len(hits), size)]
        self.scrolls["all"] = iter([_page(page, b'"_scroll_id":"all",') for page in pages])
        return next(self.scrolls["all"])

    def _search(self, body: Any) -> bytes:
        if "aggs" in body:
            return self._tests(tuple(body["aggs"]["tests"]["aggs"]["last"]["top_hits"]["_source"]))
        (key,), start, end = _asked(body["query"])
        return _page(self._hits(key, tuple(body["_source"]), start, end)[: body["size"]])

    def _tests(self, fields: tuple[str, ...]) -> bytes:
        buckets = []
        for key, documents in sorted(self.documents.items()):
            source = msgspec.Raw(_filtered(documents[max(documents)], fields))
            buckets.append({"key": {"key": key}, "last": {"hits": {"hits": [{"_source": source}]}}})
        found = {"tests": {"buckets": buckets}, "without": {"doc_count": 0}}
        return _encode({"timed_out": False, "_shards": {"failed": 0}, "aggregations": found})

    def _hits(self, key: str, fields: tuple[str, ...], start: int, end: int) -> list[bytes]:
        if (key, fields) not in self.filtered:
            found = {ts: _filtered(text, fields) for ts, text in sorted(self.documents.get(key, {}).items())}
            self.filtered[key, fields] = {ts: b'{"_source":%b,"sort":[%d000]}' % (text, ts) for ts, text in found.items()}
        return [hit for ts, hit in self.filtered[key, fields].items() if start <= ts < end]


def _asked(query: Any) -> tuple[Sequence[str], int, int]:
    """The keys and the time in the conditions of a query."""
    keys, start, end = list[str](), 0, 1 << 40
    for each in query["bool"]["filter"]:
        if "bool" in each and "filter" in each["bool"]:
            more, first, last = _asked(each)
            keys, start, end = [*keys, *more], max(start, first), min(end, last)
        for name in ("term", "terms"):
            for value in (value for field, value in each.get(name, {}).items() if "checksum" in field):
                keys += [value] if isinstance(value, str) else value
        for bounds in each.get("range", {}).values():
            start, end = max(start, bounds.get("gte", 0)), min(end, bounds.get("lt", 1 << 40))
    return keys, start, end


def _filtered(text: bytes, fields: tuple[str, ...]) -> bytes:
    """A document with some of its fields."""
    if not fields:
        return text
    document, kept = _decode(text), dict[str, Any]()
    for field in fields:
        *path, last = field.split(".")
        source, target = document, kept
        for name in path:
            source = source.get(name) or {}
        if last in source:
            for name in path:
                target = target.setdefault(name, {})
            target[last] = source[last]
    return _encode(kept)


def _page(hits: Sequence[bytes], more: bytes = b"") -> bytes:
    shards = b'"_shards":{"failed":0,"successful":1,"skipped":0,"total":1}'
    return b'{%b"timed_out":false,%b,"hits":{"hits":[%b]}}' % (more, shards, b",".join(hits))


async def serve() -> None:
    """Serve until stdin closes; the first line on stdout is the port."""
    await listen(Node().answer)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the measured have the others for themselves
    asyncio.run(serve())
