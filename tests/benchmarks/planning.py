"""A run of a large pipeline that is stopped after its first task: `python -m tests.benchmarks.planning PIPELINE`, facts as JSON."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from esmond_etl import config
from esmond_etl.move import Outcome
from esmond_etl.run import Result, run


def resident(what: str = "VmRSS") -> float:
    """Memory of this process, MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[what].split()[0]) / 1000


class Watch:
    """Notes when the list had come, when the plan was made, when the first task had ended."""

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
        if outcome.task.series or not outcome.task.interval.seconds:
            self.note("first task")
            self.stop.set()


def main() -> None:
    """Run, and print what was noted."""
    stop = threading.Event()
    watch = Watch(stop)
    run(config.load(sys.argv[1]), watch, stop)
    watch.facts["peak"] = resident("VmHWM")
    print(json.dumps({name: round(value, 3) for name, value in watch.facts.items()}))


if __name__ == "__main__":
    main()
