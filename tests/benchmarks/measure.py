"""Commands measured in turn: CPU time, wall time and memory of whole processes, as the kernel counts them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.benchmarks.data import Size

HERE = Path(__file__).parent
PEERS = HERE / "peers"
PYTHON = sys.executable


class Cost(NamedTuple):
    """What one process took, with all that it started and waited for."""

    cpu: float  #: s
    wall: float  #: s
    peak: float  #: MB; of the largest process


@dataclass
class Contender:
    """One of those that are compared."""

    name: str
    command: Sequence[str | Path]
    prepare: Callable[[Path], Any] = lambda folder: None  #: called with its empty folder before each run; not measured
    check: Callable[[Path], Any] = lambda folder: None  #: called after the first run; raises if the work has not been done
    costs: list[Cost] = field(default_factory=list)

    def middle(self, what: str) -> float:
        """The median of one of the figures."""
        return median(cost[Cost._fields.index(what)] for cost in self.costs)


def in_turn(contenders: Sequence[Contender], rounds: int, folder: Path) -> None:
    """Run all of them `rounds` times, one after the other, so that whatever else the machine does hits all alike."""
    for turn in range(rounds):
        for each in contenders:
            place = folder / each.name.replace(" ", "-").replace(",", "")
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            each.prepare(place)
            each.costs.append(run(each.command, place))
            if turn == 0:
                each.check(place)
            shutil.rmtree(place, ignore_errors=True)


def run(command: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None, code: int = 0) -> Cost:
    """What `command`, run in `folder`, took; raises RuntimeError with its output if it does not end with `code`."""
    # a child starts with its parent's peak: this process stays small, and imports nothing large
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with (folder / "output.txt").open("w+b") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), cwd=folder, stdout=output, stderr=output, env={**kept, **(env or {})})
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != code:
            output.seek(0)
            text = output.read()[-2000:].decode(errors="replace")
            raise RuntimeError(f"{' '.join(map(str, command))}: exit code {process.returncode}: {text}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1000)


class Served(NamedTuple):
    """A server of measurements under way."""

    url: str
    slow_url: str  #: the same, 50 ms late


@contextmanager
def served(size: Size, *options: str) -> Iterator[Served]:
    """A server of so many measurements, in a process of its own."""
    numbers = [text for name, value in size._asdict().items() for text in (f"--{name}", str(value))]
    command = [PYTHON, "-m", "tests.benchmarks.server", *numbers, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE.parents[1]) as process:
        assert process.stdin and process.stdout
        ports = [int(process.stdout.readline()) for _ in range(2)]
        try:
            yield Served(*(f"http://127.0.0.1:{port}" for port in ports))
        finally:
            process.stdin.close()
            process.wait()


def rows_in(folder: Path) -> int:
    """How many rows the Parquet files below `folder` have, counted by another process."""
    code = (
        "import sys, pathlib, pyarrow.parquet as pq;"
        "print(sum(pq.read_metadata(file).num_rows for file in pathlib.Path(sys.argv[1]).rglob('*.parquet')))"
    )
    return int(subprocess.run([PYTHON, "-c", code, str(folder)], check=True, capture_output=True, text=True).stdout)


def holds(expected: int, below: str = "out") -> Callable[[Path], None]:
    """A check that so many rows have arrived."""

    def check(folder: Path) -> None:
        found = rows_in(folder / below)
        if found != expected:
            raise RuntimeError(f"{folder}: {found} rows instead of {expected}")

    return check
