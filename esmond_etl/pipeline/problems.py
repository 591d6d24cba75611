"""Mistakes in a pipeline file, and their positions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from esmond_etl.pipeline.positions import Path, Position


class Mistake(NamedTuple):
    """A mistake in a pipeline file, located by its keys."""

    path: Path
    what: str
    hint: str = ""  #: what to do
    warning: bool = False


@dataclass(frozen=True)
class Problem:
    """A mistake in a pipeline file, located by line and column."""

    file: str
    position: Position
    where: str  #: the path of keys, as "sink[0].url"
    what: str
    hint: str = ""  #: what to do
    warning: bool = False

    def __str__(self) -> str:
        line, column = self.position
        where = f"{self.where}: " if self.where else ""
        hint = f"; {self.hint}" if self.hint else ""
        said = f"{'warning: ' if self.warning else ''}{where}{self.what}{hint}"
        return f"{self.file}:{line}:{column}: {' '.join(said.splitlines())}"

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        line, column = self.position
        kind = "warning" if self.warning else "error"
        about = {"where": self.where, "what": self.what, "hint": self.hint}
        return {"file": self.file, "line": line, "column": column, "kind": kind, **about}


def where(path: Path) -> str:
    """A path as people write it: sink[0].url."""
    return "".join(_parts(path))


def _parts(path: Path) -> Iterator[str]:
    for index, part in enumerate(path):
        yield f"[{part}]" if isinstance(part, int) else f".{_key(part)}" if index else _key(part)


def _key(name: str) -> str:
    """A key in TOML syntax: in quotes if necessary."""
    return name if re.fullmatch(r"[\w-]+", name) else json.dumps(name, ensure_ascii=not name.isprintable())


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint "did you mean ...?" if a known name is much like `name`, else "known: ..."."""
    names = sorted(known)
    close = get_close_matches(name, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def keys_of(location: Iterable[Any], data: Any, kind: str) -> Iterator[str | int]:
    """Of pydantic's location, the parts that are keys of the file: others name the branches of a union."""
    *rest, last = location or [None]
    for part in rest:
        if isinstance(data, dict | list) and _holds(data, part):
            data = data[part]
            yield part
    if last is not None and (kind == "missing" or _holds(data, last)):
        yield last


def _holds(data: Any, part: Any) -> bool:
    if isinstance(data, list):
        return isinstance(part, int) and part < len(data)
    return isinstance(data, dict) and part in data


def value_at(data: Any, keys: Path) -> Any:
    """The value in `data` at `keys`; None if there is none."""
    for key in keys:
        data = data[key] if _holds(data, key) else None
    return data


def in_words(place: Path, error: Any, value: Any) -> Mistake:
    """An error of pydantic as a mistake."""
    text: str = error["msg"].removeprefix("Value error, ").removeprefix("Input should ")
    if error["type"] == "string_pattern_mismatch":
        return Mistake(place, f"must match {error['ctx']['pattern']}")
    if error["type"] == "literal_error" and isinstance(value, str):
        hint = nearest(value, re.findall(r"'([^']+)'", error["ctx"]["expected"]))
        return Mistake(place, f"must {text}", hint if hint.startswith("did") else "")
    if error["type"] == "list_type" and isinstance(value, str):
        return Mistake(place, "must be a list", 'write it in brackets: ["..."]')
    if error["type"] in _TYPES:
        return Mistake(place, f"must be {_NOUNS[_TYPES[error['type']]]}")
    if error["type"] in ("too_short", "string_too_short") and not value:
        return Mistake(place, "must not be empty")
    if error["type"] == "tuple_type":
        return Mistake(place, "must be a list of what belongs together, such as [moment, value]")
    return Mistake(place, f"must {text}" if error["msg"].startswith("Input should ") else text)


def json_types(value: Any) -> frozenset[str]:
    """The JSON Schema types of a TOML value; a date is a string, and a whole number has two types."""
    if isinstance(value, bool):
        return frozenset({"boolean"})
    if isinstance(value, int | float):
        return frozenset({"number", "integer"}) if isinstance(value, int) or value.is_integer() else frozenset({"number"})
    return frozenset({"array" if isinstance(value, list) else "object" if isinstance(value, dict) else "string"})


_NOUNS: Final = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}


#: The type in an error of pydantic -> the type in a JSON Schema.
_TYPES: Final = {
    "string_type": "string",
    "int_type": "integer",
    "float_type": "number",
    "bool_type": "boolean",
    "list_type": "array",
    "dict_type": "object",
}


def nouns(types: frozenset[str]) -> str:
    """JSON Schema types in words: "a text or a number"."""
    shown = types - ({"integer"} if "number" in types else set())
    return " or ".join(noun for kind, noun in _NOUNS.items() if kind in shown)
