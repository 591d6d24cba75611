"""Real InfluxDB and VictoriaMetrics, of Debian's packages, once for all tests of a process."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

Serve = Callable[[Callable[[Any], Any]], Any]


@contextmanager
def running(command: list[str], ready: str, log: Path) -> Iterator[None]:
    """Run a server while the context lasts; it has answered once when the context begins."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 30
        while not _answers(ready):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def installed(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="session")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of VictoriaMetrics that keeps the year 2013, and one value a second."""
    program, folder = installed("victoria-metrics"), tmp_path_factory.mktemp("victoria")
    address = f"127.0.0.1:{a_free_port()}"
    options = ["-retentionPeriod=100y", "-dedup.minScrapeInterval=1s", "-memory.allowedPercent=5"]
    command = [program, f"-storageDataPath={folder / 'data'}", f"-httpListenAddr={address}", *options]
    with running(command, f"http://{address}/health", folder / "log"):
        yield f"http://{address}"


@pytest.fixture(scope="session")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an InfluxDB 1.6: its storage and its parser are those of 1.8, but it has only the older write interface."""
    program, folder = installed("influxd"), tmp_path_factory.mktemp("influxd")
    address = f"127.0.0.1:{a_free_port()}"
    settings = f"""
        reporting-disabled = true
        bind-address = "127.0.0.1:{a_free_port()}"
        [meta]
        dir = "{folder}/meta"
        [data]
        dir = "{folder}/data"
        wal-dir = "{folder}/wal"
        [http]
        bind-address = "{address}"
        auth-enabled = false
        log-enabled = false
    """
    (folder / "influx.conf").write_text(settings)
    with running([program, "-config", str(folder / "influx.conf")], f"http://{address}/ping", folder / "log"):
        yield f"http://{address}"


@pytest.fixture
def influxdb(influxd: str, serve: Serve, answer: Any) -> str:
    """The URL of an InfluxDB as 1.8 is: its /api/v2/write is the older interface under another name, which is all that this adds."""
    requests.post(f"{influxd}/query", params={"q": "CREATE DATABASE perfsonar"}, timeout=30).raise_for_status()

    def respond(asked: Any) -> Any:
        if asked.path != "/api/v2/write":
            real = requests.get(influxd + asked.path, params=asked.query, timeout=30)
            return answer(real.status_code, real.content)
        database, _, policy = asked.query["bucket"].partition("/")
        params = {"db": database, "rp": policy, "precision": asked.query["precision"]}
        headers = {name: asked.headers[name] for name in ("Content-Encoding",) if name in asked.headers}
        real = requests.post(f"{influxd}/write", params=params, data=asked.body, headers=headers, timeout=30)
        return answer(real.status_code, real.content)

    url: str = serve(respond).url
    return url


@pytest.fixture
def free_port() -> int:
    """A port on which nothing listens."""
    return a_free_port()
