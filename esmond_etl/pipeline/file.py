"""Pipeline files: TOML to a Definition, every mistake with file, line and column."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BaseModel, Field, ValidationError, create_model

from esmond_etl.model.errors import ConfigError
from esmond_etl.model.interval import DURATION_PATTERN
from esmond_etl.pipeline import checks as check
from esmond_etl.pipeline import positions as toml_positions
from esmond_etl.pipeline.definition import Definition
from esmond_etl.pipeline.include import Texts
from esmond_etl.pipeline.problems import Mistake, Problem, in_words, json_types, keys_of, nearest, nouns, value_at, where
from esmond_etl.pipeline.secrets import secret
from esmond_etl.pipeline.settings import Settings
from esmond_etl.pipeline.tests import Case
from esmond_etl.plugin.archives import Archives
from esmond_etl.plugin.registry import Kind, Registry, installed, ours
from esmond_etl.plugin.source import Source
from esmond_etl.plugin.stage import Stage, options

#: The parts of a pipeline file that are not settings.
PARTS: Final = ("include", "source", "transform", "sink", "test")

_PASSWORD: Final = re.compile(r"\w+://[^/\s@]*:[^/\s@]+@")


def load(path: str | Path) -> Definition:
    """The pipeline in the file `path`; raises ConfigError with all that `check` calls an error, a line each."""
    return _without_errors(*inspect(path))


def _without_errors(pipeline: Definition | None, problems: list[Problem]) -> Definition:
    errors = [problem for problem in problems if not problem.warning]
    if pipeline is None or errors:
        raise ConfigError("\n".join(str(problem) for problem in errors))
    return pipeline


def load_texts(path: str, texts: Mapping[str, str]) -> Definition:
    """The pipeline in the file `path`, whose text and that of the files that it includes is in `texts`; raises ConfigError as `load`."""
    return _without_errors(*_Reader(Texts(path, texts), None).read())


def texts(path: str) -> dict[str, str]:
    """The text of the pipeline file and of the files that it includes; without those that cannot be read."""
    found = Texts(path)
    found.read()
    return found.known


def inspect(path: str | Path, registry: Registry | None = None) -> tuple[Definition | None, list[Problem]]:
    """The pipeline in the file `path` (None if it cannot be made) and all that is wrong with the file, in the file's order."""
    return _Reader(Texts(str(path)), registry).read()


def define(data: Mapping[str, Any]) -> Definition:
    """The pipeline of `data`, which has the structure of a pipeline file; a stage may be an object instead of a table.

    Raises ConfigError with every mistake, a line each.
    """
    reader = _Reader(Texts(f"<{data.get('name')}>"), None)
    definition = reader._pipeline(dict(data))
    errors = [each for each in reader.mistakes if not each.warning]
    if definition is None or errors:
        raise ConfigError("\n".join(f"{where(path)}: {what}" + (f"; {hint}" if hint else "") for path, what, hint, _ in errors))
    return definition


class _Reader:
    """Reads one file and collects its mistakes."""

    def __init__(self, texts: Texts, registry: Registry | None) -> None:
        self.texts, self.registry = texts, registry
        self.mistakes: list[Mistake] = []
        self.made: dict[toml_positions.Path, Any] = {}  #: the stage made from each table, if need be from only some of its options
        self.substituted: set[toml_positions.Path] = set()  #: values that come from the environment, in whole or in part
        self.values: set[str] = set()  #: values of environment variables: never to be printed
        self.unset: set[toml_positions.Path] = set()  #: those whose variable is missing

    def read(self) -> tuple[Definition | None, list[Problem]]:
        try:
            data = self.texts.read()
            pipeline = self._pipeline(data) if data is not None else None
            return pipeline, self.texts.problems or self.texts.placed(self.mistakes)
        except RecursionError:
            return None, [Problem(self.texts.file, (1, 1), "", "is nested too deeply to be read")]

    def mistake(self, path: toml_positions.Path, what: str, hint: str = "", warning: bool = False) -> None:
        if not path or not any(_nested(path, unset) for unset in self.unset):  # otherwise the missing variable is the mistake
            self.mistakes.append(Mistake(path, self._masked(what), self._masked(hint), warning))

    def _masked(self, text: str) -> str:
        """The text with all values from the environment masked: any of them may be a secret, whichever option it is in."""
        for value in sorted(filter(None, self.values), key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "***", text)
        return text

    def _pipeline(self, raw: dict[str, Any]) -> Definition | None:
        data: dict[str, Any] = self._substituted(raw, ())
        given = data.pop("source", None)
        transforms, sinks, tests = (self._list(data, name) for name in ("transform", "sink", "test"))
        settings = self._validated(Settings, data, ())
        source = self._source(given)
        if raw.get("sink", []) == []:
            self.mistake((), "there is no [[sink]]", 'add one, such as type = "parquet"')
        made = tuple(self._stage("transform", each, ("transform", index)) for index, each in enumerate(transforms))
        ends = tuple(self._stage("sink", each, ("sink", index)) for index, each in enumerate(sinks))
        cases = tuple(self._case(each, ("test", index)) for index, each in enumerate(tests))
        for found in check.mistakes(self._draft(len(given) if isinstance(given, list) else 0, len(made), len(ends))):
            self.mistake(*found)
        if settings is None or source is None or not ends or None in made + ends + cases:
            return None
        labels = tuple(f"sink[{index}] ({_type(each)})" for index, each in enumerate(sinks))
        return Definition(self.texts.file, settings, source, made, ends, labels, cases)

    def _source(self, given: Any) -> Source | None:
        """The source; sources that name their archives, as one."""
        if not given:
            self.mistake((), "there is no [source]", 'add one, such as type = "esmond"')
            return None
        places: list[toml_positions.Path] = (
            [("source", index) for index in range(len(given))] if isinstance(given, list) else [("source",)]
        )
        tables = [dict(each) if isinstance(each, Mapping) else each for each in (given if isinstance(given, list) else [given])]
        names = [each.pop("archive", None) if isinstance(each, dict) else None for each in tables]
        made = [self._stage("source", each, path) for each, path in zip(tables, places, strict=True)]
        for index, (name, path) in enumerate(zip(names, places, strict=True)):
            for found in check.archive(path, name, names[:index], len(names) > 1):
                self.mistake(*found)
                made[index] = None
        if None in made:
            return None
        return made[0] if names == [None] else Archives(parts=dict(zip(names, made, strict=True)))

    def _draft(self, sources: int, transforms: int, sinks: int) -> check.Draft:
        """Each stage, made from its valid options, so that one mistake does not hide another."""
        wrong = frozenset(mistake.path for mistake in self.mistakes if not mistake.warning) | self.unset
        return check.Draft(
            self.made.get(()),
            tuple(
                (path, self.made[path])
                for path in (("source",), *(("source", each) for each in range(sources)))
                if path in self.made
            ),
            tuple(self.made.get(("transform", index)) for index in range(transforms)),
            tuple(self.made.get(("sink", index)) for index in range(sinks)),
            wrong,
        )

    def _list(self, data: dict[str, Any], name: str) -> list[Any]:
        value = data.pop(name, [])
        if isinstance(value, list):
            return value
        self.mistake((name,), f"write [[{name}]], with two brackets: there may be several")
        return []

    def _substituted(self, value: Any, path: toml_positions.Path) -> Any:
        if isinstance(value, str):
            return re.sub(r"\$\$\{|\$\{([^}]*)\}", lambda match: self._variable(match, path), value)
        if isinstance(value, dict):
            return {key: self._substituted(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self._substituted(each, (*path, index)) for index, each in enumerate(value)]
        return value

    def _variable(self, match: re.Match[str], path: toml_positions.Path) -> str:
        if match[0] == "$${":
            return "${"
        self.substituted.add(path)
        try:
            value = secret(match[1], self.texts.folder(path))
        except ConfigError as error:
            what, _, hint = str(error).partition("; ")
            self.mistakes.append(Mistake(path, what, f"{hint}, or write $${{ for a literal ${{"))
            self.unset.add(path)
            return ""
        self.values.add(value)
        return value

    def _stage(self, kind: Kind, given: Any, path: toml_positions.Path) -> Any:
        if isinstance(given, Stage):  # from a program
            self.made[path] = given
            return given
        if not isinstance(given, Mapping):
            self.mistake(path, "is not a table of options")
            return None
        name = given.get("type")
        rest = {key: value for key, value in given.items() if key != "type"}
        if self.registry is None and isinstance(name, str) and (stage := ours(kind, name)):
            return self._located(stage, rest, path)
        registry = self.registry or installed(kind)
        known = registry.of(kind)
        if name is None:
            self.mistake((*path, "type"), "is missing", f"which {kind}? known: {', '.join(sorted(known))}")
            return None
        if not isinstance(name, str):
            self.mistake((*path, "type"), f"must be a text, not {nouns(json_types(name))}")
            return None
        if name not in known:
            broken = "".join(f" ({problem})" for problem in registry.problems)
            self.mistake((*path, "type"), f"unknown {kind} {name!r}", nearest(name, known) + broken)
            return None
        return self._located(known[name], rest, path)

    def _located(self, stage: type[Stage], options: dict[str, Any], path: toml_positions.Path) -> Any:
        """The stage; a relative path starts in the folder of the file that contains the option, not in the current folder."""
        located: dict[str, Any] = {}
        folders = {name: self.texts.folder((*path, name)) for name in options}
        for folder in dict.fromkeys(folders.values()) or [self.texts.folder(path)]:
            of_folder = {name: each for name, each in options.items() if folders[name] == folder}
            made = stage.located(of_folder, folder)
            located |= {name: each for name, each in made.items() if name in of_folder or name not in options}
        return self._validated(stage, located, path)

    def _case(self, given: Any, path: toml_positions.Path) -> Any:
        if not isinstance(given, dict):
            self.mistake(path, "is not a table of options")
            return None
        case = self._validated(Case, given, path)
        name = given.get("event_type")
        unknown = check.unknown_event_type((*path, "event_type"), name) if isinstance(name, str) else None
        if unknown and not unknown.warning:
            self.mistake(*unknown)
        elif case is not None:
            for found in check.wrong_values(path, case):
                self.mistake(*found)
        return case

    def _validated(self, model: type[BaseModel], data: Mapping[str, Any], path: toml_positions.Path) -> Any:
        before = len(self.mistakes)
        for name, value in data.items():
            self._of_right_type(model, name, value, (*path, name))
        try:
            self.made[path] = model.model_validate(data)
        except ValidationError as error:
            self._explain(model, error, data, path)
            wrong = {mistake.path[len(path)] for mistake in self.mistakes[before:] if len(mistake.path) > len(path)}
            with suppress(Exception):  # the remaining options are only searched for further mistakes
                self.made[path] = _lenient(model).model_validate({name: each for name, each in data.items() if name not in wrong})
        except Exception as error:  # a plugin's validator may raise anything
            self.mistake(path, f"{model.__name__} cannot be made of these options: {type(error).__name__}: {error}")
        return self.made.get(path) if all(each.warning for each in self.mistakes[before:]) else None

    def _of_right_type(self, model: type[BaseModel], name: str, value: Any, path: toml_positions.Path) -> None:
        """Mistakes that pydantic accepts: a quoted number, a number for true; and secrets in the file."""
        types, is_secret, duration = _facts(model).get(name, _ANYTHING)
        if path in self.substituted:
            if is_secret and value == "" and path not in self.unset:
                self.mistake(path, "the secret is empty", "set the variable, or leave the option out")
            return
        if isinstance(value, str) and value and (is_secret or _PASSWORD.match(value)):
            hint = f"write {name} with ${{NAME}} in it, and set that variable in the environment"
            self.mistake(path, "there is a secret in the file", hint, warning=True)
        kinds = json_types(value)
        if duration and "number" in kinds:
            self.mistake(path, "a duration needs a unit", 'write it as "90s", "15m", "6h" or "1d"')
        elif types and not types & kinds and not types & {"array", "object"}:
            self.mistake(
                path, f"must be {nouns(types)}, not {nouns(kinds)}", "write it without quotes" if kinds == {"string"} else ""
            )

    def _explain(self, model: type[BaseModel], error: ValidationError, data: Mapping[str, Any], path: toml_positions.Path) -> None:
        said: dict[toml_positions.Path, list[Mistake]] = {}
        for each in error.errors(include_url=False, include_input=False):
            place = (*path, *keys_of(each["loc"], data, each["type"]))
            if each["type"] == "extra_forbidden" and len(place) == len(path) + 1:
                names = [field.alias or name for name, field in model.model_fields.items()]
                names += PARTS if model is Settings else () if model is Case else ("type",)
                self.mistake(place, "unknown option", nearest(str(place[-1]), names))
            elif each["type"] == "missing":
                self.mistake(place, f"is missing{_purpose(model, place[-1])}")
            else:
                said.setdefault(place, []).append(in_words(place, each, value_at(data, place[len(path) :])))
        for place, mistakes in said.items():
            if not any(mistake.path == place and not mistake.warning for mistake in self.mistakes):
                what = " or ".join(dict.fromkeys(each.what for each in mistakes)).replace(" or must be ", " or ")
                self.mistake(place, what, mistakes[0].hint)


def _type(given: Any) -> str:
    """The name of a stage: its `type` in a file, its class in a program."""
    return str(given["type"]) if isinstance(given, Mapping) else type(given).__name__


def _nested(one: toml_positions.Path, other: toml_positions.Path) -> bool:
    """Whether one of two places of a file lies in the other, or is it."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


@cache
def _lenient(model: type[BaseModel]) -> type[BaseModel]:
    """The model with None for a missing option, and without rules on several options."""
    rules = model.__pydantic_decorators__.model_validators
    kept: dict[str, Any] = {name: _as_it_is for name, rule in rules.items() if rule.info.mode == "after"}
    base = type(model.__name__, (model,), {"__module__": model.__module__, **kept})
    required = {name: field for name, field in model.model_fields.items() if field.is_required()}
    optional: dict[str, Any] = {
        name: (Annotated[(field.annotation, *field.metadata, Field(alias=field.alias))], None) for name, field in required.items()
    }
    return create_model(model.__name__, __base__=base, **optional)


def _as_it_is(made: BaseModel) -> BaseModel:
    return made


def _purpose(model: type[BaseModel], name: object) -> str:
    for attribute, each in model.model_fields.items():
        if (each.alias or attribute) == name and each.description:
            return f": {each.description}"
    return ""


class _Facts(NamedTuple):
    """The rules for an option besides those that pydantic checks."""

    types: frozenset[str]  #: JSON types; empty: all types
    secret: bool
    duration: bool


_ANYTHING: Final = _Facts(frozenset(), False, False)


@cache
def _facts(model: type[BaseModel]) -> dict[str, _Facts]:
    """The rules in the schema of each option."""
    try:
        schema = options(model)
    except Exception:  # an option of a plugin that no schema can describe: anything may be right
        return {}
    known = schema.get("$defs", {})
    return {
        name: _Facts(_types(each, known), _says(each, "writeOnly", True), _says(each, "pattern", DURATION_PATTERN))
        for name, each in schema.get("properties", {}).items()
    }


def _types(schema: Mapping[str, Any], known: Mapping[str, Any]) -> frozenset[str]:
    if "$ref" in schema:
        return _types(known.get(schema["$ref"].rpartition("/")[2], {}), known)
    if "type" in schema:
        return frozenset([schema["type"]] if isinstance(schema["type"], str) else schema["type"])
    branches = [_types(each, known) for each in schema.get("anyOf", ())]
    return frozenset[str]().union(*branches) if all(branches) else frozenset()


def _says(schema: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether a schema, or one of its branches, has `value` under `key`."""
    return schema.get(key) == value or any(_says(each, key, value) for each in schema.get("anyOf", ()))
