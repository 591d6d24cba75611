"""The files that `esmond-etl new` writes: a pipeline file that passes `check`, or a plugin whose tests pass."""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from textwrap import dedent
from typing import Any, Final

from esmond_etl.model.errors import ConfigError
from esmond_etl.pipeline import file as config
from esmond_etl.pipeline.problems import Problem, nearest
from esmond_etl.plugin.registry import installed, plugins
from esmond_etl.plugin.sink import Sink

#: The answers for a pipeline, in the order of the questions.
QUESTIONS: Final = ("source", "sink", "target", "from_", "event_types")

#: The key of a pipeline file for each answer.
_PLACES: Final = {
    "source": "source.url",
    "sink": "sink[0].type",
    "target": "sink[0]",
    "from_": "from",
    "event_types": "source.event_types",
}

#: An option that is taken from the environment.
_VARIABLE: Final = re.compile(r'(?m)(?<= = ")\$\{(\w+)\}(?="$)')

#: Template -> where it goes in a plugin.
_PLUGIN: Final = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "hooks.py": "$module/__init__.py",
    "limit.py": "$module/limit.py",
    "files.py": "$module/files.py",
    "test_plugin.py": "tests/test_$module.py",
}


def question(name: str, answers: Mapping[str, str]) -> tuple[str, str, list[str]] | None:
    """The question for an answer, given the answers before it: text, default, and choices, if there are any; None: not needed."""
    if name == "source":
        return "URL of the archive to read from", "https://archive.example.net/", []
    if name == "sink":
        return "Type of the sink (esmond-etl plugins explains them)", "parquet", sorted(installed().of("sink"))
    if name == "target":
        option = _target(_sink(answers["sink"]))
        example = _example(_sink(answers["sink"])).get(option or "")
        return (f"Its {option}", str(example or "out/"), []) if option else None
    if name == "from_":
        return 'Start of the measurements: a date, or an age such as "30d"', "30d", []
    return "Event types, separated by commas", "all", []


def pipeline(file: Path, answers: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text of a pipeline file, and the environment variables that it needs but are not set.

    Raises ConfigError if the answers do not make a pipeline that passes `check`.
    """
    text, problems = _tried(file, answers)
    if problems:
        raise ConfigError("\n".join(map(_said, problems)))
    return text, [name for name in _VARIABLE.findall(text) if name not in os.environ]


def check(name: str, answers: Mapping[str, str]) -> None:
    """Raises ConfigError if the answer to `name`, the last so far, is wrong whatever the later answers are."""
    whole = dict(answers)
    for other in QUESTIONS:
        if other not in whole:
            asked = question(other, whole)
            whole[other] = asked[1] if asked else ""
    wrong = [each for each in _tried(Path("pipeline.toml"), whole)[1] if each.where.startswith(_PLACES[name])]
    if wrong:
        raise ConfigError("\n".join(map(_said, wrong)))


def _tried(file: Path, answers: Mapping[str, str]) -> tuple[str, list[Problem]]:
    """The text of a pipeline, and its mistakes; the sink's secrets are included only if that removes mistakes."""
    text = _pipeline(file, answers, secrets=False)
    problems = _problems(text)
    if problems:  # some sinks need their secrets
        other = _pipeline(file, answers, secrets=True)
        text, problems = min((text, problems), (other, _problems(_VARIABLE.sub("secret", other))), key=lambda each: len(each[1]))
    return text, problems


def _said(problem: Problem) -> str:
    return f"{problem.where}: {problem.what}" + (f"; {problem.hint}" if problem.hint else "")


def _pipeline(file: Path, answers: Mapping[str, str], secrets: bool) -> str:
    names = [name.strip() for name in answers["event_types"].split(",") if name.strip()]
    chosen = f"event_types = {json.dumps(names)}"
    about = {
        "title": f"{answers['source']} to {answers['sink']}",
        "file": str(file),
        "from": _toml(answers["from_"]),
        "source": _toml(answers["source"]),
        "event_types": chosen if names != ["all"] else '# event_types = ["throughput", "packet-loss-rate"]    # default: all',
        "sink": _sink_table(answers, secrets),
        "type": answers["sink"],
    }
    return _template("pipeline.toml").substitute(about)


def _sink_table(answers: Mapping[str, str], secrets: bool) -> str:
    """The sink's own example with the target in it; what comes from the environment is a comment unless it is needed."""
    stage = _sink(answers["sink"])
    target = _target(stage)
    options = {**_example(stage), **({target: answers["target"]} if target else {})}
    lines = ["[[sink]]", f"type = {_toml(answers['sink'])}"]
    for name, value in options.items():
        hidden = not secrets and name != target and "${" in str(value)
        described = _comment(stage, name) if hidden else ""
        lines.append(f"{'# ' if hidden else ''}{name} = {_toml(value)}{described}")
    return "\n".join(lines)


def _comment(stage: type[Sink], name: str) -> str:
    field = stage.model_fields.get(name)
    return f"    # {field.description}" if field and field.description else ""


def _sink(name: str) -> type[Sink]:
    known = installed().of("sink")
    if name not in known:
        raise ConfigError(f"unknown sink {name!r}; {nearest(name, known)}")
    stage: type[Sink] = known[name]
    return stage


def _example(stage: type[Sink]) -> dict[str, Any]:
    """The options in the example of a sink's class."""
    tables = tomllib.loads(dedent(stage.example)).get("sink") or [{}]
    return {name: value for name, value in tables[0].items() if name != "type"}


def _target(stage: type[Sink]) -> str | None:
    """The option that says where a sink's data go, if it is required."""
    required = [field.alias or name for name, field in stage.model_fields.items() if field.is_required()]
    return next((name for name in required if name in stage.place), next(iter(required), None))


def _problems(text: str) -> list[Problem]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.toml")
        path.write_text(text, encoding="utf-8")
        return [problem for problem in config.inspect(path)[1] if not problem.warning]


def plugin(name: str) -> dict[str, str]:
    """The files of a plugin called `name`: path -> text; raises ConfigError if that is not a valid name for a new one."""
    short = name.removeprefix("esmond-etl-")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", short):
        raise ConfigError(
            f"{name!r} is not a valid name for a plugin: use small letters and digits, with '-' between words, such as acme-probes"
        )
    module = f"esmond_etl_{short.replace('-', '_')}"
    for taken in plugins():
        if short == taken.name or module == taken.module.partition(".")[0]:
            raise ConfigError(f"{name!r} is the name of {taken}: choose another, for one would overwrite the other")
    about = {"name": short, "module": module}
    return {
        Template(path).substitute(about): _template(f"plugin/{template}").substitute(about) for template, path in _PLUGIN.items()
    }


def _template(path: str) -> Template:
    return Template(files("esmond_etl.pipeline").joinpath("templates", f"{path}.txt").read_text(encoding="utf-8"))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)
