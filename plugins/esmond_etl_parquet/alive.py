"""Which processes are working on a tree: each of them locks its own folder in `_staging/`."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


def new_owner() -> str:
    """A unique name for a process, which tells its machine."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"


def locked(folder: Path) -> int:
    """A file descriptor that holds the lock on a folder; raises BlockingIOError if another process has it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def clear_dead(folders: Iterable[Path]) -> None:
    """Remove the folders of dead processes."""
    for folder in folders:
        with suppress(OSError):  # another process is at work there, or has removed it
            handle = locked(folder)
            try:
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
