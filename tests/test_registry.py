"""Plugins of strangers, right and broken ones, each installed as a distribution in an environment of its own."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from esmond_etl.cli.group import run
from esmond_etl.plugin.registry import installed, load_commands
from esmond_etl.testing import Environment

pytestmark = pytest.mark.slow

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.2"

[project.entry-points.esmond_etl]
{plugin} = "{module}"

[tool.hatch.build.targets.wheel]
only-include = ["{module}.py"]
"""

GOOD = '''
"""A plugin with one of each."""
from __future__ import annotations
from collections.abc import Iterator
from typing import ClassVar
import click
from pydantic import Field
from esmond_etl import Batch, DataPoint, Interval, PointTransform, Receipt, Sink, Source, hookimpl
from esmond_etl.testing import CollectedSink, series

START = 1388534400

class Clock(Source):
    """Counts the hours of each day."""
    example: ClassVar[str] = """
        [source]
        type = "acme-clock"
        name = "kitchen"
    """
    name: str = Field(description="which clock")
    def series(self, interval: Interval) -> Iterator:
        yield series("throughput", key=self.name)
    def read(self, series, interval: Interval) -> Iterator[Batch]:
        hours = range(-(-interval.start // 3600) * 3600, interval.end, 3600)
        yield Batch.from_points(series, [(ts, ts // 3600 % 24) for ts in hours])

class Odd(PointTransform):
    """Keep odd numbers alone."""
    def apply_point(self, point: DataPoint) -> DataPoint | None:
        return point if point.val % 2 else None

class Count(CollectedSink):
    """Count the datapoints in a file."""
    place: ClassVar[tuple[str, ...]] = ("path",)
    path: str = Field(description="file of the count")
    def take(self, interval, taken):
        done = super().take(interval, taken)
        with open(self.path, "a") as file:
            file.write(f"{done[0]}\\n")
        return done

@click.command()
def acme() -> None:
    """Say hello from acme."""
    click.echo("hello from acme")

@hookimpl
def esmond_etl_sources():
    return {"acme-clock": Clock}

@hookimpl
def esmond_etl_transforms():
    return {"acme-odd": Odd}

@hookimpl
def esmond_etl_sinks():
    return {"acme-count": Count}

@hookimpl
def esmond_etl_commands():
    return {"acme": acme}
'''

BROKEN = {
    "unimportable": "import no_such_module_anywhere",
    "quits": "import sys\nsys.exit('goodbye')",
    "misspelt": """
        from esmond_etl import PointTransform, hookimpl
        class Same(PointTransform):
            '''Leave everything as it is.'''
            def apply_point(self, point):
                return point
        @hookimpl
        def esmond_etl_sink():
            return {}
        @hookimpl
        def esmond_etl_transforms():
            return {"misspelt-same": Same}
        """,
    "unmarked": "def esmond_etl_sinks():\n    return {}",
    "thief": """
        from esmond_etl import hookimpl
        @hookimpl
        def esmond_etl_sinks():
            from esmond_etl_stdout.sink import StdoutSink
            return {"stdout": StdoutSink, "thief-stdout": StdoutSink}
        """,
    "raising": """
        from esmond_etl import hookimpl
        @hookimpl
        def esmond_etl_sources():
            raise RuntimeError("no licence")
        """,
    "nothing": "from esmond_etl import hookimpl\n@hookimpl\ndef esmond_etl_sinks():\n    pass",
    "asking": "from esmond_etl import hookimpl\n@hookimpl\ndef esmond_etl_sinks(config):\n    return {}",
    "mixed": """
        from esmond_etl import Sink, Source, hookimpl
        class Half(Source):
            def series(self, interval):
                return iter(())
        @hookimpl
        def esmond_etl_sources():
            from esmond_etl_stdout.sink import StdoutSink
            return {"half": Half, "sink": StdoutSink, "instance": StdoutSink(), "a b": Half}
        @hookimpl
        def esmond_etl_commands():
            import click
            return {"no-command": print, "run": click.Command("run")}
        """,
}


def project(folder: Path, name: str, plugin: str, text: str) -> Path:
    """A distribution with one plugin in one module."""
    module = f"acme_{name.replace('-', '_')}"
    folder = folder / name
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT.format(name=f"acme-{name}", plugin=plugin, module=module))
    (folder / f"{module}.py").write_text(dedent(text))
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with one plugin that is right."""
    folder = tmp_path_factory.mktemp("good")
    environment = Environment(folder / "environment")
    environment.install(project(folder, "good", "acme", GOOD))
    return environment


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with plugins that are broken in all ways, one that is right, and one of the same name as that."""
    folder = tmp_path_factory.mktemp("broken")
    environment = Environment(folder / "environment")
    projects = [project(folder, name, name, text) for name, text in BROKEN.items()]
    projects += [project(folder, "good", "acme", GOOD), project(folder, "second", "acme", "")]
    environment.install(*projects)
    return environment


PIPELINE = """
from = 2014-01-01
to = 2014-01-03

[source]
type = "acme-clock"
name = "kitchen"

[[transform]]
type = "acme-odd"

[[sink]]
type = "acme-count"
path = "count"
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A folder with a pipeline of nothing but a stranger's stages."""
    (tmp_path / "x.toml").write_text(PIPELINE)
    return tmp_path


def ended(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    """How a command ended."""
    return done.returncode, done.stdout, done.stderr


def test_a_strangers_plugin_appears_in_plugins(good: Environment) -> None:
    code, out, err = ended(good.esmond_etl("plugins"))
    assert (code, err) == (0, "")
    for line in (
        "acme-clock  Counts the hours of each day. [acme-good 1.2]",
        "acme-odd          Keep odd numbers alone. [acme-good 1.2]",
        "acme-count  Count the datapoints in a file. [acme-good 1.2]",
        "acme       Say hello from acme. [acme-good 1.2]",
    ):
        assert f"  {line}\n" in out


def test_a_strangers_stage_is_explained(good: Environment) -> None:
    assert ended(good.esmond_etl("plugins", "acme-clock")) == (
        0,
        dedent("""\
            acme-clock: a source of acme-good 1.2

            Counts the hours of each day.

            Options:
              name: text, required
                  which clock

            Example:

              [source]
              type = "acme-clock"
              name = "kitchen"
            """),
        "",
    )


def test_a_strangers_options_are_checked(good: Environment, pipeline: Path) -> None:
    assert ended(good.esmond_etl("check", "x.toml", cwd=pipeline)) == (0, "x.toml: ok\n", "")
    (pipeline / "x.toml").write_text(PIPELINE.replace("name =", "nome =").replace("acme-odd", "acme-old"))
    assert ended(good.esmond_etl("check", "x.toml", cwd=pipeline)) == (
        2,
        "x.toml:5:1: source.name: is missing: which clock\n"
        "x.toml:7:1: source.nome: unknown option; did you mean 'name'?\n"
        "x.toml:10:1: transform[0].type: unknown transform 'acme-old'; did you mean 'acme-odd'?\n"
        "3 errors, 0 warnings\n",
        "",
    )


def test_a_strangers_options_are_in_the_schema(good: Environment) -> None:
    code, out, _ = ended(good.esmond_etl("schema"))
    made: dict[str, Any] = json.loads(out)["$defs"]
    assert code == 0
    assert {"source.acme-clock", "transform.acme-odd", "sink.acme-count"} <= made.keys()
    assert made["source.acme-clock"]["properties"]["name"] == {"description": "which clock", "type": "string"}
    assert made["source.acme-clock"]["required"] == ["type", "name"]


def test_a_pipeline_of_a_strangers_stages_runs(good: Environment, pipeline: Path) -> None:
    code, out, err = ended(good.esmond_etl("run", "x.toml", cwd=pipeline))
    assert (code, err) == (0, "")
    assert "x: 1 series, 48 datapoints read" in out
    assert sum(map(int, (pipeline / "count").read_text().split())) == 24


def test_a_strangers_command_is_a_command(good: Environment) -> None:
    assert ended(good.esmond_etl("acme")) == (0, "hello from acme\n", "")
    assert "  acme       Say hello from acme.\n" in good.esmond_etl("--help").stdout


REASONS = [
    "plugin acme (acme_second, of acme-second 1.2): there is a plugin of that name already: rename its entry point",
    "plugin asking (acme_asking, of acme-asking 1.2): PluginValidationError: Plugin 'asking' for hook 'esmond_etl_sinks' hookimpl "
    "definition: esmond_etl_sinks(config) Argument(s) {'config'} are declared in the hookimpl but can not be found in the hookspec",
    "plugin misspelt (acme_misspelt, of acme-misspelt 1.2): there is no hook esmond_etl_sink; did you mean esmond_etl_sinks?",
    "plugin mixed (acme_mixed, of acme-mixed 1.2): command 'no-command': <built-in function print> is not a click command",
    "plugin mixed (acme_mixed, of acme-mixed 1.2): command 'run': the name is taken by a command of esmond-etl itself: choose another",
    "plugin mixed (acme_mixed, of acme-mixed 1.2): source 'a b': a name is made of letters, digits, '.', '_' and '-'",
    "plugin mixed (acme_mixed, of acme-mixed 1.2): source 'half': Half does not define read",
    "plugin mixed (acme_mixed, of acme-mixed 1.2): source 'instance': StdoutSink(format='table') is not a class derived from Source",
    "plugin mixed (acme_mixed, of acme-mixed 1.2): source 'sink': StdoutSink is not a class derived from Source",
    "plugin nothing (acme_nothing, of acme-nothing 1.2): its hook esmond_etl_sinks failed: TypeError: it returned NoneType, not a "
    "dict of names",
    "plugin quits (acme_quits, of acme-quits 1.2): SystemExit: goodbye",
    "plugin raising (acme_raising, of acme-raising 1.2): its hook esmond_etl_sources failed: RuntimeError: no licence",
    "plugin thief (acme_thief, of acme-thief 1.2): sink 'stdout': the name is taken by plugin stdout, of esmond-etl {version}: choose "
    "another",
    "plugin unimportable (acme_unimportable, of acme-unimportable 1.2): ModuleNotFoundError: No module named 'no_such_module_anywhere'",
    "plugin unmarked (acme_unmarked, of acme-unmarked 1.2): esmond_etl_sinks is not marked: write @hookimpl above it",
]


def test_every_broken_plugin_is_reported_by_name_and_reason_and_the_others_work(broken: Environment, pipeline: Path) -> None:
    from esmond_etl import __version__

    code, out, err = ended(broken.esmond_etl("plugins", "--json"))
    facts = json.loads(out)
    said = [" ".join(problem.replace("\n", " ").split()) for problem in facts["problems"]]
    assert code == 1
    assert sorted(said) == [reason.replace("{version}", __version__) for reason in REASONS]
    assert err.splitlines() == facts["problems"]
    names = {(each["kind"], each["name"]): each["distribution"] for each in facts["plugins"]}
    assert names["sink", "stdout"].startswith("esmond-etl ")
    assert names["sink", "thief-stdout"] == "acme-thief 1.2"
    assert names["transform", "misspelt-same"] == "acme-misspelt 1.2"
    assert names["source", "acme-clock"] == "acme-good 1.2"
    assert not {("source", "half"), ("command", "no-command"), ("command", "run")} & names.keys()


def test_pipelines_run_beside_broken_plugins(broken: Environment, pipeline: Path) -> None:
    assert broken.esmond_etl("run", "x.toml", cwd=pipeline).returncode == 0
    assert sum(map(int, (pipeline / "count").read_text().split())) == 24
    assert broken.esmond_etl("acme").stdout == "hello from acme\n"
    assert broken.esmond_etl("--help").returncode == 0


def test_a_stage_of_a_broken_plugin_is_missed_with_the_reason(broken: Environment, pipeline: Path) -> None:
    (pipeline / "x.toml").write_text(PIPELINE.replace("acme-odd", "unimportable-stage"))
    code, out, _ = ended(broken.esmond_etl("check", "x.toml", cwd=pipeline))
    assert code == 2
    assert "unknown transform 'unimportable-stage'" in out
    assert "No module named 'no_such_module_anywhere'" in out


def test_an_unknown_command_is_explained_with_what_is_broken(broken: Environment) -> None:
    code, _, err = ended(broken.esmond_etl("unimportable"))
    assert code == 2
    assert "No such command 'unimportable'" in err
    assert "plugin unimportable (acme_unimportable, of acme-unimportable 1.2): ModuleNotFoundError" in err


def test_an_unknown_command_gets_the_nearest_one_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verfy"]) == 2
    assert "No such command 'verfy': did you mean 'verify'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted({each.name for each in installed().found.values()}))
def test_what_is_said_of_a_stage_fits_into_80_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["plugins", name]) == 0
    explained, _, _ = capsys.readouterr().out.partition("\nExample:\n")
    assert [line for line in explained.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(("name", "hint"), [("resampel", "did you mean 'resample'?"), ("x", "known: archive, convert, ")])
def test_a_stage_that_there_is_not_is_answered_with_those_that_there_are(
    name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plugins", name]) == 2
    assert capsys.readouterr().err.startswith(f"esmond-etl: there is no stage or command {name!r}; {hint}")


def test_our_own_plugins_are_found_by_entry_point_and_have_no_problems() -> None:
    registry = installed()
    assert registry.problems == []
    assert {each.plugin for each in registry.found.values() if each.distribution.startswith("esmond-etl ")} == {
        "archive",
        "esmond",
        "dask",
        "delta",
        "grafana",
        "influxdb",
        "opensearch",
        "parquet",
        "sql",
        "stdout",
        "transforms",
    }


def test_commands_are_found_without_importlib_metadata_as_with_it() -> None:
    assert load_commands().of("command").keys() == installed().of("command").keys()


def test_built_in_plugins_import_the_public_face_and_never_each_other() -> None:
    plugins = Path(__file__).parents[1] / "plugins"
    wrong = []
    for file in plugins.rglob("*.py"):
        own = file.relative_to(plugins).parts[0]
        wrong += [f"{file}: {name}" for name in imported(file) if not (name.partition(".")[0] == own or PUBLIC.fullmatch(name))]
    assert wrong == []


#: What a plugin may import beside itself: the public face, the client library, the columns of tables, aids for tests, and the printing
#: of commands.
PUBLIC = re.compile(r"(?!esmond_etl[._]).*|esmond_etl\.(client|tables|testing)(\..*)?|esmond_etl\.cli(\.show)?")


def imported(file: Path) -> list[str]:
    """The modules that a file imports, wherever it does so."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    found = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    return found + [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]


CHEAP = """
import sys
from esmond_etl.cli.group import run
run(["--help"])
heavy = {"pyarrow", "pydantic", "requests", "falcon", "waitress", "influxdb_client", "rich", "tree_sitter", "importlib.metadata"}
sys.exit(", ".join(sorted(heavy & sys.modules.keys())) or None)
"""


def test_help_loads_nothing_heavy() -> None:
    import sys

    done = subprocess.run([sys.executable, "-c", CHEAP], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mistake_in_our_own_code_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OverflowError("too large")

    monkeypatch.setattr("esmond_etl.pipeline.file.load", broken)
    assert run(["status", "p.toml"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("esmond-etl: OverflowError: too large: this is a mistake in esmond-etl or in a plugin")
    monkeypatch.setenv("ESMOND_ETL_TRACEBACK", "1")
    with pytest.raises(OverflowError):
        run(["status", "p.toml"])
