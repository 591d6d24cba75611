"""What is compared: each table is a set of contenders, and the limits that the first of them should keep to."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.data import HISTOGRAMS, NUMBERS, START, Size
from tests.benchmarks.measure import PEERS, PYTHON, Contender, Served, holds, in_turn, served

#: The work of most tables: a million numbers, a hundred thousand histograms.
FULL = Size(200, 1250, 500)


#: As many numbers in series ten times as long.
LONGER = Size(20, 12500)


class Limit(NamedTuple):
    """What one contender may cost, as a multiple of what another costs, or on top of it."""

    of: str
    against: str
    at_most: float
    what: str = "cpu"
    more: bool = False  #: `at_most` is a difference, in s or MB, not a ratio


class Table(NamedTuple):
    """Contenders that have been measured, and how they compare."""

    name: str
    contenders: Sequence[Contender]
    limits: Sequence[Limit]


PIPELINE = """
from = 2014-04-13
to = {end}
window = "1d"
parallel = {parallel}

[source]
type = "esmond"
url = "{url}/"
page = {page}
event_types = {types}

[[sink]]
"""

PARQUET = 'type = "parquet"\npath = "out"\nhistograms = "{histograms}"\n'


def pipeline(
    url: str, size: Size, sink: str, types: Sequence[str], page: int = 10_000, parallel: int = 1
) -> Callable[[Path], None]:
    """What writes the pipeline file for a run."""
    end = datetime.fromtimestamp(START + 60 * (size.numbers + 10) + 86400, UTC).date()
    text = PIPELINE.format(end=end, url=url, page=page, parallel=parallel, types=list(types)).replace("'", '"') + sink

    def prepare(folder: Path) -> None:
        (folder / "bench.toml").write_text(text)

    return prepare


def ours(name: str, prepare: Callable[[Path], None], check: Callable[[Path], None], *options: str) -> Contender:
    """A run of `esmond-etl`."""
    return Contender(name, [PYTHON, "-m", "esmond_etl", "run", "bench.toml", "--quiet", *options], prepare, check)


def to_parquet(
    name: str, url: str, size: Size, types: Sequence[str], page: int = 10_000, parallel: int = 1, histograms: str = "map"
) -> Contender:
    """An archive to Parquet with `esmond-etl`."""
    sink = PARQUET.format(histograms=histograms)
    return ours(name, pipeline(url, size, sink, types, page, parallel), holds(datapoints(size, types)))


def floor(name: str, url: str, size: Size, types: Sequence[str], page: int = 10_000, threads: int = 1) -> Contender:
    """The same with the bare script."""
    command = [PYTHON, PEERS / "floor.py", url, "out", page, threads, *types]
    return Contender(name, [str(each) for each in command], check=holds(datapoints(size, types)))


def datapoints(size: Size, types: Sequence[str]) -> int:
    """How many datapoints there are of some event types."""
    return sum(size.metadata * (size.histograms if name in HISTOGRAMS else size.numbers) for name in types)


def numbers(url: Served, size: Size) -> tuple[list[Contender], list[Limit]]:
    """Numbers to Parquet, one request after the other."""
    contenders = [
        to_parquet("esmond-etl, 1000 a page", url.url, size, NUMBERS, 1000),
        to_parquet("esmond-etl, 10000 a page", url.url, size, NUMBERS),
        floor("floor, 1000 a page", url.url, size, NUMBERS, 1000),
        floor("floor, 10000 a page", url.url, size, NUMBERS),
    ]
    return contenders, [
        Limit("esmond-etl, 1000 a page", "floor, 1000 a page", 1.25),
        Limit("esmond-etl, 10000 a page", "floor, 10000 a page", 1.2),
        Limit("esmond-etl, 10000 a page", "floor, 1000 a page", 0.6),
    ]


def longer(url: Served, size: Size) -> tuple[list[Contender], list[Limit]]:
    """As many numbers in series ten times as long, where larger pages matter; and against the way of the old client."""
    contenders, limits = numbers(url, size)
    _, page_limit, best_limit = limits
    (_, old_client), (limit,) = old(url, size)
    mine = contenders[1].name
    return [*contenders, old_client], [page_limit, best_limit, limit._replace(of=mine)]


def histograms(url: Served, size: Size) -> tuple[list[Contender], list[Limit]]:
    """Numbers and histograms to Parquet."""
    types = NUMBERS + HISTOGRAMS
    contenders = [
        to_parquet("esmond-etl, as text", url.url, size, types, histograms="json"),
        to_parquet("esmond-etl, as maps", url.url, size, types),
        to_parquet("esmond-etl, as maps and delays", url.url, size, types, histograms="delays"),
        floor("floor, as text", url.url, size, types),
    ]
    limits = [Limit("esmond-etl, as text", "floor, as text", 1.25), Limit("esmond-etl, as maps", "floor, as text", 1.8)]
    return contenders, limits


def delta(url: Served, size: Size) -> tuple[list[Contender], list[Limit]]:
    """Numbers and histograms into Delta tables, against the Parquet sink."""
    contenders, limits = [], []
    for what, types in (("numbers", NUMBERS), ("with histograms", NUMBERS + HISTOGRAMS)):
        tables = pipeline(url.url, size, 'type = "delta"\npath = "out"\n', types)
        mine = ours(f"delta, {what}", tables, lambda folder: None)
        other = to_parquet(f"parquet, {what}", url.url, size, types, histograms="delays")
        contenders += [mine, other]
        limits.append(Limit(mine.name, other.name, 1.3))
    return contenders, limits


def threads(url: Served, size: Size) -> tuple[list[Contender], list[Limit]]:
    """Numbers to Parquet, eight requests in flight at an archive without latency."""
    contenders = [
        to_parquet("esmond-etl, 8 threads", url.url, size, NUMBERS, parallel=8),
        floor("floor, 8 threads", url.url, size, NUMBERS, threads=8),
    ]
    return contenders, [Limit("esmond-etl, 8 threads", "floor, 8 threads", 1.25)]


def latency(url: Served, size: Size) -> tuple[list[Contender], list[Limit]]:
    """Numbers to Parquet from an archive that takes 50 ms to answer."""
    contenders, limits = [], []
    for parallel in (8, 32):
        mine = to_parquet(f"esmond-etl, {parallel} in flight", url.slow_url, size, NUMBERS, parallel=parallel)
        other = floor(f"floor, {parallel} in flight", url.slow_url, size, NUMBERS, threads=parallel)
        contenders += [mine, other]
        limits.append(Limit(mine.name, other.name, 1.1, "wall"))
    return contenders, limits


def processes(url: Served, size: Size) -> tuple[list[Contender], list[Limit]]:
    """Numbers and histograms to Parquet, in one process and in two."""
    types = NUMBERS + HISTOGRAMS
    sink, check = PARQUET.format(histograms="map"), holds(datapoints(size, types))
    contenders = [
        ours("two processes", pipeline(url.url, size, sink, types), check, "--executor", "processes", "--processes", "2"),
        ours("one process", pipeline(url.url, size, sink, types), check),
    ]
    return contenders, [Limit("two processes", "one process", 0.65, "wall")]


def old(url: Served, size: Size) -> tuple[list[Contender], list[Limit]]:
    """Numbers, against the way of the old client."""
    mine = to_parquet("esmond-etl", url.url, size, NUMBERS)
    other = Contender("old client", [PYTHON, PEERS / "old_client.py", url.url, "out", "1000", *NUMBERS])
    return [mine, other], [Limit(mine.name, other.name, 0.08)]


def dlt(url: Served, size: Size) -> tuple[list[Contender], list[Limit]]:
    """Numbers, against dlt; ModuleNotFoundError with the reason where it cannot be installed."""
    mine = to_parquet("esmond-etl", url.url, size, NUMBERS)
    other = Contender("dlt", [_python_with("dlt[filesystem,parquet]"), PEERS / "dlt_rows.py", url.url, "out", "1000", *NUMBERS])
    return [mine, other], [Limit(mine.name, other.name, 0.05)]


def _python_with(requirement: str) -> Path:
    """A Python with something that only the benchmark needs, in an environment of its own that is kept."""
    home = Path.home() / ".cache" / "esmond-etl-benchmarks" / requirement.partition("[")[0]
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([PYTHON, "-m", "venv", home], check=True)
        done = subprocess.run([python, "-m", "pip", "install", "-q", requirement], check=False, capture_output=True, text=True)
        if done.returncode:
            raise ModuleNotFoundError(f"{requirement} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        (home / "ready").touch()
    return python


def influxdb(url: Served, size: Size) -> tuple[list[Contender], list[Limit]]:
    """Numbers into an InfluxDB write endpoint (which forgets them)."""
    sink = f'type = "influxdb"\nurl = "{url.url}"\ntoken = "token"\norg = "org"\nbucket = "bucket"\n'
    contenders = [
        ours("esmond-etl", pipeline(url.url, size, sink, NUMBERS), lambda folder: None),
        *(
            Contender(name, [PYTHON, PEERS / "influx.py", how, url.url, url.url, "10000", *NUMBERS])
            for name, how in (("influxdb-client, Point objects", "points"), ("influxdb-client, joined lines", "joined"))
        ),
    ]
    limits = [
        Limit("esmond-etl", "influxdb-client, Point objects", 0.07),
        Limit("esmond-etl", "influxdb-client, joined lines", 1.4),
    ]
    return contenders, limits


def mirror(url: Served, size: Size, target: Target) -> tuple[list[Contender], list[Limit]]:
    """One archive into another, made anew for each run."""
    types = NUMBERS + HISTOGRAMS
    sink = f'type = "esmond"\nurl = "{target.url}"\nusername = "u"\napi_key = "key"\n'
    write = pipeline(url.url, size, sink, types)

    def prepare(folder: Path) -> None:
        write(folder)
        target.renew()

    bare: list[str | Path] = [PYTHON, PEERS / "bare_mirror.py", url.url, target.url, "key", "10000", *types]
    contenders = [ours("esmond-etl", prepare, lambda folder: None), Contender("bare loop", bare, prepare)]
    return contenders, [Limit("esmond-etl", "bare loop", 1.3)]


class Target:
    """An embedded archive that can be made empty again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.url = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def renew(self) -> None:
        """Begin anew, with nothing in it."""
        self.stop()
        for file in self.folder.glob("target.db*"):
            file.unlink()
        command = [PYTHON, "-m", "esmond_etl", "archive", "serve", "target.db", "--port", str(self.port), "--token", "key"]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """End the process."""
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None


def start_up() -> tuple[list[Contender], list[Limit]]:
    """What it takes to say something at all."""
    contenders = [
        Contender("esmond-etl --version", [Path(PYTHON).with_name("esmond-etl"), "--version"]),
        Contender("esmond-etl --help", [Path(PYTHON).with_name("esmond-etl"), "--help"]),
        Contender("python -c pass", [PYTHON, "-c", "pass"]),
    ]
    return contenders, [
        Limit(contenders[0].name, "python -c pass", 0.06, more=True),
        Limit(contenders[1].name, "python -c pass", 0.15, more=True),
    ]


def memory(folder: Path) -> tuple[list[Contender], list[Limit]]:
    """Peak memory at a million datapoints, at ten million in longer series, and in more series."""
    found: dict[str, Contender] = {}
    for name, size in (("1M", FULL), ("10M, longer series", Size(200, 12500, 5000)), ("10M, more series", Size(2000, 1250, 500))):
        with served(size) as url:
            some = [
                to_parquet(f"{name}, numbers", url.url, size, NUMBERS, parallel=8),
                to_parquet(f"{name}, with histograms", url.url, size, NUMBERS + HISTOGRAMS, parallel=8),
            ]
            in_turn(some, 1, folder)
            found.update((each.name, each) for each in some)
    limits = []
    for what, most in (("numbers", 140), ("with histograms", 180)):
        for shape in ("longer", "more"):
            mine = f"10M, {shape} series, {what}"
            limits += [Limit(mine, f"1M, {what}", 1.2, "peak"), Limit(mine, "", most, "peak", more=True)]
    return list(found.values()), limits


SERVED: dict[str, tuple[Callable[[Served, Size], tuple[list[Contender], list[Limit]]], Size]] = {
    "numbers": (numbers, FULL),
    "longer": (longer, LONGER),
    "histograms": (histograms, FULL),
    "delta": (delta, FULL),
    "threads": (threads, FULL),
    "latency": (latency, FULL),
    "processes": (processes, FULL),
    "old": (old, FULL),
    "dlt": (dlt, FULL),
    "influxdb": (influxdb, FULL),
}

OTHERS = ("mirror", "opensearch", "start_up", "memory")


def measured(name: str, rounds: int, folder: Path) -> Table:
    """One table; raises ModuleNotFoundError, with the reason, where a peer cannot be had."""
    if name in SERVED:
        compare, size = SERVED[name]
        with served(size if name in ("histograms", "processes", "delta") else size._replace(histograms=0)) as url:
            contenders, limits = compare(url, size)
            in_turn(contenders, rounds, folder)
    elif name == "mirror":
        contenders, limits = _mirrored(rounds, folder)
    elif name == "opensearch":
        from tests.benchmarks import documents  # it uses this module

        contenders, limits = documents.run(rounds, folder, in_turn)
    elif name == "start_up":
        contenders, limits = start_up()
        in_turn(contenders, 3 * rounds, folder)
    else:
        contenders, limits = memory(folder)
    return Table(name, contenders, limits)


def _mirrored(rounds: int, folder: Path) -> tuple[list[Contender], list[Limit]]:
    target = Target(folder)
    try:
        with served(FULL) as url:
            contenders, limits = mirror(url, FULL, target)
            in_turn(contenders, rounds, folder)
    finally:
        target.stop()
    return contenders, limits
