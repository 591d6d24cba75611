"""`esmond-etl run --every` in processes of its own: it goes on, one run at a time, until it is told to stop; Prometheus sees how."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

import esmond_etl_archive
import pytest
import requests
from esmond_etl_archive.samples import START
from prometheus_client.parser import text_string_to_metric_families

from esmond_etl.engine import files

pytestmark = pytest.mark.slow

DAY = 86400
SINK = '[[sink]]\ntype = "parquet"\npath = "{folder}/out"\n'


def pipeline(folder: Path, url: str, days: int = 2, rest: str = SINK) -> Path:
    file = folder / "p.toml"
    text = f'from = {START}\nto = {START + days * DAY}\n[source]\ntype = "esmond"\nurl = "{url}"\nretries = 0\n{rest}'
    file.with_suffix(".new").write_text(text.replace("{folder}", str(folder)))
    file.with_suffix(".new").rename(file)
    return file


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@dataclass
class Runs:
    """A process that goes on and on."""

    process: subprocess.Popen[str]
    lines: Queue[Any] = field(default_factory=Queue)

    def follow(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def next(self) -> Any:
        """The line of the next run."""
        line = self.lines.get(timeout=60)
        assert line, "it has ended"
        return line

    def until(self, condition: Callable[[Any], bool]) -> Any:
        """The line of the first run of which `condition` is true."""
        while not condition(line := self.next()):
            pass
        return line

    def stopped(self, number: signal.Signals) -> tuple[int, str]:
        """How it ended after a signal: its exit code and what it said."""
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stderr
        return code, self.process.stderr.read()


@contextmanager
def running(*arguments: Any) -> Iterator[Runs]:
    command = [sys.executable, "-m", "esmond_etl", "run", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        runs = Runs(process)
        thread = threading.Thread(target=runs.follow)
        thread.start()
        try:
            yield runs
        finally:
            process.kill()
            thread.join(30)


@pytest.fixture
def sampled(archive: Any) -> Any:
    esmond_etl_archive.load(archive.archive, esmond_etl_archive.sample(days=4, seed=1, hosts=2))
    return archive


def test_it_goes_on_until_it_is_told_to_stop_and_reads_its_file_anew(tmp_path: Path, sampled: Any) -> None:
    file = pipeline(tmp_path, sampled.url)
    with running("--every", "1s", file) as runs:
        first, second = runs.next(), runs.next()
        assert (first["complete"], first["read"] > 0, second["complete"], second["read"]) == (True, True, True, 0)
        assert second["started"] - first["started"] >= 1
        pipeline(tmp_path, sampled.url, days=4)
        later = runs.until(lambda line: line["read"] > 0)
        assert (later["complete"], later["to"]) == (True, START + 4 * DAY)
        assert runs.stopped(signal.SIGTERM) == (0, "stopping: what is in flight is finished or rolled back ...\n")


def test_what_goes_wrong_in_one_run_does_not_end_it(tmp_path: Path) -> None:
    port = free_port()
    file = pipeline(tmp_path, f"http://127.0.0.1:{port}/")
    with running("--every", "1s", file) as runs:
        down = runs.next()
        assert (down["pipeline"], down["complete"], "Connection refused" in down["error"]) == ("p", False, True)
        with esmond_etl_archive.serve(tmp_path / "archive.db", port) as archive:
            esmond_etl_archive.load(archive.archive, esmond_etl_archive.sample(days=2, seed=1, hosts=2))
            assert runs.until(lambda line: line["complete"] and line["read"] > 0)["failures"] == {}
            runs.until(
                lambda line: line["complete"] and line["read"] == 0
            )  # the first one may have come while the archive was filled
            file.write_text("from = \n")
            assert ":1:8: not TOML" in runs.until(lambda line: not line["complete"])["error"]
            pipeline(tmp_path, archive.url)
            assert runs.until(lambda line: line["complete"])["read"] == 0
            with files.lock(tmp_path / ".esmond-etl" / "p.lock"):
                assert "another run is under way" in runs.until(lambda line: not line["complete"])["error"]
            assert runs.until(lambda line: line["complete"])["read"] == 0
            assert runs.stopped(signal.SIGINT)[0] == 0


def test_a_run_that_takes_longer_than_the_pause_is_not_overtaken(tmp_path: Path, serve: Any, answer: Any) -> None:
    lock, at_once, most = threading.Lock(), 0, 0

    def respond(asked: Any) -> Any:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(2.5)  # in which two more runs would be due
        with lock:
            at_once -= 1
        return answer(200, b"[]")

    with running("--every", "1s", pipeline(tmp_path, serve(respond).url)) as runs:
        lines = [runs.next(), runs.next()]
        assert [line["complete"] for line in lines] == [True, True]
        assert lines[1]["started"] >= lines[0]["started"] + 2
        assert most == 1
        runs.stopped(signal.SIGTERM)


def test_a_signal_in_the_midst_of_a_run_ends_it(tmp_path: Path, sampled: Any, proxy: Any) -> None:
    asked_for_data, go_on = threading.Event(), threading.Event()

    def meddle(asked: Any, real: Any) -> Any:
        if "/base" in asked.path:
            asked_for_data.set()
            go_on.wait(200)  # on a machine that is busy with other things, half a minute is not enough
        return real

    with running("--every", "1h", pipeline(tmp_path, proxy(sampled.url, meddle).url)) as runs:
        assert asked_for_data.wait(200)
        runs.process.send_signal(signal.SIGTERM)
        assert runs.process.stderr
        assert runs.process.stderr.readline().startswith("stopping")  # it has heard of it
        go_on.set()
        line = runs.next()
        assert (line["complete"], line["stopped"], line["written"]) == (False, True, 0)
        assert runs.process.wait(30) == 0


def test_prometheus_is_told_what_the_lines_say_and_what_the_ledger_knows(tmp_path: Path, sampled: Any) -> None:
    (tmp_path / "odd.py").write_text("def nothing(point):\n    return point._replace(val=float('nan'))\n")
    rest = f'[[transform]]\ntype = "python"\nevent_types = ["packet-count-lost"]\ncall = "odd:nothing"\npath = "{tmp_path}"\n'
    file = pipeline(tmp_path, sampled.url, rest=f'{rest}[[sink]]\ntype = "sql"\nurl = "sqlite:{tmp_path}/out.db"\n{SINK}')
    port = free_port()
    with running("--every", "1h", "--metrics-port", port, file) as runs:
        line = runs.next()
        told = scraped(port)
        runs.stopped(signal.SIGTERM)
    assert line["rejected"] > 0
    for label in ("sink[0] (sql)", "sink[1] (parquet)"):
        assert told["rejects_total", "p", label] == line["sinks"][label]["rejected"]
        assert told["datapoints_total", "p", label, "written"] == line["sinks"][label]["written"] > 0
    assert told["datapoints_read_total", "p"] == line["read"]
    assert told["requests_total", "p"] == line["requests"]
    assert [told["runs_total", "p", outcome] for outcome in ("complete", "incomplete", "failed")] == [0, 1, 0]
    assert ("last_success_timestamp_seconds", "p") not in told
    assert told["lag_seconds", "p"] == pytest.approx(time.time() - START, abs=60)  # nothing has been delivered whole

    pipeline(tmp_path, sampled.url)
    for _ in range(2):  # the second process knows of the first by the ledger
        with running("--every", "1h", "--metrics-port", port, file) as runs:
            before = scraped(port, wait=True)
            line, now = runs.next(), time.time()
            told = scraped(port)
            runs.stopped(signal.SIGTERM)
        assert line["started"] <= told["last_success_timestamp_seconds", "p"] <= now + 1
        assert told["lag_seconds", "p"] == pytest.approx(now - (START + 2 * DAY), abs=60)
    assert before["lag_seconds", "p"] > 0


def scraped(port: int, wait: bool = False) -> dict[tuple[str, ...], float]:
    """What Prometheus would know after asking: name and labels -> value."""
    deadline = time.monotonic() + 30
    while True:
        try:
            text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
            break
        except requests.ConnectionError:
            assert wait and time.monotonic() < deadline
            time.sleep(0.02)
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    order = ("pipeline", "sink", "outcome")
    return {
        (sample.name.removeprefix("esmond_etl_"), *(sample.labels[name] for name in order if name in sample.labels)): sample.value
        for sample in samples
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--every", "often"], "'often' is not a duration"),
        (["--every", "0s"], "must be longer than 0"),
        (["--metrics-port", "9999"], "--metrics-port needs --every"),
        (["--every", "1s", "--reload"], "leave out --every or --reload"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: list[str], said: str) -> None:
    with running(*options, pipeline(tmp_path, "http://127.0.0.1:1/")) as runs:
        assert runs.process.stderr
        assert (runs.process.wait(30), said in " ".join(runs.process.stderr.read().split())) == (2, True)


def test_a_port_that_is_taken_and_a_file_that_is_wrong_are_said_at_once(tmp_path: Path) -> None:
    file = pipeline(tmp_path, "http://127.0.0.1:1/")
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with running("--every", "1s", "--metrics-port", port, file) as runs:
            assert runs.process.stderr
            said = f"esmond-etl: --metrics-port {port}: Address already in use: choose another port\n"
            assert (runs.process.wait(30), runs.process.stderr.read()) == (2, said)
    file.write_text("from = 1\n")
    with running("--every", "1s", file) as runs:
        assert runs.process.wait(30) == 2


def test_without_prometheus_client_it_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = None; from esmond_etl.cli import group; sys.exit(group.run(sys.argv[1:]))"
    )
    arguments = ["run", "--every", "1s", "--metrics-port", str(free_port()), str(pipeline(tmp_path, "http://127.0.0.1:1/"))]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=30)
    said = "esmond-etl: --metrics-port needs prometheus-client: pip install 'esmond-etl[metrics]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
