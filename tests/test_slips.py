"""What people write wrong, and what they are told: the place, and the nearest name that is known."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from esmond_etl_archive.samples import START
from esmond_etl_esmond.source import EsmondSource

import esmond_etl
from esmond_etl import ConfigError, Context
from esmond_etl.cli.group import run as command
from esmond_etl.client.filters import ApiFilters

DAY = 86400


@pytest.fixture
def filled(archive: Any) -> Any:
    esmond_etl_archive.load(archive.archive, esmond_etl_archive.sample(days=1, hosts=2))
    return archive


def written(folder: Path, url: str, source: str = "", sink: str = 'type = "parquet"\npath = "out"', to: int = START + DAY) -> Path:
    file = folder / "p.toml"
    file.write_text(
        f'from = {START}\nto = {to}\n[source]\ntype = "esmond"\nurl = "{url}"\nretries = 0\n{source}\n[[sink]]\n{sink}\n'
    )
    return file


POWSTREAM = 'match = { tool-name = "pscheduler/powstream" }'


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            POWSTREAM.replace("stream", "streem"),
            "no metadata has tool-name = 'pscheduler/powstreem': did you mean 'pscheduler/powstream'?",
        ),
        ('match = { ip-tos = "77" }', "no metadata has ip-tos = '77'"),
        (
            f'event_types = ["path-mtu", "histogram-rtt"]\n{POWSTREAM}',
            "none of the event types path-mtu, histogram-rtt; it has failures, ",
        ),
        ('event_types = ["throughput"]\nsummaries = ["average/7"]', "what matches has none of the summaries average/7"),
    ],
)
def test_filters_that_match_nothing_are_an_error(
    filled: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, said: str
) -> None:
    code = command(["run", str(written(tmp_path, filled.url, source))])
    error = capsys.readouterr().err
    assert code == 2
    assert said in error
    assert not (tmp_path / "out" / "event_type=throughput").exists()


def test_filters_that_match_nothing_together_are_an_error(archive: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {"event-types": [{"event-type": "throughput"}], "subject-type": "point-to-point", "measurement-agent": "192.0.2.9"}
    for host, tool in (("192.0.2.1", "x"), ("192.0.2.2", "y")):
        metadata = {**kinds, "source": host, "destination": "192.0.2.3", "tool-name": tool}
        esmond_etl_archive.load(archive.archive, [{"metadata": metadata, "datapoints": {"throughput": [[START, 1]]}}])
    assert command(["run", str(written(tmp_path, archive.url, 'match = { tool-name = "x", source = "192.0.2.2" }'))]) == 2
    assert "no metadata matches all of tool-name, source together" in capsys.readouterr().err


def test_that_something_matches_at_other_times_takes_one_request(filled: Any) -> None:
    source = EsmondSource(url=filled.url, event_types=["throughput"])
    source.open(Context())
    assert source.unmatched() is None
    assert source.traffic.requests == 1
    source.close()


def test_an_archive_without_anything_is_no_error(archive: Any, tmp_path: Path) -> None:
    assert command(["run", str(written(tmp_path, archive.url, 'match = { tool-name = "x" }'))]) == 0


def test_a_misspelt_filter_is_found_before_anything_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "https://archive.example.net/", 'match = { tool-nam = "x", bw-ctl = "y" }')
    assert command(["check", str(file)]) == 2
    assert "p.toml:7:1: source.match: unknown filter 'tool-nam': did you mean 'tool-name'?" in " ".join(
        capsys.readouterr().out.split()
    )


def test_the_library_names_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown event type 'througput': did you mean 'throughput'\?"):
        esmond_etl.read("http://127.0.0.1:9/", event_type="througput")
    with pytest.raises(ConfigError, match=r"unknown filter 'tool_nam': did you mean 'tool_name'\?"):
        esmond_etl.read("http://127.0.0.1:9/", event_type="throughput", tool_nam="x")
    filters = ApiFilters()
    with pytest.raises(ConfigError, match=r"unknown filter 'input_sorce': did you mean 'input_source'\?"):
        filters.input_sorce = "x"  # type: ignore[attr-defined,unused-ignore]
    filters.ip_tos = 32  # type: ignore[attr-defined,unused-ignore]
    assert filters.metadata_filters == {"ip-tos": 32}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_all_names_of_this_machine_are_one_place(tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str) -> None:
    sink = f'type = "esmond"\nurl = "http://{host}:8085/"\nusername = "u"'
    assert command(["check", str(written(tmp_path, "http://localhost:8085", sink=sink))]) == 2
    assert "this place is the source itself" in capsys.readouterr().out
    sink = sink.replace("8085", "8086")
    assert command(["check", str(written(tmp_path, "http://localhost:8085", sink=sink))]) == 0


def test_bytes_that_are_no_text_are_placed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.toml"
    file.write_bytes("from = 2024-01-01\n# Zürich ".encode() + b"Z\xfcrich\n")
    assert command(["check", str(file)]) == 2
    assert "p.toml:2:11: is not UTF-8: invalid start byte" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("arguments", [["run", "p.toml"], ["run", "--nowhere", "p.toml"], ["run", "missing.toml"], ["staus"]])
def test_json_logs_are_nothing_but_json(filled: Any, tmp_path: Path, arguments: list[str]) -> None:
    written(tmp_path, filled.url, 'match = { tool-name = "nothing" }')
    environment = {**os.environ, "ESMOND_ETL_LOG": "json"}
    done = subprocess.run(
        [sys.executable, "-m", "esmond_etl", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, len(lines), lines[-1]["exit_code"]) == (2, 1, 2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[-1]["at"])
    assert datetime.fromisoformat(lines[-1]["at"]).tzinfo is not None
    assert lines[-1]["message"]


def test_the_shell_is_told_what_completes(tmp_path: Path) -> None:
    environment = {**os.environ, "COMP_WORDS": "esmond-etl sta", "COMP_CWORD": "1", "_ESMOND_ETL_COMPLETE": "bash_complete"}
    done = subprocess.run([sys.executable, "-m", "esmond_etl"], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "plain,status\n"
    assert "_ESMOND_ETL_COMPLETE=bash_source" in (Path(esmond_etl.__file__).parents[1] / "docs" / "getting-started.md").read_text()
