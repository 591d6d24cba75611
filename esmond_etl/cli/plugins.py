"""`esmond-etl plugins`: what is installed, explained by the stages themselves."""

from __future__ import annotations

from inspect import getdoc
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import click

from esmond_etl import cli
from esmond_etl.cli import show
from esmond_etl.model.errors import ConfigError
from esmond_etl.pipeline.problems import nearest

if TYPE_CHECKING:
    from esmond_etl.plugin.registry import Registered

_HEADINGS = {"source": "Sources", "transform": "Transforms", "sink": "Sinks", "executor": "Executors", "command": "Commands"}

#: Objects of plugins that are not stages -> where to read about them.
_ELSEWHERE = {"command": "esmond-etl {name} --help", "executor": "esmond-etl run --help"}

_NOUNS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "object": "table"}


@click.command(short_help=cli.COMMANDS["plugins"])
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(name: str | None, as_json: bool) -> int:
    """List the installed sources, transforms, sinks, executors and commands; with NAME, explain the stage and its options.

    A broken plugin is reported with the reason, and the exit code is 1.
    """
    from esmond_etl.plugin.registry import installed

    registry = installed()
    problems = registry.problems
    found = sorted(registry.found.values(), key=lambda each: (list(_HEADINGS).index(each.kind), each.name))
    chosen = [each for each in found if name in (None, each.name)]
    if not chosen:
        hint = nearest(f"{name}", {each.name for each in found})
        raise ConfigError("\n".join([f"there is no stage or command {name!r}; {hint}", *problems]))
    if as_json:
        show.as_json({"plugins": [_facts(each) for each in chosen], "problems": problems})
    elif name is None:
        _list(chosen)
    else:
        print("\n".join(_explained(each) for each in chosen), end="")
    for problem in problems:
        show.say(problem)
    return cli.DONE if not problems else cli.INCOMPLETE


def _about(thing: Any) -> str:
    text = thing.help if isinstance(thing, click.Command) else getdoc(thing)
    return text or ""


def _first_line(thing: Any) -> str:
    return _about(thing).strip().split("\n")[0]


def _facts(each: Registered) -> dict[str, Any]:
    about = {"kind": each.kind, "name": each.name, "plugin": each.plugin, "distribution": each.distribution}
    facts: dict[str, Any] = {**about, "about": _about(each.thing)}
    if each.kind not in _ELSEWHERE:
        facts["example"] = _example(each.thing)
        facts["options"] = _schema(each.thing)
    return facts


def _list(found: list[Registered]) -> None:
    formatter = click.HelpFormatter(max_width=100)
    for kind, heading in _HEADINGS.items():
        rows = [(each.name, _first_line(each.thing) + _whose(each)) for each in found if each.kind == kind]
        if rows:
            with formatter.section(heading):
                formatter.write_dl(rows)
    formatter.write_paragraph()
    formatter.write_text("`esmond-etl plugins NAME` explains one of them: its options, and an example.")
    print(formatter.getvalue().lstrip("\n"), end="")


def _whose(each: Registered) -> str:
    return "" if each.distribution.partition(" ")[0] == "esmond-etl" else f" [{each.distribution}]"


def _explained(each: Registered) -> str:
    formatter = click.HelpFormatter(max_width=100)
    formatter.write(f"{each.name}: a {each.kind} of {each.distribution}\n\n")
    formatter.write_text(_about(each.thing))
    if each.kind in _ELSEWHERE:
        formatter.write(f"\nSee `{_ELSEWHERE[each.kind].format(name=each.name)}`.\n")
        return formatter.getvalue()
    rows = list(_options(_schema(each.thing)))
    if rows:
        formatter.write("\nOptions:\n")
    for name, kind, text in rows:
        formatter.write(show.filled(f"  {name}: {kind}", formatter.width, 8) + "\n")
        with formatter.indentation(), formatter.indentation(), formatter.indentation():
            formatter.write_text(text)
    example = _example(each.thing)
    if example:
        formatter.write("\nExample:\n\n" + "".join(f"  {line}\n" if line else "\n" for line in example.split("\n")))
    return formatter.getvalue()


def explained_in_markdown(each: Registered) -> str:
    """The text of `esmond-etl plugins NAME` for a page of the documentation."""
    rows = [f"| `{name}` | {kind} | {text} |".replace("\n", " ") for name, kind, text in _options(_schema(each.thing))]
    table = ["", "| option | type | meaning |", "|---|---|---|", *rows] if rows else []
    return "\n".join([f"### {each.kind} {each.name}", "", _about(each.thing), *table, "", "```toml", _example(each.thing), "```"])


def _example(thing: Any) -> str:
    return dedent(getattr(thing, "example", "")).strip()


def _schema(thing: Any) -> dict[str, Any]:
    from esmond_etl.plugin.stage import options

    try:
        return options(thing)
    except Exception as error:  # an option of a plugin that no schema can describe
        return {"properties": {}, "description": f"its options cannot be described: {error}"}


def _options(schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    required = schema.get("required", ())
    rows = []
    for name, option in schema["properties"].items():
        default = option.get("default")
        default = "required" if name in required else "" if default in (None, [], {}) else f"default {_written(default, option)}"
        rows.append((name, ", ".join(part for part in (kind_of(option, schema), default) if part), option.get("description", "")))
    return sorted(rows, key=lambda row: row[0] not in required)


def _written(value: Any, option: dict[str, Any]) -> str:
    import json

    from esmond_etl.model.interval import format_duration

    if "duration" in kind_of(option, {}) and isinstance(value, int):
        return f'"{format_duration(value)}"'
    return json.dumps(value, ensure_ascii=False)


def kind_of(option: dict[str, Any], schema: dict[str, Any]) -> str:
    """The type of an option in words: "text", "list of numbers", "duration", ..."""
    if "$ref" in option:
        return kind_of(schema.get("$defs", {}).get(option["$ref"].rpartition("/")[2], {}), schema)
    if "anyOf" in option:
        return " or ".join(dict.fromkeys(kind_of(each, schema) for each in option["anyOf"] if each.get("type") != "null"))
    if "enum" in option:
        return " or ".join(f'"{each}"' for each in option["enum"])
    if "const" in option:
        return f'"{option["const"]}"'
    if option.get("writeOnly"):
        return "secret"
    kind = option.get("type")
    if kind == "array":
        return f"list of {kind_of(option.get('items', {}), schema)}"
    if kind == "string" and "[smhdw]" in option.get("pattern", ""):
        return "duration"
    if kind == ["string", "integer"]:
        return "date or time"
    if isinstance(kind, list):
        return " or ".join(kind_of({**option, "type": each}, schema) for each in kind)
    return _NOUNS.get(str(kind), "any value")
