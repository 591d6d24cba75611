"""What is wrong with a pipeline file, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

from esmond_etl.toml_positions import Path, Position


class Mistake(NamedTuple):
    """Something wrong at a place of a pipeline file, named by its keys."""

    path: Path
    what: str
    hint: str = ""  #: what to do
    warning: bool = False


@dataclass(frozen=True)
class Problem:
    """One mistake in a pipeline file, found in its text."""

    file: str
    position: Position
    where: str  #: in the user's own keys, as "sink[0].url"
    what: str
    hint: str = ""  #: what to do
    warning: bool = False

    def __str__(self) -> str:
        line, column = self.position
        where = f"{self.where}: " if self.where else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.file}:{line}:{column}: {'warning: ' if self.warning else ''}{where}{self.what}{hint}"

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
        yield f"[{part}]" if isinstance(part, int) else f".{part}" if index else part


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint "did you mean ...?" if a known name is much like `name`, else "known: ..."."""
    names = sorted(known)
    close = get_close_matches(name, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
