"""Tasks on a real Dask cluster: a scheduler and workers in processes of their own, some of which get killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from esmond_etl_archive.samples import START

import esmond_etl
from esmond_etl import Interval, Task
from esmond_etl.engine import remote
from esmond_etl.pipeline import file

pytestmark = pytest.mark.slow

DAY = 86400

#: Of five, four hit a worker and one the driver.
KILLS = int(os.environ.get("ESMOND_ETL_KILLS", "5"))


class Cluster:
    """A scheduler and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        self.scheduler, said = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.address = said

    def _start(self, *arguments: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "dask", *arguments]
        log = (self.folder / f"log{len(self.processes)}").open("w+")
        process = subprocess.Popen(command, stdout=log, stderr=log, text=True, cwd=self.folder, env={**os.environ, **environment})
        self.processes.append(process)
        path = Path(log.name)
        while not (found := re.search(r"(?:Scheduler at:|Registered to:)\s+(tcp://\S+)", path.read_text())):
            assert process.poll() is None, path.read_text()
            threading.Event().wait(0.05)
        return process, found[1]

    def worker(self, **environment: str) -> subprocess.Popen[str]:
        """A further worker, of one thread; returns once it has registered."""
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
        return self._start("worker", self.address, *options, **environment)[0]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    started = Cluster(folder)
    yield started
    started.close()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Any]:
    store = esmond_etl_archive.Archive(tmp_path / "source.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=4, hosts=3))
    with esmond_etl_archive.serve(store, token="s3cret") as running:
        yield running


def pipeline(folder: Path, source: str, sink: str, rate: int | None = None, **more: str) -> Path:
    path = folder / "p.toml"
    settings = {"name": '"p"', "from": START, "to": START + 5 * DAY, "window": '"6h"', **more}
    lines = [f"{key} = {value}" for key, value in settings.items()]
    lines += ["[source]", 'type = "esmond"', f'url = "{source}"', *([f"rate = {rate}"] if rate else []), f"[[sink]]\n{sink}", ""]
    path.write_text("\n".join(lines))
    return path


PARQUET = 'type = "parquet"\npath = "out"\nshared_disk = true\n'


def command(path: Path, cluster: Cluster, *options: str) -> list[str]:
    return [sys.executable, "-m", "esmond_etl", "run", str(path), "--executor", "dask", "--scheduler", cluster.address, *options]


def ran(path: Path, cluster: Cluster, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(path, cluster, *options), capture_output=True, text=True, check=False)


def is_whole(path: Path) -> bool:
    found = esmond_etl.load(path).verify()
    return len(found) > 20 and all(each.same for each in found) and sum(each.equal for each in found) > 10_000


def test_workers_deliver_what_one_process_would(cluster: Cluster, source: Any, tmp_path: Path) -> None:
    for _ in range(2):
        cluster.worker()
    path = pipeline(tmp_path, source.url, PARQUET)
    done = ran(path, cluster)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert is_whole(path)
    assert "0 datapoints" in ran(path, cluster).stdout


def test_a_run_goes_on_for_longer_than_its_workers_take_to_ask_whether_to_stop(
    cluster: Cluster, source: Any, tmp_path: Path
) -> None:
    cluster.worker()
    path = pipeline(tmp_path, source.url, PARQUET, rate=20)
    began = time.monotonic()
    done = ran(path, cluster)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert time.monotonic() - began > source.requests.total() / 20 > 3 * remote._OFTEN


def test_a_worker_closes_what_it_has_opened(source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_OFTEN", 0.01)
    stopped = threading.Event()
    definition = file.load(pipeline(tmp_path, source.url, PARQUET))
    job = remote.job(definition, 1, stopped.is_set)
    assert remote.deliver(job, Task((), Interval(START, START + DAY), DAY)).receipts == {}
    ledger = remote._here[job.name].ledger
    assert ledger.failures() == {}
    stopped.set()
    for thread in threading.enumerate():
        if thread.name == "stop":
            thread.join(30)
    assert job.name not in remote._here
    with pytest.raises(esmond_etl.EsmondEtlError, match="closed"):
        ledger.failures()


def test_workers_and_the_driver_that_are_killed_leave_everything_there_once(cluster: Cluster, source: Any, tmp_path: Path) -> None:
    workers = [cluster.worker() for _ in range(2)]
    path = pipeline(tmp_path, source.url, PARQUET)
    assert ran(path, cluster).returncode == 0
    total = source.requests.total()
    codes = Counter[int]()
    for kill in range(KILLS):
        source.requests.clear()
        with subprocess.Popen(command(path, cluster, "--reload"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            deadline = time.monotonic() + 60
            while run.poll() is None and source.requests.total() < 2 + kill * (total - 2) // KILLS:
                assert time.monotonic() < deadline, f"run {kill} hangs"
                threading.Event().wait(0.01)
            victim = run if kill % 5 == 4 else workers.pop(0)
            victim.send_signal(signal.SIGKILL)
            if victim is not run:
                workers.append(cluster.worker())
            codes[run.wait(120)] += 1
    assert codes.keys() <= {0, 1, -signal.SIGKILL}
    assert codes[-signal.SIGKILL] > 0
    assert ran(path, cluster).returncode == 0
    assert is_whole(path)


def test_a_run_whose_scheduler_is_killed_ends_and_the_next_one_finishes(cluster: Cluster, source: Any, tmp_path: Path) -> None:
    cluster.worker()
    path = pipeline(tmp_path, source.url, PARQUET)
    with subprocess.Popen(command(path, cluster), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        while run.poll() is None and not source.requests:
            threading.Event().wait(0.01)
        cluster.scheduler.kill()
        _, said = run.communicate(timeout=200)
    assert run.returncode in (0, 1)
    assert "Traceback" not in said
    assert esmond_etl.load(path).run().complete
    assert is_whole(path)


def test_secrets_stay_where_they_are(cluster: Cluster, source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_KEY", "s3cret")
    path = pipeline(tmp_path, source.url, PARQUET)
    path.write_text(path.read_text().replace("[[sink]]", 'username = "u"\napi_key = "${ARCHIVE_KEY}"\n[[sink]]'))
    monkeypatch.delenv("ARCHIVE_KEY")
    lacking = cluster.worker()
    monkeypatch.setenv("ARCHIVE_KEY", "s3cret")
    done = ran(path, cluster)
    assert done.returncode != 0
    assert "the environment has no variable ARCHIVE_KEY" in done.stderr
    assert "Traceback" not in done.stderr
    lacking.kill()
    cluster.worker(ARCHIVE_KEY="s3cret")
    assert ran(path, cluster).returncode == 0

    job = remote.job(esmond_etl.load(path).definition, 1, bool)
    assert "s3cret" not in repr(job)


@pytest.mark.parametrize("sink", ['type = "stdout"', 'type = "parquet"\npath = "out"', 'type = "sql"\nurl = "sqlite:x.db"'])
def test_sinks_that_one_host_alone_can_write_to_are_refused_before_anything_is_read(
    cluster: Cluster, source: Any, tmp_path: Path, sink: str
) -> None:
    cluster.worker()
    source.requests.clear()
    done = ran(pipeline(tmp_path, source.url, sink), cluster)
    assert done.returncode == 2
    assert "cannot be delivered to from several hosts at once" in done.stderr
    assert not source.requests


def test_a_scheduler_that_is_not_there_or_has_no_workers_is_named(cluster: Cluster, source: Any, tmp_path: Path) -> None:
    path = pipeline(tmp_path, source.url, PARQUET)
    done = ran(path, cluster)
    assert (done.returncode, "has no workers" in done.stderr) == (1, True)
    without = subprocess.run(
        [sys.executable, "-m", "esmond_etl", "run", str(path), "--executor", "dask"], capture_output=True, text=True, check=False
    )
    assert (without.returncode, "--scheduler tcp://HOST:8786" in without.stderr) == (2, True)
    other = subprocess.run(
        [sys.executable, "-m", "esmond_etl", "run", str(path), "--executor", "ray"], capture_output=True, text=True, check=False
    )
    assert (other.returncode, "known are threads, processes, dask" in other.stderr) == (2, True)
