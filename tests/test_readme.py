"""README is true: its pipeline passes `check`, its plugin halves, its commands exist, its two set-ups are what CI does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from esmond_etl import Batch, Metadata, Series, cli
from esmond_etl.pipeline.file import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_pipeline_is_one(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    (tmp_path / "esnet.toml").write_text(text)
    pipeline = load(tmp_path / "esnet.toml")
    assert (pipeline.name, pipeline.labels) == ("esnet", ("sink[0] (parquet)",))


def test_the_plugin_of_ten_lines_halves() -> None:
    text = blocks("python")[1]
    names: dict[str, object] = {}
    exec(text, names)
    hook = names["esmond_etl_transforms"]
    assert callable(hook)
    batch = Batch.from_points(Series(Metadata("k"), "throughput"), [(1, 8.0), (2, 3.0)])
    assert [tuple(point) for point in hook()["halve"]().apply_batch(batch).to_points()] == [(1, 4.0), (2, 1.5)]


def test_every_command_that_is_shown_exists() -> None:
    shown = set(re.findall(r"(?:`|^    )esmond-etl (\w+)", README, re.MULTILINE)) - {"demo"}
    assert shown
    assert shown <= set(cli.COMMANDS)


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"\]\((\S+?)\)", README)) | set(re.findall(r"(pipelines/\S+?\.toml)", README))
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_ci_does_what_readme_says_for_the_tests() -> None:
    assert blocks("sh")[1].strip() in (ROOT / ".ci" / "run").read_text()


def test_every_promise_is_shown_by_tests_that_are_there() -> None:
    rows = re.findall(r"^\| (.+) \| (`.+`) \|$", README.partition("## What is guaranteed")[2].partition("##")[0], re.MULTILINE)
    assert len(rows) >= 8
    assert [name for _, names in rows for name in re.findall(r"`(.+?)`", names) if not (ROOT / name).exists()] == []


def test_the_extras_that_are_named_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for found in re.findall(r"'\.\[([\w,]+)\]'", README) for extra in found.split(",")}
    assert {"demo", "test"} <= named
    assert named <= set(extras)


@pytest.mark.parametrize("code", ["0 all", "1 some", "2 a command line", "3 another run"])
def test_the_exit_codes_are_those_of_help(code: str) -> None:
    assert code in README
