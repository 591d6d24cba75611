"""Turns of processes that commit to one tree in an object store, where nothing can be locked.

Whoever wants to commit writes a ticket beside the tickets of the others, then lists them. It is its turn if it sees no other: as each
writes before it lists, of two at least one sees the other. Of those that see each other the one whose name comes first keeps its ticket
and looks again, the others take theirs back for a while. This needs no more than that a list shows all that was written before,
which holds for S3, Google's store, MinIO and HDFS.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import uniform
from typing import Final
from uuid import uuid4

import pyarrow.fs as pafs

#: A ticket that was not renewed for this long belongs to a dead process, s.
LEASE: Final = 900

#: The longest time between two renewals during a turn, s.
RENEWED: Final = 60

_SUFFIX: Final = ".turn"

#: The file in the folder of a dead process whose age tells when the folder was first found.
_FOUND_DEAD: Final = "found-dead"


def new_owner() -> str:
    """A unique name for a process, which tells its machine."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"


def new_scratch(owner: str) -> tuple[str, int]:
    """A folder for files that a process has not uploaded yet, and a file descriptor; its lock shows that the process is alive."""
    made = tempfile.mkdtemp(prefix="esmond-etl-")
    handle = locked(Path(made))
    return str(Path(made).rename(_scratch_of(owner))), handle  # under this name nobody ever finds it unlocked


def _scratch_of(owner: str) -> Path:
    return Path(tempfile.gettempdir(), f"esmond-etl-parquet-{owner}")


def scratches() -> Iterable[Path]:
    """The folders of all processes that work, or worked, on this machine."""
    return Path(tempfile.gettempdir()).glob(f"esmond-etl-parquet-{socket.gethostname()}-*")


def locked(folder: Path) -> int:
    """A file descriptor that holds the lock on a folder; raises BlockingIOError if another process has it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def clear_dead(folders: Iterable[Path], kept: float = 0) -> None:
    """Empty the folders of dead processes, and remove those that were first found `kept` seconds ago."""
    for folder in folders:
        with suppress(OSError):  # another process is at work there, or has removed it
            handle = locked(folder)
            try:
                _clear(folder, kept)
            finally:
                os.close(handle)


def _clear(folder: Path, kept: float) -> None:
    found = folder / _FOUND_DEAD
    if not kept or (found.exists() and time.time() - found.stat().st_mtime >= kept):
        shutil.rmtree(folder, ignore_errors=True)
        return
    if not found.exists():
        found.touch()
    for each in folder.iterdir():
        if each != found:
            shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink()


def _is_dead(owner: str) -> bool:
    """Whether that process is known to be dead: it ran on this machine, and its lock is gone."""
    try:
        os.close(locked(_scratch_of(owner)))
    except OSError:  # it is alive, or on another machine
        return False
    return True


class Turns:
    """The turns of one process; `folder` is where all keep their tickets."""

    def __init__(self, fs: pafs.FileSystem, folder: str, owner: str) -> None:
        self._fs, self._folder, self._owner = fs, folder, owner
        self._renewed = 0.0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn of this process; no other process has a turn meanwhile."""
        self._put()
        try:
            wait = 0.02
            while others := self._others():
                if min(others) < self._owner:
                    self._remove(self._owner)
                time.sleep(uniform(wait / 2, wait))
                wait = min(wait * 1.5, 1.0)
                self._put()
            yield
        finally:
            self._remove(self._owner)

    def renew(self) -> None:
        """Tell the others that this process is still alive; call it now and then during a turn."""
        if time.monotonic() - self._renewed > RENEWED:
            self._put()

    def _put(self) -> None:
        self._renewed = time.monotonic()
        with self._fs.open_output_stream(self._path(self._owner)) as stream:
            stream.write(b"at work")

    def _others(self) -> list[str]:
        """The other processes with a ticket; tickets of dead ones are removed."""
        tickets = {
            info.base_name.removesuffix(_SUFFIX): info.mtime.timestamp() if info.mtime else time.time()
            for info in self._fs.get_file_info(pafs.FileSelector(self._folder, allow_not_found=True))
            if info.base_name.endswith(_SUFFIX)
        }
        now = tickets.pop(self._owner, time.time())  # by the store's clock, as the others
        dead = [owner for owner, moment in tickets.items() if now - moment > LEASE or _is_dead(owner)]
        for owner in dead:
            self._remove(owner)
        return [owner for owner in tickets if owner not in dead]

    def _remove(self, owner: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.delete_file(self._path(owner))

    def _path(self, owner: str) -> str:
        return f"{self._folder}/{owner}{_SUFFIX}"
