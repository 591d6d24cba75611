"""A run of a large pipeline that is stopped after its first task: `python -m tests.benchmarks.planning PIPELINE`, facts as JSON.

With "list" as a second argument it lists the series, and does no more; with "record" it goes on to the end, but every task has
ended as soon as it begins: what remains is the work of a process that hands tasks out to others.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from unittest.mock import patch

from esmond_etl.engine.delivery import Delivery, Outcome
from esmond_etl.engine.result import Result, Unobserved
from esmond_etl.engine.run import run
from esmond_etl.model.digest import Window
from esmond_etl.pipeline import file as config
from esmond_etl.pipeline.definition import Definition
from esmond_etl.plugin.sink import Receipt, Task
from esmond_etl.plugin.stage import Context


def resident(what: str = "VmRSS") -> float:
    """Memory of this process, MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[what].split()[0]) / 1000


class Watch(Unobserved):
    """Notes when the list had come, when the plan was made, when the first task began and when it had ended."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.facts: dict[str, float] = {}
        self.begun = time.perf_counter()
        self.cpu = time.process_time()

    def note(self, what: str) -> None:
        """Note the moment and the memory, if it is the first of its kind."""
        self.facts.setdefault(f"{what}: wall", time.perf_counter() - self.begun)
        self.facts.setdefault(f"{what}: cpu", time.process_time() - self.cpu)
        self.facts.setdefault(f"{what}: memory", resident())

    def listed(self, series: int) -> None:
        """The last time counts."""
        for what in ("wall", "cpu", "memory"):
            self.facts.pop(f"listed: {what}", None)
        self.note("listed")
        self.facts["series"] = series

    def planned(self, amount: int) -> None:
        """The plan is made."""
        self.note("planned")

    def moved(self, amount: int, outcome: Outcome, result: Result) -> None:
        """A task has ended: enough."""
        if outcome.task.series:
            self.note("first task ended")
            self.stop.set()


def main() -> None:
    """Run, or list, and print what was noted."""
    stop = threading.Event()
    watch = Watch(stop)
    pipeline = config.load(sys.argv[1])
    if sys.argv[2:] == ["list"]:
        _list(pipeline, watch)
    elif sys.argv[2:] == ["record"]:
        with patch.object(Delivery, "deliver", _at_once):
            run(pipeline, Unobserved(), stop)
        watch.note("recorded")
    else:
        deliver = Delivery.deliver

        def watched(delivery: Delivery, task: Task) -> Outcome:
            watch.note("first task")
            return deliver(delivery, task)

        with patch.object(Delivery, "deliver", watched):
            run(pipeline, watch, stop)
    watch.facts["peak"] = resident("VmHWM")
    print(json.dumps({name: round(value, 3) for name, value in watch.facts.items()}))


def _at_once(delivery: Delivery, task: Task) -> Outcome:
    """The outcome of a task in which every series has one datapoint."""
    start = task.interval.start
    digests = {series.id: [Window(start, 1, bytes(16), start, start)] for series in task.series}
    labels = delivery.definition.labels
    taken = {label: [series.id for series in task.series] for label in labels}
    receipts = {label: Receipt(len(task.series)) for label in labels}
    return Outcome(task, taken, receipts=receipts, digests=digests, read=len(task.series))


def _list(pipeline: Definition, watch: Watch) -> None:
    """The series kept, and no more."""
    pipeline.source.open(Context(pipeline.name, pipeline.settings.requests))
    found = list(pipeline.source.series(pipeline.wanted(int(time.time()))))
    watch.listed(len(found))
    pipeline.source.close()


if __name__ == "__main__":
    main()
