"""The connection to a Dask cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

from esmond_etl import ConfigError, Engine, PluginError, SourceError, described

#: Time-out for the answer of a scheduler, s.
_PATIENCE = 20


@contextmanager
def connect(address: str | None) -> Iterator[Engine]:
    """The cluster whose scheduler is at `address`, such as tcp://HOST:8786."""
    try:
        from distributed import Client, Event
    except ImportError:
        raise PluginError("the executor dask needs distributed: pip install 'esmond-etl[dask]'") from None
    for name in [name for name in logging.root.manager.loggerDict if name.startswith(("distributed", "tornado"))]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the run itself reports lost tasks
    if not address:
        raise ConfigError("--executor dask needs the address of its scheduler: --scheduler tcp://HOST:8786")
    try:
        client = Client(address, timeout=_PATIENCE, name="esmond-etl")
    except (OSError, ValueError) as error:
        raise SourceError(f"no Dask scheduler answers at {address}: {described(error)}") from None
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise SourceError(f"the Dask scheduler at {address} has no workers: start some with `dask worker {address}`")
        stopped = _Stopped(f"esmond-etl-{uuid4().hex}")
        event = Event(stopped.name, client=client)
        yield Engine(client.get_executor(pure=False), threads, event.set, stopped)
        with suppress(Exception):  # of a scheduler that is gone
            event.set()


@dataclass(frozen=True)
class _Stopped:
    """Asks the scheduler whether the run has been told to stop; pickled."""

    name: str

    def __call__(self) -> bool:
        from distributed import Event, get_client

        return bool(Event(self.name, client=get_client()).is_set())
