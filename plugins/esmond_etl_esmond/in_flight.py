"""Write requests that may still be at work in an archive: noted before they are sent, so that the note survives this process.

An archive goes on with a request after its sender has died or has given up. Numbers that are sent again meanwhile are added up
(esmond keeps sums), and nothing can mend that through the interface. So nobody sends to a metadata while a request to it may be at
work, and this is where that is known.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
import uuid
from collections.abc import MutableMapping
from typing import Final

import msgspec

#: The prefix of the notes' names.
PREFIX: Final = "in-flight:"

#: The name of the note of the slowest request's time.
SLOWEST: Final = "slowest-request"

#: After an unknown outcome, this many times the slowest request must pass before anything is sent again.
MARGIN: Final = 4


class Note(msgspec.Struct):
    """The requests in flight of one process."""

    host: str
    parent: int  #: process id of its parent, which all worker processes of one run share; 0 once it has ended
    since: dict[str, float]  #: metadata key in the target -> when the request was sent, Unix time

    @property
    def is_siblings(self) -> bool:
        """Whether another worker process of this very run has made the note, and answers for its requests itself.

        Any other process has died, as only one run of a pipeline goes on at a time; even if its id is still there: a process that
        was killed keeps that until its parent has taken note, and workers outlive their run for a moment.
        """
        is_worker = multiprocessing.parent_process() is not None
        return is_worker and (self.host, self.parent) == (socket.gethostname(), os.getppid())


class Journal:
    """The requests in flight of this process, and those of killed processes; thread-safe."""

    def __init__(self, memory: MutableMapping[str, str], quiet: float, timeout: float) -> None:
        """Read the notes of earlier processes in `memory`, whose changes are durable at once."""
        self._memory, self._quiet, self._timeout = memory, quiet, timeout
        self._name = f"{PREFIX}{uuid.uuid4().hex}"
        self._noted: dict[str, float] = {}  # as stored in the memory
        self._open: set[str] = set()
        self._lock = threading.Lock()
        self.slowest = float(memory.get(SLOWEST, 0))  #: time of the slowest request so far, s; 0 if none was measured
        notes = {name: _read(memory[name]) for name in list(memory) if name.startswith(PREFIX)}
        self._left = {name: note for name, note in notes.items() if not note.is_siblings}

    def begin(self, key: str) -> None:
        """Note, durably, that a request to the metadata `key` is about to be sent."""
        with self._lock:
            self._open.add(key)
            if key not in self._noted:
                # ended requests leave the note with this write: a separate write for each end would double the cost
                self._noted = {each: since for each, since in self._noted.items() if each in self._open} | {key: time.time()}
                self._write(self._name, Note(socket.gethostname(), os.getppid(), self._noted))

    def end(self, key: str) -> None:
        """Note that no request to `key` is at work: all outcomes are known."""
        with self._lock:
            self._open.discard(key)
            for name, note in list(self._left.items()):
                if note.since.pop(key, None) is not None:
                    self._write(name, note)

    def is_left(self, key: str) -> bool:
        """Whether a killed process had a request to `key` in flight."""
        with self._lock:
            return any(key in note.since for note in self._left.values())

    def measure(self, seconds: float) -> None:
        """Note that a request was answered after `seconds`."""
        with self._lock:
            if seconds > self.slowest * 1.25:
                self.slowest = seconds
                self._memory[SLOWEST] = f"{seconds:.3f}"

    def grace(self, waited: float = 0.0) -> float:
        """The longest time that an archive that answers may still be at work on a request with an unknown outcome, s.

        `waited` is how long we waited for its answer. If nothing was measured, it is at least the time-out.
        """
        return max(self._quiet, MARGIN * max(self.slowest, waited) if self.slowest else self._timeout)

    def close(self) -> None:
        """Remove this process's note, except for requests whose outcome is still unknown."""
        with self._lock:
            left = {key: since for key, since in self._noted.items() if key in self._open}
            if self._noted:
                self._write(self._name, Note(socket.gethostname(), 0, left))
            self._noted = {}

    def _write(self, name: str, note: Note) -> None:
        if note.since:
            self._memory[name] = msgspec.json.encode(note).decode()
        else:
            self._memory.pop(name, None)
            self._left.pop(name, None)


def _read(text: str) -> Note:
    return msgspec.json.decode(text, type=Note)


class RequestSize:
    """The number of values in a request, chosen so that the archive needs about a second for it.

    A longer request would still be at work when its sender is killed, and it delays all other requests of an old archive.
    """

    WANTED: Final = 1.0  #: s
    LEAST: Final = 10
    MOST: Final = 100_000
    FIRST: Final = 250

    def __init__(self) -> None:
        self.values = self.FIRST  #: in the next request
        self._lock = threading.Lock()

    def learn(self, values: int, seconds: float) -> None:
        """Note that a request with `values` values was answered after `seconds`."""
        fitting = values * self.WANTED / max(seconds, 0.001)
        with self._lock:
            if fitting < self.values:
                self.values = max(self.LEAST, int(fitting))
            elif values * 2 >= self.values:  # a small request tells little about a large one
                self.values = int(min(fitting, self.values * 4, self.MOST))
