"""A real OpenSearch of one node: built once from Maven's artifacts, started by those who need it."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path
from typing import IO, Any

import pytest

HERE = Path(__file__).parent / "opensearch"


class OpenSearch:
    """A server in a process of its own, that can be killed, stopped for a while, and started again with what it held."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; returns once it answers."""
        command = ["java", "-Xms256m", "-Xmx512m", "-cp", f"{_libraries()}/*", str(HERE / "Server.java")]
        arguments = [str(self.folder / "home"), str(self.port)]
        pipe: Any = subprocess.PIPE
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen([*command, *arguments], stdin=pipe, stdout=pipe, stderr=log, text=True)
        said = _first_url(self._process.stdout)
        assert said, f"OpenSearch did not start: {(self.folder / 'log').read_text()[-2000:]}"
        self.port = int(said.rpartition(":")[2])

    def kill(self) -> None:
        """End it at once."""
        if self._process:
            with self._process:  # it closes the pipes
                self._process.kill()


def _first_url(lines: IO[str] | None) -> str:
    return next((line.strip() for line in lines or () if line.startswith("http")), "")


def _libraries() -> Path:
    """The folder of what the server consists of; fetched if it is not there. Skips the test where that cannot be done."""
    if not shutil.which("java") or not shutil.which("mvn"):
        pytest.skip("Java or Maven is not installed: OpenSearch cannot be started")
    with (HERE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        libraries = HERE / "target" / "lib"
        if not (HERE / "target" / "complete").exists():
            command = ["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies"]
            done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"OpenSearch is not installed, and Maven cannot fetch it: {(done.stdout + done.stderr)[-300:]}")
            (HERE / "target" / "complete").touch()
    return libraries
