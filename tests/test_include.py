"""What several pipelines share stands in a file that each of them includes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest

import esmond_etl
from esmond_etl.cli.group import run as command
from esmond_etl.pipeline import file as pipelines

START, DAY = 1388534400, 86400  # 2014-01-01

Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shared").mkdir()
    return tmp_path


def write(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


def said(name: str) -> list[str]:
    return [str(problem) for problem in pipelines.inspect(name)[1]]


SITE = """
from = 2014-01-01
to = 2014-01-05
window = "1d"

[source]
type = "esmond"
url = "https://archive.example.net/"
event_types = ["failures"]

[[sink]]
type = "parquet"
path = "site-out"
"""


def test_a_pipeline_runs_with_what_it_includes(archive: Any) -> None:
    entry = {"source": "192.0.2.1", "destination": "192.0.2.2", "measurement-agent": "192.0.2.1", "tool-name": "iperf3"}
    points = [[START + each * DAY, 5] for each in range(3)]
    types = [{"event-type": "throughput"}]
    record = {"metadata": {**entry, "subject-type": "point-to-point", "event-types": types}, "datapoints": {"throughput": points}}
    esmond_etl_archive.load(archive.archive, [record])
    write("shared/site.toml", SITE.replace("https://archive.example.net/", archive.url))
    name = write("p.toml", 'include = ["shared/site.toml"]\n[source]\nevent_types = ["throughput"]\n')
    assert command(["check", name]) == 0
    assert command(["run", name]) == 0
    assert esmond_etl.load(name).run().read == 0, "all is done"
    assert list(Path("shared/site-out").glob("event_type=throughput/**/*.parquet")), "paths start where they stand"
    assert Path(".esmond-etl/p.ledger").exists(), "the ledger is beside the pipeline file"


def test_the_pipeline_file_wins_and_lists_are_not_merged() -> None:
    write("shared/site.toml", SITE)
    write("shared/more.toml", 'window = "1h"\nlookback = "2d"\n')
    name = write(
        "p.toml",
        'include = ["shared/site.toml", "shared/more.toml"]\nlookback = "1d"\n[[sink]]\ntype = "parquet"\npath = "own"\n',
    )
    found = pipelines.load(name)
    assert (found.settings.window, found.settings.lookback) == (3600, DAY)
    assert [each["path"] for each in found.sink_places] == [str(Path("own").absolute())]


def test_a_stage_of_another_type_replaces_the_included_one() -> None:
    write("shared/site.toml", SITE)
    name = write("p.toml", 'include = ["shared/site.toml"]\n[source]\ntype = "parquet"\npath = "in"\n')
    assert pipelines.load(name).source_place == {"type": "ParquetSource", "path": str(Path("in").absolute())}


def test_mistakes_are_placed_in_the_file_in_which_they_stand() -> None:
    write("shared/site.toml", SITE.replace("failures", "throughputt").replace("path", "pth"))
    name = write("p.toml", 'include = ["shared/site.toml"]\nlookback = "1"\n[source]\ntimeout = "x"\n')
    places = [problem.split(": ")[0] for problem in said(name)]
    assert places == ["p.toml:2:1", "p.toml:4:1", "shared/site.toml:9:16", "shared/site.toml:11:1", "shared/site.toml:13:1"]


@pytest.mark.parametrize(
    ("included", "message"),
    [
        (None, "p.toml:1:12: include: 'site.toml' cannot be read: No such file or directory"),
        ("a = \n", "site.toml:1:5: not TOML: invalid value"),
        ('name = "x"\n', "site.toml:1:1: name: belongs in the pipeline file, not in one that is included"),
        ('include = ["p.toml"]\n', "site.toml:1:1: include: belongs in the pipeline file, not in one that is included"),
    ],
)
def test_what_cannot_be_included_is_named(included: str | None, message: str) -> None:
    if included is not None:
        write("site.toml", included)
    assert said(write("p.toml", 'include = ["site.toml"]\n')) == [message]


def test_include_is_a_list_of_files() -> None:
    assert said(write("p.toml", 'include = "site.toml"\n')) == [
        "p.toml:1:1: include: must be a list of files, not a text; write it in brackets"
    ]
    assert said(write("p.toml", "include = [1]\n")) == ["p.toml:1:12: include[0]: is not the name of a file"]


def test_workers_elsewhere_get_the_included_files_too() -> None:
    write("shared/site.toml", SITE)
    name = write("p.toml", 'include = ["shared/site.toml"]\n')
    texts = pipelines.texts(name)
    Path("shared/site.toml").unlink()
    assert pipelines.load_texts(name, texts).settings.window == DAY


def test_a_secret_in_a_file_is_found_beside_the_file_that_names_it() -> None:
    write("shared/key", "abc\n")
    write("shared/site.toml", SITE.replace("[[sink]]", 'username = "u"\napi_key = "${file:key}"\n[[sink]]'))
    name = write("p.toml", 'include = ["shared/site.toml"]\n')
    assert said(name) == []
