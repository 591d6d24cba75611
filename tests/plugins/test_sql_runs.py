"""Whole pipelines into SQL databases: verified, and killed with PostgreSQL at work."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as driver
import esmond_etl_archive
import pytest
from esmond_etl_archive import Running
from esmond_etl_archive.samples import START

pytestmark = pytest.mark.slow

DAYS = 3
TIME = f"from = {START}\nto = {START + DAYS * 86400}\n"


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An archive with some days of samples, and the summaries that it made of them."""
    with esmond_etl_archive.serve(tmp_path_factory.mktemp("archive") / "archive.db") as running:
        esmond_etl_archive.load(running.archive, esmond_etl_archive.sample(days=DAYS, seed=1))
        yield running


def pipeline(tmp_path: Path, archive: Running, url: str) -> Path:
    file = tmp_path / "to-sql.toml"
    source = f'[source]\ntype = "esmond"\nurl = "{archive.url}"\nsummaries = ["base", "average/3600", "statistics/3600"]\n'
    file.write_text(f'{TIME}window = "1d"\n{source}[[sink]]\ntype = "sql"\nurl = "{url}"\n')
    return file


def command(name: str, file: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "esmond_etl", name, *options, str(file)]


def ended(*arguments: Any) -> tuple[int, Any]:
    """How a command ended, and the JSON that it printed."""
    done = subprocess.run(command(*arguments, "--json"), capture_output=True, text=True, check=False, timeout=240)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


@pytest.mark.parametrize("kind", ["postgresql", "sqlite", "duckdb"])
def test_all_that_was_delivered_is_the_same_when_it_is_read_back(
    kind: str, tmp_path: Path, sampled: Running, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("database") if kind == "postgresql" else f"{kind}:{tmp_path}/out.db"
    file = pipeline(tmp_path, sampled, url)
    code, result = ended("run", file)
    assert (code, result["rejected"]) == (0, 0)
    code, compared = ended("verify", file)
    assert (code, compared["equal"], compared["differing"]) == (0, result["read"], [])
    assert result["read"] > 15_000


def test_tables_of_postgresql_belong_to_one_pipeline(tmp_path: Path, sampled: Running, database: str) -> None:
    first = pipeline(tmp_path, sampled, database)
    second = tmp_path / "second.toml"
    second.write_text(first.read_text())
    assert ended("run", first)[0] == 0
    for name, option in (("run", "--json"), ("check", "--connect")):
        done = subprocess.run(command(name, second, option), capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode != 0
        assert "this place belongs to the pipeline to-sql" in " ".join((done.stdout + done.stderr).split())
    assert ended("run", second, "--take-over")[0] == 0
    assert ended("run", first)[0] == 2


@pytest.mark.timeout(600)
def test_a_run_that_is_killed_at_any_statement_and_repeated_leaves_each_row_once(
    tmp_path: Path, sampled: Running, database: str
) -> None:
    file = pipeline(tmp_path, sampled, database)
    code, whole = ended("run", file)
    assert code == 0
    killed = [
        statement for statement in ("COPY", "delete", "insert", "COMMIT") for _ in range(2) if kill(file, database, statement)
    ]
    assert len(killed) >= 5, killed  # the others were over before they were seen
    code, again = ended("run", file, "--reload")
    assert (code, again["read"], again["rejected"]) == (0, whole["read"], 0)
    code, compared = ended("verify", file)
    assert (code, compared["equal"], compared["differing"]) == (0, whole["read"], [])


def kill(file: Path, database: str, statement: str) -> bool:
    """Deliver everything again, and kill that while PostgreSQL executes such a statement for it; whether it was seen."""
    seen = f"""
        select 1 from pg_stat_activity
        where application_name = 'esmond-etl' and state = 'active' and query ilike '{statement}%' and query not ilike '%pg_catalog%'
    """
    run = subprocess.Popen(command("run", file, "--reload", "--quiet"), stderr=subprocess.PIPE)
    with closing(driver.connect(database, autocommit=True)) as connection, connection.cursor() as cursor:
        while run.poll() is None:
            cursor.execute(seen)
            if cursor.fetchall():
                run.kill()
                break
    _, said = run.communicate(timeout=120)
    assert run.returncode in (0, -signal.SIGKILL), said
    return run.returncode == -signal.SIGKILL
