"""A mirroring process is killed with -9 at moments spread over its course: the next run makes the copy exact.

It is `esmond-etl run` itself that is killed, and the target is a process of its own: what it was sent stays with it.
"""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from esmond_etl_archive.samples import START, sample

pytestmark = pytest.mark.slow

MOMENTS = int(os.environ.get("ESMOND_ETL_KILLS", "8"))
REQUESTS = 130  # that a run sends to the target, at least
PUTS = 25  # that are among them
PIPELINE = """
name = "mirror"
from = {start}
to = {end}
window = "6h"
parallel = 4

[source]
type = "esmond"
url = "{source}"

[[sink]]
type = "esmond"
url = "{target}"
api_key = "{key}"
timeout = "5s"
quiet = "3s"
"""


class Killer:
    """Counts the requests that reach the target, and kills the process that sends them in the middle of one."""

    def __init__(self, target: str) -> None:
        self.target, self.count = target, Counter[str]()
        self.method, self.at = "", 0  # which request of which method it is
        self.stored_first = False
        self.late: threading.Timer | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._local = threading.local()

    def respond(self, asked: Any, answer: Any) -> Any:
        with self._lock:
            self.count[asked.method] += 1
            self.count["any"] += 1
            is_the_one = self.method in (asked.method, "any") and self.count[self.method] == self.at
        if not is_the_one:
            return self.pass_on(asked, answer)
        if self.stored_first:
            self.pass_on(asked, answer)
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if not self.stored_first:  # it came in, so it is carried out, if only when the next run is under way
            self.late = threading.Timer(0.9, self.pass_on, (asked, answer))
            self.late.start()
        return answer(close=True)

    def pass_on(self, asked: Any, answer: Any) -> Any:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        headers = {name: asked.headers[name] for name in ("Authorization", "Content-Type") if name in asked.headers}
        url = self.target + asked.path
        real = self._local.session.request(asked.method, url, params=asked.query, data=asked.body, headers=headers)
        return answer(real.status_code, real.content)


@dataclass
class Pipeline:
    """A pipeline file, run by a process of its own."""

    file: Path
    killer: Killer

    def run(self) -> int:
        """The exit code of a run."""
        command = [sys.executable, "-m", "esmond_etl", "run", str(self.file), "--quiet"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            self.killer.process = process
            print(process.communicate()[0].decode())
        return process.returncode


def measurements() -> Iterator[dict[str, Any]]:
    """A day of the sample, thinned out, with the tests of one-way delay run at ten sizes: most writes hold histograms."""
    for each in sample(days=1, hosts=2):
        points = {name: rows[::6] for name, rows in each["datapoints"].items()}
        sizes = range(10) if "histogram-owdelay" in points else [0]
        for size in sizes:
            yield {"metadata": each["metadata"] | {"sample-size": str(size)}, "datapoints": points}


@pytest.fixture
def pipeline(mirror: Any, serve: Any, answer: Any, tmp_path: Path) -> Pipeline:
    """A pipeline that mirrors a day; all requests to its target pass the killer."""
    mirror.load(*measurements())
    killer = Killer(mirror.target.url)
    url = serve(lambda asked: killer.respond(asked, answer)).url
    text = PIPELINE.format(start=START, end=START + 86400, source=mirror.source.url, target=url, key=mirror.target.token)
    file = tmp_path / "mirror.toml"
    file.write_text(text)
    return Pipeline(file, killer)


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_run_that_is_killed_and_run_again_makes_an_exact_copy(mirror: Any, pipeline: Pipeline, moment: int) -> None:
    killer = pipeline.killer
    half, killer.stored_first = moment // 2, moment % 4 < 2
    killer.method, killer.at = (
        ("any", 1 + half * REQUESTS * 2 // MOMENTS) if moment % 2 else ("PUT", 1 + half * PUTS * 2 // MOMENTS)
    )
    assert pipeline.run() == -signal.SIGKILL
    assert pipeline.run() == 0
    if killer.late:
        killer.late.join()
    assert mirror.copy == mirror.original


def test_a_run_sends_about_as_many_requests_as_the_moments_are_spread_over(mirror: Any, pipeline: Pipeline) -> None:
    assert pipeline.run() == 0
    assert mirror.copy == mirror.original
    asked = pipeline.killer.count.copy()
    # requests get smaller where the machine is slow
    assert REQUESTS <= asked["any"] < REQUESTS * 2
    assert PUTS <= asked["PUT"] < PUTS * 3
    assert pipeline.run() == 0
    assert pipeline.killer.count == asked, "nothing was left to do, and nothing was asked"
