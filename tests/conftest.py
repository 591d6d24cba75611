"""Real servers on real sockets, for the tests of all folders."""

from __future__ import annotations

import faulthandler
import os
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import esmond_etl_archive
import pytest
import requests
from hypothesis import settings

settings.register_profile("whatever the machine is doing", deadline=None)
settings.load_profile("whatever the machine is doing")


#: A folder where the worker processes of this run write down where they were when they died.
CRASHES = "ESMOND_ETL_CRASHES"


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """A worker process that dies says where its threads were in a file: on standard error it is lost among the dots."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        faulthandler.enable(os.open(Path(os.environ[CRASHES], worker), os.O_WRONLY | os.O_CREAT))
    else:
        os.environ[CRASHES] = tempfile.mkdtemp(prefix="esmond-etl-crashes-")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show where the worker processes that died were."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    for file in sorted(Path(os.environ[CRASHES]).iterdir()):
        if text := file.read_text():
            terminalreporter.section(f"{file.name} died")
            terminalreporter.write_line(text)
        file.unlink()
    Path(os.environ[CRASHES]).rmdir()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where all servers must be there, a test that misses one has failed: CI would not notice a skip."""
    report = yield
    if os.environ.get("ESMOND_ETL_NOTHING_MISSING") and report.skipped and "is not installed" in str(report.longrepr):
        report.outcome = "failed"
    return report


class Asked(NamedTuple):
    """One request that came in."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    headers: dict[str, str]


class Answer(NamedTuple):
    """What goes back: a body shorter than `length` breaks off, `close` hangs up without a word."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})
    length: int | None = None
    close: bool = False


Respond = Callable[[Asked], Answer]


@dataclass
class Server:
    """A server in a thread of its own that answers as a function says."""

    url: str
    asked: list[Asked] = field(default_factory=list)

    def count(self, method: str = "GET", part: str = "") -> int:
        """How many requests have come with `part` in their path."""
        return sum(each.method == method and part in each.path for each in self.asked)


@contextmanager
def _serving(respond: Respond) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body go out together

        def _any(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, parts.path, dict(parse_qsl(parts.query)), body, dict(self.headers))
            server.asked.append(asked)
            answer = respond(asked)
            if answer.close:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            length = len(answer.body) if answer.length is None else answer.length
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = length != len(answer.body)

        do_GET = do_POST = do_PUT = _any  # noqa: N815

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server = Server(f"http://127.0.0.1:{httpd.server_address[1]}/")
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Respond], Server]]:
    """Starts a server that answers as the function it is given says."""
    with ExitStack() as stack:
        yield lambda respond: stack.enter_context(_serving(respond))


@pytest.fixture
def answer() -> type[Answer]:
    """What such a function returns."""
    return Answer


@pytest.fixture
def proxy(serve: Callable[[Respond], Server]) -> Callable[[str, Callable[[Asked, Answer], Answer]], Server]:
    """Starts a proxy to the archive at a URL; a function sees each request and the real answer, and says what goes back."""

    def start(target: str, meddle: Callable[[Asked, Answer], Answer]) -> Server:
        local = threading.local()

        def respond(asked: Asked) -> Answer:
            if not hasattr(local, "session"):
                local.session = requests.Session()
            headers = {name: each for name, each in asked.headers.items() if name.lower() in ("authorization", "content-type")}
            url = target.rstrip("/") + asked.path
            real = local.session.request(
                asked.method, url, params=asked.query, data=asked.body, headers=headers, allow_redirects=False
            )
            return meddle(asked, Answer(real.status_code, real.content))

        return serve(respond)

    return start


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Any]:
    """An empty embedded archive, served on loopback; its token is "secret"."""
    with esmond_etl_archive.serve(tmp_path / "archive.db", token="secret") as running:
        yield running


@pytest.fixture(scope="session")
def esnet() -> Path:
    """The file of real measurements, where it is there."""
    path = Path(__file__).parents[2] / "shared" / "data" / "esnet-2013.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path
