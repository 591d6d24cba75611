"""Work that a stop does not wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from esmond_etl.model.errors import StoppedError

T = TypeVar("T")

#: How often a thread that waits looks whether it must stop, s.
_OFTEN: Final = 0.2


def unless_stopped(act: Callable[[], T], stop: threading.Event) -> T:
    """What `act` returns, or raises; raises StoppedError as soon as `stop` is set.

    `act` then goes on in a thread that nobody waits for, so it must be harmless to leave it: a request that may be repeated.
    """
    done: SimpleQueue[tuple[T, None] | tuple[None, BaseException]] = SimpleQueue()

    def work() -> None:
        try:
            done.put((act(), None))
        except BaseException as error:  # it is raised in the thread that waits
            done.put((None, error))

    threading.Thread(target=work, name="unless_stopped", daemon=True).start()
    while True:
        try:
            result, error = done.get(timeout=_OFTEN)
        except Empty:
            if stop.is_set():
                raise StoppedError("told to stop") from None
            continue
        if error is not None:
            raise error
        return result  # type: ignore[return-value]
