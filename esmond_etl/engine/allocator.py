"""Return free memory to the system: a process that runs for weeks stays as small as the data it holds."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

#: glibc's M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD. With one arena per thread, and thresholds that grow with every large
#: page that is freed, glibc keeps twice as much memory as is used.
_GLIBC: Final = ((-8, 1), (-3, 4_000_000), (-1, 8_000_000))


def stay_small() -> None:
    """Tell the allocators of this process to keep little free memory; for programs, before they import pyarrow."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with suppress(AttributeError, OSError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in _GLIBC:
            mallopt(option, value)


@contextmanager
def loading() -> Iterator[None]:
    """No garbage collection while modules are imported, as they leave none; later collections skip the modules."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
