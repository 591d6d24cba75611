"""`esmond-etl new`: what it writes works as it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from esmond_etl.cli.group import run
from esmond_etl.cli.new import command
from esmond_etl.pipeline import file as config
from esmond_etl.plugin.registry import installed
from esmond_etl.testing import Environment

pytestmark = pytest.mark.slow

ANSWERS = ("--source", "https://archive.example.net/", "--target", "https://target.example.net/", "--from", "2014-01-01")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to write in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("sink", sorted(installed().of("sink")))
def test_a_pipeline_for_every_sink_passes_check(
    sink: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSEARCH_PASSWORD", "secret")
    target = {"sql": ["--target", "duckdb:warehouse.db"], "parquet": ["--target", "out/"]}.get(sink, [])
    assert run(["new", "pipeline", "new.toml", "--sink", sink, "--event-types", "all", *ANSWERS, *target]) == 0
    assert capsys.readouterr().out == "new.toml is written; next: esmond-etl check new.toml\n"
    pipeline, problems = config.inspect("new.toml")
    assert pipeline is not None
    assert [str(problem) for problem in problems if not problem.warning] == []
    assert pipeline.labels == (f"sink[0] ({sink})",)


def test_the_answers_stand_in_the_pipeline() -> None:
    run(["new", "pipeline", "new.toml", "--sink", "parquet", "--event-types", "throughput, failures", *ANSWERS, "--target", "out/"])
    pipeline: Any = config.load("new.toml")
    assert (pipeline.settings.from_, pipeline.source.url) == ("2014-01-01", "https://archive.example.net/")
    assert (pipeline.source.event_types, pipeline.sinks[0].path) == (["throughput", "failures"], str(Path("out").absolute()))


def test_what_the_environment_lacks_is_named_and_what_is_wrong_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ESMOND_API_KEY", raising=False)
    assert run(["new", "pipeline", "new.toml", "--sink", "sql", "--event-types", "all", *ANSWERS]) == 2
    assert "sink[0]: is not the URL of a database" in capsys.readouterr().err
    assert not Path("new.toml").exists()


def test_what_the_options_do_not_say_is_asked_for() -> None:
    answers = ["new.toml", "https://archive.example.net/", "parquet", "warehouse/", "30d", "throughput"]
    result = CliRunner().invoke(command, ["pipeline"], input="\n".join(answers) + "\n", standalone_mode=False)
    assert result.exception is None
    assert [line.partition("?")[0] for line in re.findall(r"(File|URL|Type|Its path|Start|Event types)", result.output)] == [
        "File",
        "URL",
        "Type",
        "Its path",
        "Start",
        "Event types",
    ]
    pipeline: Any = config.load("new.toml")
    assert (pipeline.source.event_types, pipeline.sinks[0].path) == (["throughput"], str(Path("warehouse").resolve()))


def test_a_wrong_answer_is_asked_for_again_at_once() -> None:
    Path("mine.toml").touch()
    answers = {
        "mine.toml": "mine.toml exists already: give another name",
        "no/new.toml": "no/new.toml cannot be written: there is no folder no: make it, or give another path",
        "new.toml": "",
        "http://h:port/": "source.url: is not the URL of an archive: write https://HOST/",
        "https://archive.example.net/": "",
        "sql": "",
        "warehouse": "sink[0]: is not the URL of a database: write postgresql://USER@HOST/DATABASE, sqlite:PATH or duckdb:PATH",
        "sqlite:x.db": "",
        "last week": "from: 'last week' is not a time",
        "7d": "",
        "througput": "source.event_types[0]: unknown event type 'througput'; did you mean 'throughput'?",
        "throughput": "",
    }
    result = CliRunner().invoke(command, ["pipeline"], input="\n".join(answers) + "\n", standalone_mode=False)
    assert result.exception is None
    errors = [line.removeprefix("Error: ") for line in result.output.splitlines() if line.startswith("Error: ")]
    expected = [error for error in answers.values() if error]
    assert [error[: len(start)] for error, start in zip(errors, expected, strict=True)] == expected
    pipeline: Any = config.load("new.toml")
    assert (pipeline.settings.from_, pipeline.sinks[0].url) == ("7d", f"sqlite:{Path('x.db').resolve()}")


def test_a_wrong_answer_does_not_bring_in_secrets_that_the_sink_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    options = [*ANSWERS, "--sink", "sql", "--target", "sqlite:x.db", "--event-types", "all", "--from", "last week"]
    assert run(["new", "pipeline", "new.toml", *options]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("esmond-etl: from: 'last week' is not a time")


def test_a_sink_that_has_no_place_is_not_asked_for_one() -> None:
    result = CliRunner().invoke(command, ["pipeline", "new.toml", "--sink", "stdout"], input="\n\n\n", standalone_mode=False)
    assert result.exception is None
    assert config.load("new.toml").labels == ("sink[0] (stdout)",)


def test_the_comments_of_a_new_pipeline_are_right_when_they_are_taken_off() -> None:
    run(["new", "pipeline", "new.toml", "--sink", "parquet", "--event-types", "all", *ANSWERS, "--target", "out/"])
    text = Path("new.toml").read_text()
    head, rest = text.split("\nfrom = ", 1)
    uncommented = re.sub(r"(?m)^# (?=\[\[|[a-z_]+ = )", "", rest)
    Path("all.toml").write_text("from = " + uncommented)
    assert re.findall(r"(?m)^\[\[(\w+)", uncommented) == ["transform", "sink", "test"]
    assert run(["check", "all.toml"]) == 0
    assert run(["test", "all.toml"]) == 0
    assert head.startswith("# https://archive.example.net/ to parquet\n")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--from", "soon", "from: 'soon' is not a time"),
        ("--source", "archive", "source.url: is not the URL of an archive"),
        ("--event-types", "througput", "source.event_types[0]: unknown event type 'througput'; did you mean 'throughput'?"),
        ("--sink", "parket", "unknown sink 'parket'; did you mean 'parquet'?"),
    ],
)
def test_a_wrong_answer_writes_nothing(option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--sink", "parquet", "--event-types", "all", *ANSWERS, option, value]
    assert run(["new", "pipeline", "new.toml", *options]) == 2
    assert capsys.readouterr().err.startswith(f"esmond-etl: {message}")
    assert not Path("new.toml").exists()


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("new.toml").write_text("mine")
    Path("acme").mkdir()
    Path("acme", "mine").write_text("mine")
    assert run(["new", "pipeline", "new.toml", "--sink", "stdout", "--event-types", "all", *ANSWERS]) == 2
    assert run(["new", "plugin", "acme"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "esmond-etl: new.toml exists already: give another name",
        "esmond-etl: acme exists already: give another name",
    ]
    assert (Path("new.toml").read_text(), [each.name for each in Path("acme").iterdir()]) == ("mine", ["mine"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new", "pipeline", "no/x.toml"], "no/x.toml cannot be written: there is no folder no: make it, or give another path"),
        (
            ["new", "pipeline", "file/x.toml"],
            "file/x.toml cannot be written: there is no folder file: make it, or give another path",
        ),
        (["new", "plugin", "-d", "file/x", "acme"], "file/x cannot be written: Not a directory: give another path"),
        (
            ["new", "plugin", "-d", "/proc/no/x", "acme"],
            "/proc/no/x cannot be written: No such file or directory: give another path",
        ),
        (["new", "plugin", "-d", "x" * 300, "acme"], f"{'x' * 300} cannot be written: File name too long: give another path"),
        (["schema", "-o", "no/x.json"], "no/x.json cannot be written: No such file or directory: give another path"),
    ],
)
def test_a_path_that_cannot_be_written_is_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert run(arguments) == 2
    assert capsys.readouterr().err == f"esmond-etl: {said}\n"
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_a_plugin_is_whole_though_nobody_reads_what_is_printed(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-u", "-m", "esmond_etl", "new", "plugin", "acme"]
    assert subprocess.run(command, stdout=writer, check=False, timeout=60).returncode == 1
    os.close(writer)
    assert len([path for path in (folder / "acme").rglob("*") if path.is_file()]) == 6


@pytest.mark.parametrize("name", ["Acme", "9acme", "acme_probes", "a/b", "acme-", ""])
def test_a_plugin_needs_a_name_that_can_be_installed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", "plugin", name]) == 2
    assert "is not a valid name for a plugin: use small letters" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["parquet", "esmond", "transforms", "archive", "esmond-etl-sql"])
def test_a_plugin_does_not_take_the_name_of_one_that_is_installed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", "plugin", name]) == 2
    short = name.removeprefix("esmond-etl-")
    said = f"esmond-etl: {name!r} is the name of plugin {short} (esmond_etl_{short}, of esmond-etl {version('esmond-etl')})"
    assert capsys.readouterr().err == f"{said}: choose another, for one would overwrite the other\n"
    assert list(Path().iterdir()) == []


def test_a_new_plugin_is_installed_works_and_passes_its_own_tests(folder: Path) -> None:
    assert run(["new", "plugin", "acme-probes"]) == 0
    environment = Environment(folder / "environment")
    environment.install(folder / "acme-probes")

    tests = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder / "acme-probes")
    assert (tests.returncode, tests.stderr) == (0, ""), tests.stdout
    assert re.search(r"\b1[5-9] passed", tests.stdout)

    listed = environment.esmond_etl("plugins")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "acme-probes-limit" in listed.stdout
    assert "acme-probes-files" in listed.stdout

    made = environment.esmond_etl(
        "new", "pipeline", "x.toml", "--sink", "acme-probes-files", "--event-types", "all", *ANSWERS, cwd=folder
    )
    assert (made.returncode, made.stdout) == (0, "x.toml is written; next: esmond-etl check x.toml\n")


def test_a_new_plugin_is_typed(folder: Path) -> None:
    mypy = pytest.importorskip("mypy.api")
    run(["new", "plugin", "acme"])
    said, _, code = mypy.run(["--strict", "--config-file=", "--python-executable", sys.executable, "acme/esmond_etl_acme"])
    assert (code, said) == (0, "Success: no issues found in 3 source files\n")
