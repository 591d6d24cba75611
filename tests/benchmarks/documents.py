"""Documents of perfSONAR 5: the CPU that writing and reading them takes, against what people would use instead."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

from tests.benchmarks.data import LATENCY, START, Size
from tests.benchmarks.measure import HERE, PEERS, PYTHON, Contender, Served, served
from tests.benchmarks.tables import Limit, ours, pipeline

#: A million datapoints in 200,000 documents.
MANY: Final = Size(200, 1000)

END: Final = START + 60 * (MANY.numbers + 1)

SINK: Final = 'type = "opensearch"\nurl = "{url}"\n'


def writing(url: Served, target: str) -> tuple[Sequence[Contender], Sequence[Limit]]:
    """An archive into OpenSearch."""
    write = pipeline(url.url, MANY, SINK.format(url=target), LATENCY)
    prepare, check = _anew(target, write), _holds(target)
    others = {how: [PYTHON, PEERS / "documents.py", how, url.url, target, "10000"] for how in ("joined", "bulk")}
    contenders = [
        ours("esmond-etl", prepare, check),
        Contender("lines joined by hand", others["joined"], prepare, check),
        Contender("helpers.bulk", others["bulk"], prepare, check),
    ]
    return contenders, [Limit("esmond-etl", "lines joined by hand", 1.3), Limit("esmond-etl", "helpers.bulk", 0.4)]


def reading(target: str) -> tuple[Sequence[Contender], Sequence[Limit]]:
    """All datapoints out of OpenSearch, for nothing."""
    scan: list[str | Path] = [PYTHON, PEERS / "documents.py", "scan", target]
    contenders = [
        Contender("esmond-etl, reading", [PYTHON, PEERS / "read_documents.py", target, str(END + 86400)]),
        Contender("helpers.scan", scan),
        Contender("helpers.scan, the same fields", [*scan, "result", "pscheduler.start_time", "pscheduler.test_checksum"]),
    ]
    return contenders, [Limit("esmond-etl, reading", "helpers.scan", 0.5)]


def run(rounds: int, folder: Path, in_turn: Callable[..., None]) -> tuple[list[Contender], list[Limit]]:
    """Both."""
    with _node() as target:
        with served(MANY, "--latency-tests") as url:
            written, limits = writing(url, target)
            in_turn(written, rounds, folder)
        read, others = reading(target)
        in_turn(read, rounds, folder)
    return [*written, *read], [*limits, *others]


@contextmanager
def _node() -> Iterator[str]:
    """Start a server that answers at once, in its own process; its URL."""
    command = [PYTHON, "-m", "tests.benchmarks.opensearch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE.parents[1]) as process:
        assert process.stdin and process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            process.wait()


def _asked(url: str, method: str = "GET") -> Any:
    with urlopen(Request(url, b"{}", {"Content-Type": "application/json"}, method=method), timeout=60) as answer:
        return json.loads(answer.read())


def _anew(target: str, write: Callable[[Path], None]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        write(folder)
        urlopen(Request(f"{target}/", method="DELETE"), timeout=60)

    return prepare


def _holds(target: str) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        found, wanted = _asked(f"{target}/_count", "POST")["count"], MANY.metadata * MANY.numbers
        if found != wanted:
            raise RuntimeError(f"{found} documents instead of {wanted}")

    return check
