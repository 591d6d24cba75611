"""The pipelines that are shipped: each can be loaded, says what it needs, and runs once its URLs are set."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest

from esmond_etl.cli import group
from esmond_etl.model.interval import moment
from esmond_etl.pipeline import file as config

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "pipelines"
FILES = sorted(FOLDER.glob("*.toml"))

#: Variable -> a value such as people give it; others get one that can be anything.
VALUES = {
    "SOURCE_URL": "https://archive.example.net/",
    "TARGET_URL": "https://new-archive.example.net/",
    "INFLUXDB_URL": "https://influxdb.example.net:8086",
    "OPENSEARCH_URL": "https://archive.example.net/opensearch",
    "TESTPOINT_URL": "https://testpoint.example.net/opensearch",
    "CENTRAL_URL": "https://archive.example.net/opensearch",
    "DATABASE_URL": "postgresql://perfsonar:pass@db.example.net/warehouse",
    "WAREHOUSE": "/data/perfsonar",
}


def variables(file: Path) -> set[str]:
    """The variables that a file needs: those in lines that are no comments."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return set(re.findall(r"\$\{(\w+)\}", "\n".join(lines)))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_has_no_mistake_once_its_variables_are_set(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables(file):
        monkeypatch.setenv(name, VALUES.get(name, "anything"))
    pipeline, problems = config.inspect(file)
    assert [problem for problem in problems if not problem.warning] == []
    assert pipeline is not None
    assert pipeline.sinks


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_says_what_it_is_for_and_how_each_variable_is_set(file: Path) -> None:
    comment = re.match(r"(#.*\n)+", file.read_text(encoding="utf-8"))
    assert comment
    assert f"esmond-etl run {file.name}" in comment[0]
    assert {name for name in variables(file) if f"{name}=" not in comment[0]} == set()


def ran(name: str, capsys: pytest.CaptureFixture[str], *commands: str) -> list[Any]:
    """What some commands printed about a pipeline; each must have ended with 0."""
    printed = []
    for command in commands:
        code = group.run([command, str(FOLDER / name), "--json"])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        printed.append(json.loads(captured.out))
    return printed


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what the pipelines write; their ledgers are there, too."""
    monkeypatch.setenv("ESMOND_ETL_LEDGER", str(tmp_path / "ledger"))
    return tmp_path


def test_an_archive_that_was_exported_to_parquet_is_put_back_into_a_new_one(
    at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with esmond_etl_archive.serve(at_home / "old.db") as old, esmond_etl_archive.serve(at_home / "new.db") as new:
        loaded = esmond_etl_archive.load(old.archive, esmond_etl_archive.sample(days=3, seed=1, hosts=3))
        monkeypatch.setenv("SOURCE_URL", old.url)
        monkeypatch.setenv("WAREHOUSE", str(at_home / "files"))
        monkeypatch.setenv("TARGET_URL", new.url)
        monkeypatch.setenv("TARGET_USER", "etl")
        monkeypatch.setenv("TARGET_KEY", new.token)
        exported, compared = ran("to-warehouse.toml", capsys, "run", "verify")
        assert (exported["written"], compared["equal"], compared["differing"]) == (loaded.written, loaded.written, [])
        restored, compared = ran("restore-from-parquet.toml", capsys, "run", "verify")
        assert (restored["written"], compared["equal"], compared["differing"]) == (loaded.written, loaded.written, [])
        mirrored, compared = ran("mirror.toml", capsys, "run", "verify")  # what is there already is found, value by value
        assert (mirrored["unchanged"], mirrored["written"], compared["differing"]) == (loaded.written, 0, [])


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_an_archive_becomes_rows_in_a_database(
    kind: str, at_home: Path, archive: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = esmond_etl_archive.load(archive.archive, esmond_etl_archive.sample(days=3, seed=1, hosts=3))
    monkeypatch.setenv("SOURCE_URL", archive.url)
    monkeypatch.setenv("DATABASE_URL", f"{kind}:{at_home}/out.db")
    delivered, compared = ran("to-sql.toml", capsys, "run", "verify")
    assert (delivered["written"], compared["equal"], compared["differing"]) == (loaded.written, loaded.written, [])


def test_a_first_look_is_a_table_of_the_days_of_last_month(
    at_home: Path, archive: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    midnight = int(time.time()) // 86400 * 86400
    esmond_etl_archive.load(archive.archive, esmond_etl_archive.sample(start=midnight - 7 * 86400, days=5, seed=1, hosts=2))
    monkeypatch.setenv("SOURCE_URL", archive.url)
    assert group.run(["run", str(FOLDER / "demo.toml")]) == 0
    head, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == ["time", "event_type", "source", "destination", "tool", "val"]
    rows = [row for row in rows if row not in ([], head)]  # a month may be two tasks, and so two tables
    days = Counter(row[0] for row in rows)
    assert days.keys() == {f"{moment(midnight - age * 86400)}T00:00:00Z" for age in range(3, 8)}
    assert len(set(days.values())) == 1
    assert all(row[1] == "throughput" and 1 < float(row[-1]) < 100 for row in rows), "Gbit/s"
