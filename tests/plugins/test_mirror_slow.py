"""A target as slow as a real esmond, which goes on with requests whose sender has gone: nothing is added up twice.

The target is a process of its own, so that it can be frozen and outlives the runs, which are killed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from esmond_etl_archive.samples import START, sample

from esmond_etl.client.archive import Archive
from esmond_etl.client.reading import Reader
from esmond_etl.model.interval import Interval

pytestmark = pytest.mark.slow

TOKEN = "secret"
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
KILLS = int(os.environ.get("ESMOND_ETL_KILLS", "3"))
WAITING = "an earlier request may still be at work in the archive: waiting until"
PIPELINE = """
name = "slow"
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
api_key = "secret"
timeout = "{timeout}s"
quiet = "{quiet}s"
"""


@pytest.fixture
def source(tmp_path: Path) -> Iterator[str]:
    """The URL of an archive with some thousand numbers and histograms."""
    store = esmond_etl_archive.Archive(tmp_path / "source.db")
    esmond_etl_archive.load(store, sample(days=1, hosts=2))
    with esmond_etl_archive.serve(store, token=TOKEN) as running:
        yield running.url
    store.close()


@contextmanager
def slow_target(file: Path, speed: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An archive that writes so many values a second, in a process of its own, and its URL."""
    command = [
        sys.executable,
        "-m",
        "esmond_etl_archive",
        "serve",
        str(file),
        "--port",
        "0",
        "--token",
        TOKEN,
        "--slow",
        str(speed),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as started:
        assert started.stdout
        try:
            yield started, started.stdout.readline().split()[-1].partition("/esmond")[0]
        finally:
            started.send_signal(signal.SIGCONT)
            started.kill()


def pipeline(folder: Path, source: str, target: str, timeout: int = 5, quiet: int = 2) -> Path:
    file = folder / "slow.toml"
    file.write_text(PIPELINE.format(start=START, end=START + 86400, source=source, target=target, timeout=timeout, quiet=quiet))
    return file


def start(file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "esmond_etl", "run", str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)


def held(url: str) -> dict[tuple[str, ...], list[tuple[int, Any]]]:
    """Every base datapoint of an archive, by what was measured: keys differ from archive to archive."""
    archive = Archive(url)
    reader = Reader(archive)
    found: dict[tuple[str, ...], list[tuple[int, Any]]] = {}
    for entry in reader.metadata({}):
        for series in entry.series():
            if str(series.summary) == "base":
                about = str(sorted(entry.parameters.items()))
                name = (str(entry.source), str(entry.destination), str(entry.tool_name), about, series.event_type)
                found[name] = [point for batch in reader.datapoints(series, Interval(0, 2**32)) for point in batch.to_points()]
    archive.close()
    return found


def test_killed_and_started_again_at_once_nothing_is_added_up_twice(source: str, tmp_path: Path) -> None:
    with slow_target(tmp_path / "target.db", 400) as (_, target):
        file = pipeline(tmp_path, source, target)
        said, kills, later = "", 0, 0.0
        while kills < KILLS or WAITING not in said:
            run = start(file)
            with suppress(subprocess.TimeoutExpired):
                run.communicate(timeout=1.2 + 0.37 * (kills % 5) + later)
            run.kill()
            said += run.communicate()[0]
            kills += 1
            later += 0.0 if WAITING in said else 0.5  # on a busy machine, the first request is sent later
            assert kills < KILLS + 20, said
        run = start(file)
        said += run.communicate(timeout=200)[0]
        assert run.returncode == 0, said
        assert held(target) == held(source)


@pytest.mark.parametrize("times", [2, 4])
def test_a_target_that_freezes_and_goes_on_has_everything_once(source: str, tmp_path: Path, times: int) -> None:
    with slow_target(tmp_path / "target.db", 800) as (process, target):
        run = start(pipeline(tmp_path, source, target, timeout=1, quiet=1))
        threading.Timer(1.2, process.send_signal, (signal.SIGSTOP,)).start()
        threading.Timer(1.2 + times, process.send_signal, (signal.SIGCONT,)).start()
        said = run.communicate(timeout=200)[0]
        assert run.returncode == 0, said
        assert held(target) == held(source)


def test_a_proxy_that_holds_requests_back_doubles_nothing(source: str, tmp_path: Path) -> None:
    with slow_target(tmp_path / "target.db", 1000) as (_, target), holding(target, 3.0, every=7) as proxy:
        run = start(pipeline(tmp_path, source, proxy, timeout=1, quiet=1))
        said = run.communicate(timeout=200)[0]
        assert run.returncode == 0, said
        assert held(target) == held(source)


@contextmanager
def holding(target: str, seconds: float, every: int) -> Iterator[str]:
    """A proxy that passes one connection in `every` on after some seconds, whether its client still waits or not."""
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    host, port = target.removeprefix("http://").split(":")
    over = threading.Event()
    count = 0

    def serve() -> None:
        nonlocal count
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            count += 1
            threading.Thread(target=relay, args=(client, seconds if count % every == 0 else 0.0), daemon=True).start()

    def relay(client: socket.socket, pause: float) -> None:
        with client, socket.create_connection((host, int(port))) as there:
            back = threading.Thread(target=copy, args=(there, client, 0.0), daemon=True)
            back.start()
            copy(client, there, pause)
            back.join()

    def copy(source: socket.socket, sink: socket.socket, pause: float) -> None:
        try:
            while data := source.recv(1 << 20):
                over.wait(pause)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        over.set()
        server.close()
