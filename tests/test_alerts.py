"""What monitoring is told: a line for Nagios, a table of several pipelines, and a POST when a run falls short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from esmond_etl_archive.samples import START

from esmond_etl.cli.group import run

DAY = 86400


@pytest.fixture
def pipelines(archive: Any, tmp_path: Path) -> list[str]:
    """Two pipelines: of an archive with samples, and of one that is not there."""
    esmond_etl_archive.load(archive.archive, esmond_etl_archive.sample(days=1, hosts=2))
    paths = []
    for name, url in (("good", archive.url), ("bad", "http://127.0.0.1:9/")):
        path = tmp_path / f"{name}.toml"
        path.write_text(
            f'name = "{name}"\nfrom = {START}\nto = {START + DAY}\n[source]\ntype = "esmond"\nurl = "{url}"\nretries = 0\n'
            f'[[sink]]\ntype = "parquet"\npath = "out-{name}"\n'
        )
        paths.append(str(path))
    return paths


def nagios(capsys: pytest.CaptureFixture[str], *paths: str) -> tuple[int, str]:
    code = run(["status", *paths, "--nagios"])
    return code, capsys.readouterr().out


def test_a_line_for_nagios_says_how_it_is(pipelines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = pipelines
    assert nagios(capsys, good)[0] == 2  # it never ran
    assert run(["run", good, "--quiet"]) == 0
    code, line = nagios(capsys, good)
    assert (code, line.startswith("ESMOND-ETL OK: "), line.count("\n")) == (0, True, 1)
    assert "| failed=0 rejected=0 series=" in line
    code, line = nagios(capsys, good, bad)
    assert (code, "CRITICAL: bad never ran" in line) == (2, True)


def test_several_pipelines_are_one_table(pipelines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(["run", pipelines[0], "--quiet"])
    assert run(["status", *pipelines]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "pipeline"
    assert (first.split()[0], second.split()[:2]) == ("good", ["bad", "never"])
    assert run(["status", *pipelines, "--json"]) == 0
    assert [each["pipeline"] for each in json.loads(capsys.readouterr().out)] == ["good", "bad"]


def test_somebody_is_told_of_a_run_that_falls_short(
    archive: Any, pipelines: list[str], serve: Any, answer: Any, proxy: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[dict[str, Any]] = []

    def respond(asked: Any) -> Any:
        told.append(json.loads(asked.body))
        return answer(503 if len(told) == 1 else 204)

    hook = serve(respond)
    good = Path(pipelines[0])
    broken = proxy(archive.url, lambda asked, real: answer(400, b"{}") if "/failures/" in asked.path else real)
    text = good.read_text().replace(f"to = {START + DAY}\n", f'to = {START + DAY}\non_failure = "{hook.url}"\n')
    good.write_text(text.replace(archive.url, broken.url))
    assert run(["run", str(good), "--quiet"]) == 1
    assert [each["pipeline"] for each in told] == ["good", "good"]  # tried again after the 503
    assert told[-1]["complete"] is False
    good.write_text(text)
    assert run(["run", str(good), "--quiet"]) == 0
    assert len(told) == 2
    capsys.readouterr()
