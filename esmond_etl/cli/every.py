"""`esmond-etl run --every`: runs at regular intervals, with one line of JSON for each."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from esmond_etl import cli
from esmond_etl.cli import show
from esmond_etl.model.errors import EsmondEtlError, StoppedError
from esmond_etl.pipeline import file as config

if TYPE_CHECKING:
    from esmond_etl.cli.metrics import Metrics
    from esmond_etl.engine.result import Result
    from esmond_etl.pipeline.definition import Definition

#: The longest delay between a signal and the reaction, between two runs, s.
_ATTENTION = 0.1


def keep_going(
    paths: Sequence[str], every: int, port: int | None, stop: threading.Event, run: Callable[[Definition], Result]
) -> int:
    """Run the pipelines in the files `paths` every `seconds` until `stop` is set; returns the exit code.

    A run that takes longer delays the next one. The files are read again for each run. Raises ConfigError if one of them is wrong
    from the start, or if the port for Prometheus is taken.
    """
    loaded = [config.load(path) for path in paths]
    with _metrics(port, loaded) as metrics:
        due = time.monotonic()
        while not stop.is_set():
            for path in paths:
                if not stop.is_set():
                    _run(path, run, metrics)
            due = max(due + every, time.monotonic())
            _wait(stop, due)
    return cli.DONE


def _run(path: str, run: Callable[[Definition], Result], metrics: Metrics | None) -> None:
    """One run of one pipeline; an error is reported in its line."""
    started, name, output = int(time.time()), Path(path).stem, sys.stdout
    try:
        pipeline = config.load(path)
        name = pipeline.name
        output = show.output(pipeline)
        result = run(pipeline)
        facts = result.to_json()
        if metrics:
            metrics.ran(result)
    except StoppedError:  # before anything was moved
        facts = {"pipeline": name, "complete": False, "stopped": True}
    except Exception as error:  # an error in a plugin must not prevent the next run either
        text = str(error) if isinstance(error, EsmondEtlError) else f"{type(error).__name__}: {error}"
        facts = {"pipeline": name, "complete": False, "error": text}
        if metrics:
            metrics.failed(name)
    print(json.dumps({"started": started, **facts}, ensure_ascii=False), file=output, flush=True)


def _wait(stop: threading.Event, due: float) -> None:
    # not stop.wait: a signal handler would set the event while this thread holds its lock
    while not stop.is_set() and (left := due - time.monotonic()) > 0:
        time.sleep(min(left, _ATTENTION))


@contextmanager
def _metrics(port: int | None, pipelines: Sequence[Definition]) -> Iterator[Metrics | None]:
    if port is None:
        yield None
        return
    from esmond_etl.cli.metrics import Metrics

    metrics = Metrics(pipelines)
    with metrics.served(port):
        yield metrics
