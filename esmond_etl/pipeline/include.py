"""The text of a pipeline file and of the files that it includes, and the position of each key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from esmond_etl.pipeline import positions as toml
from esmond_etl.pipeline.problems import Mistake, Problem, json_types, nouns, where

#: Keys that an included file must not have: each belongs to one pipeline.
_OWN: Final = ("name", "include")


class Texts:
    """Reads a pipeline file and its included files, and merges their tables: later files override earlier ones, the pipeline file all."""

    def __init__(self, file: str, known: Mapping[str, str] | None = None) -> None:
        """`known` are the texts of files that need not be read."""
        self.file = file
        self.known = dict(known or {})  #: file -> text
        self.problems: list[Problem] = []
        self._origins: dict[toml.Path, str] = {}

    def read(self) -> dict[str, Any] | None:
        """The merged content of all files; None, and a problem, if one of them cannot be read."""
        own = self._parsed(self.file, self.file, (1, 1))
        if own is None:
            return None
        files = self._included(own)
        parts = [(file, self._parsed(str(self._folder / file), file, self._place(("include", index)))) for index, file in files]
        if self.problems:
            return None
        together: dict[str, Any] = {}
        for file, part in parts:
            self._check(str(self._folder / file), part or {})
            self._overlay(together, part or {}, str(self._folder / file), ())
        self._overlay(together, own, self.file, ())
        return together if not self.problems else None

    @property
    def _folder(self) -> Path:
        return Path(self.file).parent

    def _included(self, own: dict[str, Any]) -> list[tuple[int, str]]:
        """The files that the pipeline file includes, each with its place in the list."""
        found = own.pop("include", [])
        if not isinstance(found, list):
            self._wrong(self.file, ("include",), f"must be a list of files, not {nouns(json_types(found))}", "write it in brackets")
            return []
        for index, each in enumerate(found):
            if not isinstance(each, str) or not each:
                self._wrong(self.file, ("include", index), "is not the name of a file")
        return [(index, each) for index, each in enumerate(found) if isinstance(each, str)]

    def _check(self, file: str, part: dict[str, Any]) -> None:
        for name in _OWN:
            if name in part:
                self._wrong(file, (name,), "belongs in the pipeline file, not in one that is included")

    def _wrong(self, file: str, path: toml.Path, what: str, hint: str = "") -> None:
        self.problems.append(Problem(file, self._located(file, path), where(path), what, hint))

    def _place(self, path: toml.Path) -> toml.Position:
        return self._located(self.file, path)

    def _located(self, file: str, path: toml.Path) -> toml.Position:
        return toml.locate(toml.positions(self.known[file]), path)

    def _overlay(self, base: dict[str, Any], data: Mapping[str, Any], file: str, path: toml.Path) -> None:
        """Write `data`, of `file`, over `base`: tables key by key, lists as a whole; a stage of another type replaces the stage."""
        for key, value in data.items():
            below, place = base.get(key), (*path, key)
            if not isinstance(value, dict):
                base[key] = value
            elif not isinstance(below, dict) or below.get("type") != value.get("type", below.get("type")):
                base[key] = {}
            if not isinstance(value, dict) or not base[key]:
                self._origins = {each: of for each, of in self._origins.items() if each[: len(place)] != place}
            self._origins[place] = file
            if isinstance(value, dict):
                self._overlay(base[key], value, file, place)

    def origin(self, path: toml.Path) -> str:
        """The file that contains the key at `path`."""
        while path and path not in self._origins:
            path = path[:-1]
        return self._origins.get(path, self.file)

    def folder(self, path: toml.Path) -> Path:
        """Where relative paths in the key at `path` start: the folder of its file."""
        return Path(self.origin(path)).absolute().parent

    def placed(self, mistakes: list[Mistake]) -> list[Problem]:
        """The mistakes with the positions of their keys, in this order; the pipeline file's first."""
        found: dict[str, dict[toml.Path, toml.Position]] = {}
        problems = []
        for path, what, hint, warning in mistakes:
            file = self.origin(path)
            if file not in found:
                found[file] = toml.positions(self.known[file])
            problems.append(Problem(file, toml.locate(found[file], path), where(path), what, hint, warning))
        return sorted(dict.fromkeys(problems), key=lambda each: (each.file != self.file, each.file, each.position, each.warning))

    def _parsed(self, file: str, name: str, asked_at: toml.Position) -> dict[str, Any] | None:
        """The content of a file; a problem if it cannot be read: at `asked_at` in the pipeline file, if that names it."""
        try:
            if file not in self.known:
                self.known[file] = Path(file).read_text(encoding="utf-8")
            return tomllib.loads(self.known[file])
        except OSError as error:
            is_own = file == self.file
            what = f"cannot be read: {error.strerror}" if is_own else f"{name!r} cannot be read: {error.strerror}"
            self.problems.append(Problem(self.file, asked_at, "" if is_own else "include", what))
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode()
            position = (before.count("\n") + 1, len(before) - before.rfind("\n"))
            self.problems.append(Problem(file, position, "", f"is not UTF-8: {error.reason}"))
        except tomllib.TOMLDecodeError as error:
            self.problems.append(_syntax(file, self.known[file], str(error)))
        except ValueError:
            self.problems.append(_endless_number(file, self.known[file]))
        return None


def _syntax(file: str, text: str, message: str) -> Problem:
    found = re.search(r"\(at (?:line (\d+), column (\d+)|end of document)\)", message)
    lines = text.split("\n")
    position = (len(lines), len(lines[-1]) + 1)
    if found and found[1]:
        position = (int(found[1]), int(found[2]))
    what = re.sub(r" \(at .*\)$", "", message)
    return Problem(file, position, "", f"not TOML: {what[0].lower()}{what[1:]}")


def _endless_number(file: str, text: str) -> Problem:
    """A number with more digits than Python accepts; the TOML reader does not say where it is."""
    found = re.search(r"\d[\d_]{1000,}", text)
    before = text[: found.start() if found else 0]
    position = (before.count("\n") + 1, len(before) - before.rfind("\n"))
    return Problem(file, position, "", "not TOML: a number has too many digits")
