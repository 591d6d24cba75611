"""`check --connect`: what each stage says when it is tried, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from esmond_etl_influxdb.sink import InfluxDBSink
from pydantic import ValidationError

from esmond_etl import Context
from esmond_etl.cli.group import run
from esmond_etl.testing import CollectedSink

HEAD = 'from = 2014-01-01\nto = 2014-01-03\n[source]\ntype = "esmond"\nretries = 0\nurl = "{}"\n'

CLOSED = "http://127.0.0.1:1/"

Connect = Callable[..., tuple[int, dict[str, tuple[str | None, str | None, str]]]]


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Connect:
    """What `check --connect` ends with for a source and further tables, and what it says of each stage: error, warning, all else."""
    monkeypatch.chdir(tmp_path)

    def connected(url: str, *tables: str) -> tuple[int, dict[str, tuple[str | None, str | None, str]]]:
        Path("x.toml").write_text(HEAD.format(url) + "\n".join(tables))
        code = run(["check", "--connect", "--json", "x.toml"])
        stages = json.loads(capsys.readouterr().out)["connected"][0]["stages"]
        return code, {each["where"]: (each["error"], each["warning"], each["said"]) for each in stages}

    return connected


@pytest.fixture
def filled(archive: Any) -> Any:
    """An archive with one series."""
    entry = {"source": "192.0.2.1", "measurement-agent": "192.0.2.1", "tool-name": "t", "subject-type": "point-to-point"}
    types = [{"event-type": "throughput"}]
    record = {"metadata": {**entry, "destination": "192.0.2.2", "event-types": types}, "datapoints": {"throughput": []}}
    esmond_etl_archive.load(archive.archive, [record])
    return archive


@pytest.mark.parametrize("host", ["h:port", "h:99999", "...", "in flux.example.net", "[::1"])
def test_a_server_of_influxdb_needs_a_host_and_a_port_that_there_can_be(host: str) -> None:
    with pytest.raises(ValidationError, match="is not the URL of a server: write https://HOST:8086"):
        InfluxDBSink(url=f"http://{host}", bucket="b")


def test_a_sink_that_nobody_listens_for_is_an_error(connect: Connect, filled: Any) -> None:
    influxdb = f'[[sink]]\ntype = "influxdb"\nurl = "{CLOSED}"\nbucket = "b"\nretries = 0\n'
    code, said = connect(filled.url, influxdb, f'[[sink]]\ntype = "esmond"\nurl = "{CLOSED}"\nretries = 0\n')
    assert code == 1
    assert str(said["sink[0] (influxdb)"][0]).startswith("http://127.0.0.1:1/ping: ")
    assert str(said["sink[1] (esmond)"][0]).startswith("GET http://127.0.0.1:1/esmond/perfsonar/archive/?limit=1: ")
    assert all("Connection refused" in str(error) for where, (error, _, _) in said.items() if where != "source")


def test_sinks_that_answer_are_only_read(connect: Connect, filled: Any, serve: Any, answer: Any, tmp_path: Path) -> None:
    server = serve(lambda asked: answer(status=204, headers={"X-Influxdb-Version": "v2.7.1"}))
    with esmond_etl_archive.serve(tmp_path / "target.db") as target:
        influxdb = f'[[sink]]\ntype = "influxdb"\nurl = "{server.url}"\nbucket = "b"\n'
        code, said = connect(filled.url, influxdb, f'[[sink]]\ntype = "esmond"\nurl = "{target.url}"\n')
        assert dict(target.requests) == {"GET": 1}
    assert (code, said) == (
        0,
        {
            "source": (None, None, "1 metadata, 1 series matches; 2014-01-01 to 2014-01-03"),
            "sink[0] (influxdb)": (None, None, "opens: InfluxDB 2.7.1"),
            "sink[1] (esmond)": (None, None, "opens"),
        },
    )
    assert [(each.method, each.path, each.body) for each in server.asked] == [
        ("GET", "/ping", b""),
        ("GET", "/health", b""),
        ("POST", "/api/v2/write", b""),
    ]


def test_a_token_that_is_refused_is_named_without_a_datapoint(connect: Connect, filled: Any, serve: Any, answer: Any) -> None:
    def respond(asked: Any) -> Any:
        refused = asked.method == "POST" and asked.body == b""
        return (
            answer(status=401, body=b'{"code":"unauthorized","message":"unauthorized access"}') if refused else answer(status=204)
        )

    server = serve(respond)
    influxdb = f'[[sink]]\ntype = "influxdb"\nurl = "{server.url}"\nbucket = "b"\ntoken = "t"\nretries = 0\n'
    code, said = connect(filled.url, influxdb)
    assert (code, said["sink[0] (influxdb)"][0]) == (
        1,
        f"{server.url.rstrip('/')}/api/v2/write: status 401: unauthorized access: check token",
    )


def test_no_file_folder_or_table_is_left_behind(connect: Connect, filled: Any, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as db, db:
        db.execute("create table mine (x)")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name == "old.db"}
    sinks = [f'[[sink]]\ntype = "sql"\nurl = "{url}"\n' for url in ("sqlite:new.db", "duckdb:new.duck", "sqlite:old.db")]
    code, said = connect(filled.url, *sinks, '[[sink]]\ntype = "parquet"\npath = "new/out"\n')
    assert (code, [re.sub(r"[\d.]+$", "N", each[2]) for each in said.values()][1:]) == (
        0,
        ["opens: SQLite N", "opens: DuckDB N", "opens: SQLite N", "opens"],
    )
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("archive.db")} == {"x.toml", "old.db"}
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_place_that_cannot_be_written_to_is_an_error(connect: Connect, filled: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder, and no database; long enough to be taken for one by its length" * 20)
    sinks = [f'[[sink]]\ntype = "sql"\nurl = "{url}"\n' for url in ("sqlite:/proc/x.db", "sqlite:.", "sqlite:file")]
    parquet = [f'[[sink]]\ntype = "parquet"\npath = "{path}"\n' for path in ("/proc/no/out", "file/out")]
    code, said = connect(filled.url, *sinks, *parquet)
    shown = [str(each[0]).replace(f"{tmp_path}/", "").replace(str(tmp_path), ".") for each in said.values()]
    errors = [re.sub("No such file or directory|Permission denied", "it is not ours", each) for each in shown]
    assert (code, errors[1:]) == (
        1,
        [
            "sqlite:/proc/x.db: cannot be written to: it is not ours",
            "sqlite:.: cannot be written to: Is a directory",
            "sqlite:file: Failed to prepare query: file is not a database",
            "/proc/no/out: /proc cannot be written to: it is not ours",
            "file/out: file cannot be written to: Not a directory",
        ],
    )


def test_each_transform_is_named_and_hides_neither_the_source_nor_the_sinks(connect: Connect, filled: Any) -> None:
    rename = '[[transform]]\ntype = "rename"\nfields = ["source"]\ncsv = "/nonexistent.csv"\n'
    scale = '[[transform]]\ntype = "scale"\nfactor = 2.0\n'
    assert connect(filled.url, rename, scale, '[[sink]]\ntype = "stdout"\n') == (
        1,
        {
            "source": (None, None, "1 metadata, 1 series matches; 2014-01-01 to 2014-01-03"),
            "transform[0] (rename)": ("/nonexistent.csv: cannot be read: No such file or directory", None, ""),
            "transform[1] (scale)": (None, None, "opens"),
            "sink[0] (stdout)": (None, None, "opens"),
        },
    )


def test_filters_that_match_nothing_are_a_warning(connect: Connect, filled: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = connect(filled.url, 'match = { source = "192.0.2.99" }', '[[sink]]\ntype = "stdout"\n')
    hint = f"nothing would be delivered: {filled.url}: no metadata has source = '192.0.2.99'"
    assert code == 0
    assert str(said["source"][1]).startswith(hint)
    assert run(["check", "--connect", "x.toml"]) == 0
    assert f"x.toml: warning: source: {hint}" in " ".join(capsys.readouterr().out.split())


def test_transforms_that_leave_out_all_series_are_a_warning(connect: Connect, filled: Any) -> None:
    drop = '[[transform]]\ntype = "drop"\nevent_types = ["throughput"]\n'
    code, said = connect(filled.url, drop, '[[sink]]\ntype = "stdout"\n')
    assert (code, said["source"]) == (
        0,
        (
            None,
            "nothing would be delivered: the transforms leave out every series",
            "1 metadata, 1 series matches, 0 of them after the transforms; 2014-01-01 to 2014-01-03",
        ),
    )


def test_a_sink_that_says_nothing_about_reaching_is_opened_and_closed() -> None:
    said: list[str] = []

    class Simple(CollectedSink):
        def open(self, context: Context) -> None:
            said.append("opened")

        def close(self) -> None:
            said.append("closed")

    Simple().reach(Context())
    assert said == ["opened", "closed"]


def in_a_terminal(program: str, stream: str) -> list[str]:
    """What a program of esmond-etl prints on one of its streams, where that is a terminal 80 columns wide."""
    parent, child = pty.openpty()
    streams: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: child}
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "COLUMNS": "80"}, check=False, timeout=60, **streams)
    os.close(child)
    lines = os.read(parent, 100_000).decode().splitlines()
    os.close(parent)
    return lines


RUN = "from esmond_etl.cli.group import run; run({})"


def test_what_a_check_and_a_run_say_fits_into_a_terminal(connect: Connect, filled: Any) -> None:
    name = "measurements-of-a-year"
    tables = [f'[[sink]]\ntype = "parquet"\npath = "{name}-{number}"\n' for number in range(2)]
    connect(filled.url, f'[[sink]]\ntype = "esmond"\nurl = "{CLOSED}"\nretries = 0\n')
    checked = in_a_terminal(RUN.format(["check", "--connect", "x.toml"]), "stdout")
    connect(filled.url, *tables)
    moved = in_a_terminal(RUN.format(["run", "x.toml"]), "stdout")
    assert "".join(checked).count("Connection refused") == 1
    assert moved[1:3] == [f"  sink[{number}] (parquet)  0 written  0 unchanged  0 rejected" for number in range(2)]
    assert [line for line in (*checked, *moved) if len(line) > 80] == []


def test_a_line_on_stderr_is_broken_between_words_in_a_terminal() -> None:
    said = in_a_terminal("from esmond_etl.cli.show import say; say('  not done: ' + 'packet-loss ' * 9)", "stderr")
    assert said == ["  not done: " + "packet-loss " * 4 + "packet-loss", "    " + "packet-loss " * 3 + "packet-loss"]
