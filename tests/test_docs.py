"""The documentation: every hook, option and command is in it, and its examples run.

docs/reference.md is written from the code: ESMOND_ETL_GOLDEN=write pytest tests/test_docs.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from inspect import getdoc
from pathlib import Path
from textwrap import dedent
from typing import Any

import click
import pytest

import esmond_etl
from esmond_etl.cli import COMMANDS, group
from esmond_etl.cli.plugins import explained_in_markdown
from esmond_etl.pipeline import file as config
from esmond_etl.pipeline.settings import Settings
from esmond_etl.pipeline.tests import Case
from esmond_etl.plugin import hookspecs
from esmond_etl.plugin.registry import installed
from esmond_etl.testing import Environment

DOCS = Path(__file__).parents[1] / "docs"
PLUGINS = (DOCS / "plugins.md").read_text(encoding="utf-8")
PIPELINES = (DOCS / "pipelines.md").read_text(encoding="utf-8")


def commands(command: click.Command, name: str = "esmond-etl") -> Iterator[tuple[str, click.Command]]:
    """Every command, and those below it, by what is typed for it."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            assert below is not None
            yield from commands(below, f"{name} {each}")


UTF8 = {**os.environ, "PYTHONUTF8": "1"}

ALL_COMMANDS = dict(commands(group.esmond_etl))


def reference() -> str:
    """The reference of commands and stages, in Markdown."""
    parts = ["# Reference", "Written from the code by `ESMOND_ETL_GOLDEN=write pytest tests/test_docs.py`.", "## Commands"]
    for name, command in ALL_COMMANDS.items():
        if name != "esmond-etl":
            parts += [f"### {name}", _help(name, command)]
    parts.append("## Stages")
    order = {"source": 0, "transform": 1, "sink": 2}
    ours = [each for each in installed().found.values() if each.distribution.startswith("esmond-etl ") and each.kind in order]
    parts += [explained_in_markdown(each) for each in sorted(ours, key=lambda each: (order[each.kind], each.name))]
    return "\n\n".join(parts) + "\n"


def _help(name: str, command: click.Command) -> str:
    with click.Context(command, info_name=name, terminal_width=100, help_option_names=["-h", "--help"]) as context:
        return f"```\n{command.get_help(context).strip()}\n```"


def test_the_reference_is_that_of_the_code() -> None:
    path = DOCS / "reference.md"
    # in a process of its own: a click command that was called before remembers how its help was asked for then
    written = subprocess.run([sys.executable, __file__], capture_output=True, encoding="utf-8", check=True, env=UTF8).stdout
    if os.environ.get("ESMOND_ETL_GOLDEN") == "write":
        path.write_text(written, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == written, "write it anew: ESMOND_ETL_GOLDEN=write pytest tests/test_docs.py"


def test_every_hook_is_documented() -> None:
    hooks = {name for name, each in vars(hookspecs).items() if hasattr(each, "esmond_etl_spec")}
    assert hooks == {f"esmond_etl_{kind}s" for kind in ("source", "transform", "sink", "executor", "command")}
    assert {name for name in hooks if f"| `{name}()` |" not in PLUGINS or not getdoc(getattr(hookspecs, name))} == set()


def test_every_command_is_documented() -> None:
    plugins = installed().of("command")
    assert [name for name in [*COMMANDS, *plugins] if f"| `esmond-etl {name}` |" not in PIPELINES] == []
    documented = re.findall(r"\| `esmond-etl ([\w-]+)` \|", PIPELINES)
    assert [name for name in documented if name not in {*COMMANDS, *plugins}] == []


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_option_of_every_command_is_explained(name: str) -> None:
    command = ALL_COMMANDS[name]
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert command.help
    assert [each.opts[0] for each in options if not each.help] == []


@pytest.mark.parametrize("each", installed().found.values(), ids=lambda each: f"{each.kind}-{each.name}")
def test_every_stage_has_a_sentence_an_example_and_described_options(each: Any) -> None:
    if each.kind in ("command", "executor"):
        return
    assert (getdoc(each.thing) or "").split("\n")[0]
    assert tomllib.loads(dedent(each.thing.example)).keys() == {each.kind}
    assert [name for name, field in each.thing.model_fields.items() if not field.description] == []


def test_every_setting_and_every_key_of_a_test_is_documented() -> None:
    for model in (Settings, Case):
        names = [field.alias or name for name, field in model.model_fields.items()]
        assert [name for name in names if f"| `{name}` |" not in PIPELINES] == []


def test_every_public_name_is_documented() -> None:
    errors = {"RequestError", "StatusError", "ContentError"}
    stage_names = [name for name in esmond_etl.__all__ if name not in {"__version__", *errors}]
    texts = PLUGINS + "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    assert [name for name in stage_names if f"`{name}`" not in texts and f"{name}(" not in texts] == []


def test_the_pipeline_in_the_documentation_is_right_and_passes_its_own_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = re.search(r"```toml\n(.*?)```", PIPELINES, re.DOTALL)
    assert found
    path = tmp_path / "example.toml"
    path.write_text(found[1], encoding="utf-8")
    assert config.inspect(path)[1] == []
    assert group.run(["test", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 1 passed, 0 failed\n"


def test_links_between_documents_lead_somewhere() -> None:
    for path in DOCS.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


PIPELINE = """
from = 2014-01-01
to = 2014-01-02
[source]
type = "sqlite"
file = "one.db"
[[transform]]
type = "smooth"
weight = 0.5
[[sink]]
type = "sqlite"
file = "two.db"
"""

FILL = """
from esmond_etl.testing import *
from esmond_etl import Interval
from esmond_etl_sqlite.sink import SqliteSink
sink = SqliteSink(file="one.db")
sink.open(SinkSuite().context())
deliver(sink, {series(): [(START, 1.0), (START + 60, 2.0)], series("failures"): [(START, {"error": "no"})]}, Interval(START, START + DAY))
"""


@pytest.mark.slow
def test_the_plugin_in_the_documentation_works(tmp_path: Path) -> None:
    files = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)```", PLUGINS, re.DOTALL | re.MULTILINE)
    assert len(files) == 8
    for name, text in files:
        (tmp_path / "sqlite" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sqlite" / name).write_text(text, encoding="utf-8")
    environment = Environment(tmp_path / "environment")
    environment.install(tmp_path / "sqlite")

    tests = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path / "sqlite")
    assert (tests.returncode, tests.stderr) == (0, ""), tests.stdout
    assert re.search(r"\b2\d passed", tests.stdout)

    (tmp_path / "x.toml").write_text(PIPELINE)
    assert environment.run("-c", FILL, cwd=tmp_path).stderr == ""
    assert environment.esmond_etl("check", "x.toml", cwd=tmp_path).stdout == "x.toml: ok\n"
    assert environment.esmond_etl("run", "x.toml", "--quiet", cwd=tmp_path).returncode == 0
    counted = environment.esmond_etl("sqlite-count", "two.db", cwd=tmp_path)
    assert (counted.stdout, counted.stderr) == ("failures: 1\nthroughput: 2\n", "")


if __name__ == "__main__":
    sys.stdout.write(reference())
