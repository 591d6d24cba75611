"""Memory that is free goes back to the system: a process that reads for weeks stays as small as what it holds."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

#: glibc's M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD. With an arena a thread, and thresholds that grow with every large
#: page that was freed, twice as much is kept as is ever used.
_GLIBC: Final = ((-8, 1), (-3, 4_000_000), (-1, 8_000_000))


def stay_small() -> None:
    """Tell the allocators of this process to keep little of what is free; for programs, before they import pyarrow."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in _GLIBC:
            mallopt(option, value)


@contextmanager
def loading() -> Iterator[None]:
    """While modules are imported no garbage is looked for, as there is none; nor is it in them ever after."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
