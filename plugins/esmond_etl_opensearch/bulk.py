"""Requests to `_bulk`: each of a bounded number of bytes, several under way, and fewer documents at a time if the server is busy."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, Literal, NamedTuple

import msgspec

from esmond_etl_opensearch.server import Server, ServerError

#: A request has hardly more bytes than this.
BYTES: Final = 5_000_000
#: The least number of bytes that a busy server is sent at a time.
_LEAST: Final = 50_000
#: This many requests of one task are under way at once.
_AT_ONCE: Final = 3

_CONFLICT, _BUSY = 409, 429
#: The server could not tell whether it has stored the document, or cannot store it at the moment.
_AGAIN: Final = frozenset({_BUSY, 502, 503, 504})


class Operation(NamedTuple):
    """One document to create, change or delete."""

    action: Literal["create", "index", "delete"]
    lines: str  #: of the request
    key: str  #: of its test
    ts: int


class _Error(msgspec.Struct):
    type: str = ""
    reason: str = ""
    caused_by: _Error | None = None

    def __str__(self) -> str:
        return self.reason + (f": {self.caused_by}" if self.caused_by and self.caused_by.reason else "")


class _Item(msgspec.Struct):
    status: int = 0
    error: _Error | None = None


class _Answer(msgspec.Struct):
    items: list[dict[str, _Item]]


@dataclass
class Taken:
    """The results of operations."""

    done: dict[str, int] = field(default_factory=lambda: {"create": 0, "index": 0, "delete": 0})
    conflicts: int = 0  #: another program has created or changed the document meanwhile
    refused: dict[tuple[str, int], str] = field(default_factory=dict)  #: key and moment of a document -> the server's reason

    def add(self, other: Taken) -> None:
        """Add the results of other operations."""
        for action, number in other.done.items():
            self.done[action] += number
        self.conflicts += other.conflicts
        self.refused |= other.refused


@dataclass
class Bulk:
    """Sends operations, for all tasks of a run."""

    server: Server
    executor: Executor
    size: int = BYTES  #: bytes of a request at the moment
    _lock: Lock = field(default_factory=Lock, repr=False)

    def send(self, operations: Iterator[Operation]) -> Taken:
        """Send all of `operations`; raises ServerError if the server does not accept them."""
        taken, under_way = Taken(), set[Future[Taken]]()
        try:
            for portion in self._portions(operations):
                under_way.add(self.executor.submit(self._deliver, portion))
                if len(under_way) >= _AT_ONCE:
                    under_way = self._settled(under_way, taken)
            while under_way:
                under_way = self._settled(under_way, taken)
        finally:
            wait(under_way)  # a failed task must leave nothing at work
        return taken

    def _settled(self, under_way: set[Future[Taken]], taken: Taken) -> set[Future[Taken]]:
        ended, rest = wait(under_way, return_when=FIRST_COMPLETED)
        for future in ended:
            taken.add(future.result())
        return rest

    def _portions(self, operations: Iterator[Operation]) -> Iterator[list[Operation]]:
        portion, size = list[Operation](), 0
        for each in operations:
            portion.append(each)
            size += len(each.lines)
            if size >= self.size:
                yield portion
                portion, size = [], 0
        if portion:
            yield portion

    def _deliver(self, operations: list[Operation]) -> Taken:
        """Send one portion; if the server is too busy, send the rest again later, in smaller requests."""
        taken = Taken()
        for attempt in range(self.server.retries + 1):
            operations, reason = self._sent(operations, taken)
            if not operations:
                self._faster()
                return taken
            self._slower()
            if attempt < self.server.retries:
                self.server.pause(attempt)
        raise ServerError(f"{self.server.url}: still too busy for {len(operations):,} documents: {reason}", _BUSY)

    def _sent(self, operations: list[Operation], taken: Taken) -> tuple[list[Operation], str]:
        """Send operations in requests of the present size; returns those that must be sent again, and why."""
        again, reason = list[Operation](), ""
        for portion in self._portions(iter(operations)):
            body = "".join([each.lines for each in portion])
            wanted = "items.*.status,items.*.error"
            answer: _Answer = self.server.ask("POST", "/_bulk", body.encode(), _Answer, filter_path=wanted)
            if len(answer.items) != len(portion):
                raise ServerError(
                    f"{self.server.url}: {len(portion)} documents were sent, and {len(answer.items)} answered for", 200
                )
            for operation, item in zip(portion, answer.items, strict=True):
                (outcome,) = item.values()
                if outcome.status in _AGAIN:
                    again.append(operation)
                    reason = str(outcome.error)
                else:
                    _note(operation, outcome, taken)
        return again, reason

    def _slower(self) -> None:
        with self._lock:
            self.size = max(_LEAST, self.size // 2)

    def _faster(self) -> None:
        with self._lock:
            self.size = min(BYTES, self.size + self.size // 4)


def _note(operation: Operation, outcome: _Item, taken: Taken) -> None:
    if outcome.error is None:
        taken.done[operation.action] += 1
    elif outcome.status == _CONFLICT or (operation.action == "delete" and outcome.status == 404):
        taken.conflicts += 1
    else:
        taken.refused[operation.key, operation.ts] = f"the server refused its document: {outcome.error}"
