"""docs/schedule.md is true: its commands, its programs, its units, its metrics."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from esmond_etl.cli import run, verify
from esmond_etl.cli.metrics import Metrics

DOCS = Path(__file__).parents[1] / "docs"
SCHEDULE = (DOCS / "schedule.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", SCHEDULE, re.DOTALL | re.MULTILINE)


def test_every_metric_is_documented_and_there_is_no_other() -> None:
    metrics = Metrics([])
    found = {family.name for family in metrics._registry.collect() if family.name.startswith("esmond_etl")}
    counters = {family.name for family in metrics._registry.collect() if family.type == "counter"}
    documented = set(re.findall(r"`(esmond_etl_\w+)`", "".join(line for line in SCHEDULE.splitlines() if line.startswith("| `"))))
    assert documented == {f"{name}_total" if name in counters else name for name in found}


def test_every_command_line_is_one() -> None:
    commands: dict[str, Any] = {"run": run.command, "verify": verify.command}
    lines = re.findall(r"esmond-etl ((?:run|verify) .*?)(?:\"|\||$)", SCHEDULE, re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        name, *arguments = shlex.split(line)
        commands[name].make_context(name, arguments, resilient_parsing=False)


def test_the_programs_are_python() -> None:
    programs = blocks("python")
    assert [type(ast.parse(program)) for program in programs] == [ast.Module, ast.Module]


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    names = re.findall(r"/etc/systemd/system/([\w@.-]+)`", SCHEDULE)
    assert names == ["esmond-etl.service", "esmond-etl@.service", "esmond-etl@.timer"]
    for name, text in zip(names, blocks("ini"), strict=True):
        (tmp_path / name).write_text(text.replace("/opt/esmond-etl/bin/esmond-etl", "/bin/true"))
    for unit in ("esmond-etl.service", "esmond-etl@mirror.service", "esmond-etl@mirror.timer"):
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True, check=False, timeout=60
        )
        said = [line for line in done.stderr.splitlines() if "esmond-etl" in line]
        assert said == []
