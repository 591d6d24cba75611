"""Two folders exchanged in one step, if the system can do that (Linux, on most file systems)."""

from __future__ import annotations

import ctypes
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

#: From linux/fcntl.h and linux/fs.h: paths are relative to the working folder; exchange instead of replace.
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


@cache
def _renameat2() -> Any:
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def exchange(one: str, other: str) -> None:
    """Exchange two folders of one file system; raises OSError if that is impossible."""
    call = _renameat2()
    if call is None or call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), one)


def is_possible(folder: str, other_folder: str) -> bool:
    """Whether a folder in one can be exchanged with a folder in the other, and a file can have a name in both."""
    try:
        with tempfile.TemporaryDirectory(dir=folder) as one, tempfile.TemporaryDirectory(dir=other_folder) as other:
            Path(one, "file").touch()
            os.link(Path(one, "file"), Path(other, "link"))
            exchange(one, other)
            return Path(one, "link").exists()
    except OSError:
        return False
