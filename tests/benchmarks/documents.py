"""Documents of perfSONAR 5 in a real OpenSearch: what writing and reading them costs, against what people would use instead."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import pytest

from tests.benchmarks.data import LATENCY, START, Size
from tests.benchmarks.measure import PEERS, PYTHON, Contender, Served, served
from tests.benchmarks.tables import Limit, ours, pipeline
from tests.servers.opensearch_node import OpenSearch

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
    contenders = [
        Contender("esmond-etl, reading", [PYTHON, PEERS / "read_documents.py", target, str(END + 86400)]),
        Contender("helpers.scan", [PYTHON, PEERS / "documents.py", "scan", target]),
    ]
    return contenders, [Limit("esmond-etl, reading", "helpers.scan", 0.5)]


def run(rounds: int, folder: Path, in_turn: Callable[..., None]) -> tuple[list[Contender], list[Limit]]:
    """Both; raises ModuleNotFoundError where the server cannot be had."""
    node = OpenSearch(folder)
    try:
        node.start()
    except pytest.skip.Exception as missing:
        raise ModuleNotFoundError(str(missing)) from None
    try:
        with served(MANY, "--latency-tests") as url:
            written, limits = writing(url, node.url)
            in_turn(written, rounds, folder)
        read, others = reading(node.url)
        in_turn(read, rounds, folder)
    finally:
        node.kill()
    return [*written, *read], [*limits, *others]


def _asked(url: str, method: str = "GET") -> Any:
    with urlopen(Request(url, method=method), timeout=60) as answer:
        return json.loads(answer.read())


def _anew(target: str, write: Callable[[Path], None]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        write(folder)
        for stream in _asked(f"{target}/_data_stream/pscheduler_*")["data_streams"]:
            _asked(f"{target}/_data_stream/{stream['name']}", "DELETE")
        template = {"index_patterns": ["pscheduler_*"], "data_stream": {}, "priority": 100}
        body = json.dumps(template).encode()
        urlopen(Request(f"{target}/_index_template/bench", body, {"Content-Type": "application/json"}, method="PUT"), timeout=60)

    return prepare


def _holds(target: str) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        _asked(f"{target}/pscheduler_*/_refresh", "POST")
        found, wanted = _asked(f"{target}/pscheduler_*/_count")["count"], MANY.metadata * MANY.numbers
        if found != wanted:
            raise RuntimeError(f"{found} documents instead of {wanted}")

    return check
