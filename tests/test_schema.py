"""The JSON Schema of pipeline files."""

from __future__ import annotations

import json
import tomllib
from datetime import date, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from esmond_etl import Stage
from esmond_etl.cli.group import run
from esmond_etl.pipeline import file as config
from esmond_etl.pipeline.schema import schema
from esmond_etl.plugin.registry import Registered, installed

ROOT = Path(__file__).parents[1]
WRONG = sorted((ROOT / "tests" / "golden" / "check").glob("*.toml"))

#: What a schema cannot know of a file that is TOML: how its parts go together, what is around it, what letters mean.
BEYOND = {
    "event-type-misspelt",  # an unknown one may be right: only check tells a slip of the pen from a new type
    "event-type-misspelt-in-a-transform",
    "from-after-to",
    "histograms-wanted-of-numbers",
    "mirror-of-all-summaries",
    "mirror-of-averages",
    "no-such-date",
    "no-summary",
    "numbers-wanted-of-histograms",
    "period-that-does-not-divide",
    "sink-is-the-source",
    "sink-is-the-source-in-other-words",
    "summary-that-none-can-have",
    "summary-that-one-cannot-have",
    "test-out-of-order",
    "test-values-of-another-kind",
    "two-sinks-on-one-path",
    "unit-that-one-cannot-have",
    "url-without-a-scheme",
    "variable-that-is-not-set",
}

VALIDATOR = Draft202012Validator(schema(installed()))


def as_json(value: Any) -> Any:
    """A TOML value as editors hand it to a schema: dates are texts."""
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_json(each) for each in value]
    return value.isoformat() if isinstance(value, date | datetime) else value


def complaints(text: str) -> list[str]:
    """What the schema has to say against a file of this text."""
    return [error.message for error in VALIDATOR.iter_errors(as_json(tomllib.loads(text)))]


def stages() -> list[Registered]:
    """Every installed stage."""
    return [each for each in installed().found.values() if each.kind not in ("command", "executor")]


def test_it_is_a_schema_of_its_draft() -> None:
    Draft202012Validator.check_schema(schema(installed()))


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*.toml")), ids=lambda path: path.name)
def test_the_pipelines_that_come_with_it_are_right(path: Path) -> None:
    assert complaints(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_it_agrees_with_check_on_wrong_files(path: Path) -> None:
    try:
        found = complaints(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        assert path.stem.startswith("not-")
        return
    assert bool(found) is (path.stem not in BEYOND)


def test_most_wrong_files_are_wrong_by_the_schema() -> None:
    assert len(WRONG) - len(BEYOND) - len([path for path in WRONG if path.stem.startswith("not-")]) >= 25


@pytest.mark.parametrize("each", stages(), ids=lambda each: f"{each.kind}-{each.name}")
def test_the_example_of_every_stage_is_right_by_schema_and_by_check(
    each: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {
        "source": '[source]\ntype = "esmond"\nurl = "https://archive.example.net/"\n',
        "transform": "",
        "sink": '[[sink]]\ntype = "stdout"\n',
    }
    parts[each.kind] = dedent(each.thing.example)
    text = "from = 2014-01-01\n" + "\n".join(parts.values())
    for name in ("ESMOND_API_KEY", "INFLUXDB_TOKEN", "OPENSEARCH_PASSWORD", "WAREHOUSE_PASSWORD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.chdir(tmp_path)
    Path("sites.csv").write_text("address,site\n192.0.2.1,here\n")
    path = tmp_path / "example.toml"
    path.write_text(text, encoding="utf-8")
    assert complaints(text) == []
    warning = "no document has a place for it"  # of some event types, where a source may have them all
    assert [str(problem) for problem in config.inspect(path)[1] if warning not in str(problem)] == []


@pytest.mark.parametrize("each", stages(), ids=lambda each: f"{each.kind}-{each.name}")
def test_every_option_of_every_stage_is_described(each: Registered) -> None:
    described = VALIDATOR.schema["$defs"][f"{each.kind}.{each.name}"]
    options = {field.alias or name for name, field in each.thing.model_fields.items()}
    assert described["properties"].keys() == {"type", *(["archive"] if each.kind == "source" else []), *options}
    assert [name for name, option in described["properties"].items() if not option.get("description")] == []


def test_values_may_come_from_the_environment_whatever_their_type() -> None:
    text = """
    from = "${FROM}"
    parallel = "${N}"
    window = "${WINDOW}"
    [source]
    type = "esmond"
    url = "https://${HOST}/"
    verify = "${VERIFY}"
    retries = "${RETRIES}"
    [[transform]]
    type = "resample"
    period = "${PERIOD}"
    how = "${HOW}"
    [[sink]]
    type = "parquet"
    path = "${OUT}"
    """
    assert complaints(text) == []


def test_one_summary_needs_no_brackets_by_schema_as_by_check(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    source = '[source]\ntype = "esmond"\nurl = "https://archive.example.net/"\nsummaries = "all"\n'
    path.write_text(f'from = 2014-01-01\n{source}[[sink]]\ntype = "stdout"\n', encoding="utf-8")
    assert complaints(path.read_text()) == []
    assert config.inspect(path)[1] == []


def test_known_event_types_are_offered_and_others_are_taken() -> None:
    option = VALIDATOR.schema["$defs"]["source.esmond"]["properties"]["event_types"]
    assert "histogram-owdelay" in option["items"]["anyOf"][0]["enum"]
    assert option["items"]["anyOf"][1] == {"type": "string"}


def test_the_command_prints_it_or_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert run(["schema", "-o", str(tmp_path / "x.json")]) == 0
    assert json.loads((tmp_path / "x.json").read_text()) == printed == schema(installed())


def test_a_stage_that_no_schema_can_describe_takes_anything() -> None:
    class Odd(Stage):
        """Has an option of a type of its own."""

        lock: type[Stage] | None = None
        thing: Any = None

    from esmond_etl.plugin.registry import Registry

    registry = Registry(
        {("source", "odd"): Registered("source", "odd", "x", Odd), ("sink", "odd"): Registered("sink", "odd", "x", Odd)}
    )
    made = Draft202012Validator(schema(registry))
    file = {"from": "2014-01-01", "source": {"type": "odd", "lock": 1}, "sink": [{"type": "odd"}]}
    assert list(made.iter_errors(file)) == []
