"""The files in pipelines/deploy: each stands in the documentation word for word, and its own kind of checker finds nothing wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "pipelines" / "deploy").iterdir())
UNITS = [file for file in FILES if file.suffix in (".service", ".timer")]


def tool(name: str) -> str:
    """Where `name` is, beside this Python or on the path; skips the test where it is not."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_documentation_shows_the_file_word_for_word(file: Path) -> None:
    blocks = re.findall(r"^```\w+\n(.*?)^```$", (ROOT / "docs" / "schedule.md").read_text(), re.S | re.M)
    assert file.read_text() in blocks


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_systemd_finds_nothing_wrong_with_the_unit(file: Path, tmp_path: Path) -> None:
    for each in UNITS:  # a timer is checked together with its service
        text = each.read_text().replace("/opt/esmond-etl/bin/esmond-etl", "/bin/true")  # what is to be run must be there
        (tmp_path / each.name.replace("@", "@mirror")).write_text(text)
    place = tmp_path / file.name.replace("@", "@mirror")
    done = subprocess.run([tool("systemd-analyze"), "verify", "--man=no", str(place)], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "esmond-etl" in line]) == (0, [])


def test_the_linter_finds_nothing_wrong_with_the_container_file() -> None:
    done = subprocess.run(
        [tool("hadolint"), str(ROOT / "pipelines" / "deploy" / "Containerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_cron_job_keeps_to_the_schema_of_kubernetes() -> None:
    command = [tool("kubernetes-validate"), "--strict", str(ROOT / "pipelines" / "deploy" / "cronjob.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
