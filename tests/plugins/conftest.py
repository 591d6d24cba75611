"""One archive mirrored into another, both real and on real sockets; and a real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any
from uuid import uuid4

import esmond_etl_archive
import msgspec
import pyarrow.fs as pafs
import pytest
from esmond_etl_archive import Running
from esmond_etl_archive.samples import START
from esmond_etl_esmond.sink import EsmondSink
from esmond_etl_esmond.source import EsmondSource

from esmond_etl import Context, Interval, Receipt, Series, Task, event_type
from esmond_etl.client.archive import Archive
from esmond_etl.client.reading import Reader
from tests.servers.influx import free_port, influxd, influxdb, victoria  # noqa: F401
from tests.servers.opensearch_node import OpenSearch

DAY = 86400
TIME = Interval(START, START + 4 * DAY)

Contents = dict[str, dict[str, list[tuple[int, Any]]]]


@dataclass
class Mirror:
    """A source archive, a target archive, and what the sink notes between runs."""

    source: Running
    target: Running
    time: Interval = TIME
    memory: dict[str, str] = field(default_factory=dict)

    def load(self, *records: dict[str, Any]) -> None:
        """Fill the source."""
        esmond_etl_archive.load(self.source.archive, records)

    def metadata(self, *event_types: str, **parameters: Any) -> dict[str, Any]:
        """Metadata between two hosts, with every summary that its event types may have at windows of an hour and a day."""
        return {
            "subject-type": "point-to-point",
            "source": "192.0.2.1",
            "destination": "2001:db8::2",
            "measurement-agent": "192.0.2.1",
            "tool-name": "pscheduler/powstream",
            "input-source": "a.example.net",
            "input-destination": "b.example.net",
            **parameters,
            "event-types": [{"event-type": name, "summaries": _summaries(name)} for name in event_types],
        }

    @contextmanager
    def sink(self, url: str = "", token: str = "", source: Any = None, **options: Any) -> Iterator[EsmondSink]:
        """The sink, open: a new one, as in a new process that has the same notes."""
        options = {"timeout": 2, "backoff": 0.01, "quiet": 1, **options}
        sink = EsmondSink(url=url or self.target.url, username="mirror", api_key=token or self.target.token, **options)
        sink.open(Context("mirror", 4, self.memory, source))
        try:
            yield sink
        finally:
            sink.close()

    @contextmanager
    def reading(self, **options: Any) -> Iterator[EsmondSource]:
        """The source, open."""
        source = EsmondSource(url=self.source.url, **options)
        source.open(Context("mirror", 4))
        try:
            yield source
        finally:
            source.close()

    def run(self, url: str = "", interval: Interval | None = None, selected: Any = None, **options: Any) -> Receipt:
        """Mirror `interval` in one task, as a run does it."""
        with self.reading(event_types=selected) as source, self.sink(url, source=source, **options) as sink:
            return self.deliver(source, sink, interval or self.time)

    def deliver(self, source: Any, sink: EsmondSink, interval: Interval) -> Receipt:
        """Deliver one task of all series that `source` offers, read by several threads."""
        series = tuple(source.series(interval))
        load = sink.begin(Task(series, interval, DAY))

        def move(each: Series) -> None:
            for batch in source.read(each, interval):
                load.write(batch)
            load.end(each)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(move, series))
        return load.commit()

    @property
    def copy(self) -> Contents:
        """All that the target holds."""
        return contents(self.target)

    @property
    def original(self) -> Contents:
        """All that the source holds."""
        return contents(self.source)

    @property
    def asked(self) -> Counter[str]:
        """The requests to the target since this was last asked."""
        new = self.target.requests.copy()
        self.target.requests.clear()
        return new


def _summaries(name: str) -> list[dict[str, Any]]:
    kinds = event_type(name).summaries
    found = [{"summary-type": kind, "summary-window": window} for kind in kinds for window in (3600, DAY)]
    return [*found, {"summary-type": "statistics", "summary-window": 0}] if "statistics" in kinds else found


def contents(running: Running) -> Contents:
    """All that an archive holds, summaries included, by metadata without what archives make up."""
    archive = Archive(running.url)
    reader = Reader(archive)
    found = {
        msgspec.json.encode(_sorted(entry.to_json()), order="sorted").decode(): {
            f"{series.event_type}/{series.summary}": [
                tuple(point) for batch in reader.datapoints(series, Interval(0, 2**32)) for point in batch.to_points()
            ]
            for series in entry.series()
        }
        for entry in reader.metadata({})
    }
    archive.close()
    return found


def _sorted(entry: dict[str, Any]) -> dict[str, Any]:
    for each in entry["event-types"]:
        each["summaries"].sort(key=str)
    entry["event-types"].sort(key=str)
    return entry


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    """Two empty archives."""
    with ExitStack() as stack:
        source, target = (stack.enter_context(esmond_etl_archive.serve(tmp_path / f"{name}.db")) for name in ("source", "target"))
        yield Mirror(source, target)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server of its own, without the database: Debian's, not run by root."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        pytest.skip("PostgreSQL is not installed")
    if os.getuid() == 0 and not (shutil.which("setpriv") and "postgres" in {each.pw_name for each in pwd.getpwall()}):
        pytest.skip("PostgreSQL cannot be run by root, and there is no user postgres, or no setpriv")
    other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    with TemporaryDirectory(prefix="pg") as folder:  # a path short enough for a socket
        if other:
            shutil.chown(folder, "postgres", "postgres")
        make = [f"{programs[-1]}/initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "perfsonar", "--no-sync", "-E", "UTF8"]
        subprocess.run([*other, *make, "--locale=C.UTF-8"], check=True, capture_output=True, cwd=folder)
        start = [f"{programs[-1]}/postgres", "-D", f"{folder}/data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        with (
            Path(folder, "log").open("wb") as log,
            subprocess.Popen([*other, *start], stdout=log, stderr=log, cwd=folder) as server,
        ):
            try:
                ask = [f"{programs[-1]}/pg_isready", "-q", "-h", folder]
                deadline = time.monotonic() + 30
                while subprocess.run(ask, check=False).returncode:
                    assert server.poll() is None, Path(folder, "log").read_text()
                    assert time.monotonic() < deadline, Path(folder, "log").read_text()
                    time.sleep(0.02)
                yield f"postgresql://perfsonar@/?host={folder}"
            finally:
                server.send_signal(signal.SIGINT)  # lets nobody finish
                server.wait(30)


@pytest.fixture
def database(postgresql: str) -> str:
    """The URL of an empty database of that server."""
    import adbc_driver_postgresql.dbapi as driver

    name = f"db{uuid4().hex}"
    with driver.connect(postgresql.replace("/?", "/postgres?"), autocommit=True) as server, server.cursor() as cursor:
        cursor.execute(f"create database {name}")
    return postgresql.replace("/?", f"/{name}?")


@pytest.fixture(scope="session")
def opensearch_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearch]:
    """A real OpenSearch, which the tests of one process share: keys of tests and names of streams keep them apart."""
    node = OpenSearch(tmp_path_factory.mktemp("opensearch"))
    node.start()
    try:
        yield node
    finally:
        node.kill()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server in a process of its own."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            deadline = time.monotonic() + 60
            while not (found := re.search(rb"http://(127\.0\.0\.1:\d+)", os.pread(log.fileno(), 10_000, 0))):
                assert server.poll() is None, os.pread(log.fileno(), 10_000, 0)
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield found[1].decode()
        finally:
            server.kill()


@pytest.fixture
def s3(s3_server: str) -> str:
    """The URL of an empty bucket; what else belongs to a URL there stands after its `?`."""
    options = f"endpoint_override={s3_server}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    bucket = f"bucket{uuid4().hex}"
    fs, _ = pafs.FileSystem.from_uri(f"s3://key:secret@{bucket}?{options}")
    fs.create_dir(bucket)
    return f"s3://key:secret@{bucket}/out?{options}"
