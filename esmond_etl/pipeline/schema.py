"""The JSON Schema (draft 2020-12) of pipeline files, made from the options of the installed plugins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from esmond_etl.model.event_types import EVENT_TYPES
from esmond_etl.model.interval import DURATION_PATTERN
from esmond_etl.pipeline.checks import ARCHIVE_NAME
from esmond_etl.pipeline.settings import Settings
from esmond_etl.pipeline.tests import Case
from esmond_etl.plugin.registry import Kind, Registry
from esmond_etl.plugin.stage import options

#: A value that comes from the environment, whatever its type.
_FROM_ENVIRONMENT: Final = {"type": "string", "pattern": r"\$\{[^}]+\}"}

#: A duration greater than 0.
_NOT_ZERO: Final = DURATION_PATTERN.replace("[0-9]{1,10}", "0*[1-9][0-9]{0,9}")

_INCLUDE: Final = {
    "type": "array",
    "items": {"type": "string", "minLength": 1},
    "description": "files, beside this one, with keys and stages that several pipelines share; what this file says wins",
}

_ARCHIVE: Final = {
    "type": "string",
    "pattern": rf"^({ARCHIVE_NAME.pattern})$",
    "description": "the name of this archive, for the metadata parameter `archive` and as prefix of each metadata key",
}

_LISTS: Final[dict[Kind, str]] = {
    "transform": "changes to the datapoints on their way, in this order",
    "sink": "targets of the datapoints: each sink gets all of them",
}


def schema(registry: Registry) -> dict[str, Any]:
    """The JSON Schema of a pipeline file whose stages are those of `registry`."""
    found = {f"{kind}.{name}": _stage(kind, name, model) for kind, name, model in _stages(registry)}
    kinds = {kind: [name for name in found if name.startswith(f"{kind}.")] for kind in ("source", "transform", "sink")}
    made = {kind: {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in names]} for kind, names in kinds.items()}
    settings = _object(Settings)
    needed = [*settings.pop("required", ()), "source", "sink"]
    lists: dict[str, dict[str, Any]] = {
        kind: {"type": "array", "items": made[kind], "description": text} for kind, text in _LISTS.items()
    }
    lists["sink"]["minItems"] = 1
    cases = {
        "type": "array",
        "items": _object(Case),
        "description": "datapoints that `esmond-etl test` sends through the transforms",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An esmond-etl pipeline",
        **settings,
        "properties": {
            **settings["properties"],
            "include": _INCLUDE,
            "source": {**_one_or_several(made["source"]), "description": "where series are read from"},
            **lists,
            "test": cases,
        },
        "anyOf": [{"required": needed}, {"required": ["include"]}],
        "$defs": found,
    }


def _one_or_several(source: dict[str, Any]) -> dict[str, Any]:
    """One table, or several that name their archives."""
    named = {"allOf": [source, {"required": ["archive"]}]}
    return {"anyOf": [source, {"type": "array", "minItems": 1, "items": named}]}


def _stages(registry: Registry) -> Iterator[tuple[Kind, str, type[BaseModel]]]:
    for each in sorted(registry.found.values(), key=lambda each: (each.kind, each.name)):
        if each.kind != "command":
            yield each.kind, each.name, each.thing


def _stage(kind: Kind, name: str, model: type[BaseModel]) -> dict[str, Any]:
    try:
        made = _object(model)
    except Exception as error:  # an option of a plugin that no schema can describe: any value may be right
        made = {"description": f"{model.__doc__ or ''} (its options cannot be described: {error})".strip()}
    own: dict[str, Any] = {"type": {"const": name, "description": made.get("description", "")}}
    if kind == "source":
        own["archive"] = _ARCHIVE
    required = ["type", *made.get("required", ())]
    return {"type": "object", **made, "properties": {**own, **made.get("properties", {})}, "required": required}


def _object(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model's options with nothing in it that refers elsewhere."""
    made = options(model)
    known = made.pop("$defs", {})
    made.pop("title", None)
    not_zero = {field.alias or name for name, field in model.model_fields.items() if _positive(field.metadata)}
    made["properties"] = {
        name: _option(name, _inlined(each, known), name in not_zero) for name, each in made.get("properties", {}).items()
    }
    return made


def _positive(rules: list[Any]) -> bool:
    return any(getattr(rule, "gt", None) == 0 for rule in rules)


def _inlined(part: Any, known: Mapping[str, Any]) -> Any:
    """A part of a schema with its references resolved."""
    if isinstance(part, list):
        return [_inlined(each, known) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        rest = {key: value for key, value in part.items() if key != "$ref"}
        return {**_inlined(known[part["$ref"].rpartition("/")[2]], known), **_inlined(rest, known)}
    return {key: _inlined(each, known) for key, each in part.items()}


def _option(name: str, made: dict[str, Any], positive: bool) -> dict[str, Any]:
    """The schema of one option in a pipeline file: values from the environment are allowed, null is not, and its event types are listed."""
    about = {key: made.pop(key) for key in ("description", "default", "examples") if key in made}
    if about.get("default", 0) is None:
        del about["default"]
    made.pop("title", None)
    branches = [each for each in made.pop("anyOf", [made]) if each.get("type") != "null"]
    if name == "event_types":
        branches = [_event_types(each) for each in branches]
    if positive:
        branches = [{**each, "pattern": _NOT_ZERO} if each.get("pattern") == DURATION_PATTERN else each for each in branches]
    branches = [_or_from_environment(each) for each in branches]
    if not any(map(_takes_text, branches)) and any(each.get("type") in ("integer", "number", "boolean") for each in branches):
        branches.append(_FROM_ENVIRONMENT)
    return {**about, **(branches[0] if len(branches) == 1 else {"anyOf": branches})}


def _takes_text(made: Mapping[str, Any]) -> bool:
    return "type" not in made or "string" in made["type"] or "enum" in made


def _or_from_environment(made: dict[str, Any]) -> dict[str, Any]:
    if "pattern" in made:
        return {**made, "pattern": rf"({made['pattern']})|\$\{{"}
    if "enum" in made or "const" in made:
        return {"anyOf": [made, _FROM_ENVIRONMENT]}
    return made


def _event_types(made: dict[str, Any]) -> dict[str, Any]:
    if made.get("type") != "array":
        return made
    return {**made, "minItems": 1, "items": {"anyOf": [{"enum": list(EVENT_TYPES)}, {"type": "string"}]}}
